"""What leaves the app as an adapter opens with the tools that others use, and holds nothing of its owner."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from sft_app.errors import ExportError
from sft_app.export.adapter import adapter_files, zip_adapter
from sft_app.runs.folder import Run
from sft_app.runtime.files import append_jsonl, write_json_atomically
from sft_app.settings import parse_settings
from tests.export.run_folders import finish, whole_card, whole_values
from tests.export.run_folders import make_run as make_folder

ADAPTER = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "settings.json",
    "scorecard.json",
}
SECRET = "Mrs Miller's address"


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Any:
    """A run of the tiny model with a scorecard that quotes its data."""
    made = request.getfixturevalue("make_run")(name="Tiny", watch_prompts=["Where is it?"])
    row = {"row": 1, "messages": [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]}
    changed = {"improved": [{**row, "answers": ["a", "b"]}], "damaged": []}
    made.run.keep_scorecard(whole_card(most_changed=changed))
    made.run.log_file.write_text(SECRET)
    append_jsonl(made.run.pairs_file, {"prompt": SECRET, "base": "a", "tuned": "b", "reference": ""})
    return made


def unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder / path.stem


def test_the_zip_has_all_that_belongs_to_an_adapter_and_nothing_else(made: Any, tmp_path: Path) -> None:
    path = zip_adapter(made.run, tmp_path / "new")
    assert path.name == f"{made.run.id}-adapter.zip"
    assert list((tmp_path / "new").iterdir()) == [path]
    folder = unpacked(path, tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == ADAPTER


def test_nothing_of_data_logs_or_this_machine_is_in_it(made: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = unpacked(zip_adapter(made.run, tmp_path), tmp_path / "out")
    for file in folder.iterdir():
        content = file.read_bytes()
        for private in (SECRET, str(made.home), str(tiny_model_dir), str(Path.home())):
            assert private.encode() not in content, (file.name, private)


def test_the_zip_opens_with_safetensors_and_plain_peft(made: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = unpacked(zip_adapter(made.run, tmp_path), tmp_path / "out")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    saved = load_file(made.run.adapter_dir / "adapter_model.safetensors")
    packed = load_file(folder / "adapter_model.safetensors")
    assert saved.keys() == packed.keys() and all(torch.equal(saved[name], packed[name]) for name in saved)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    before = base(**asked).logits
    assert not torch.equal(PeftModel.from_pretrained(base, str(folder))(**asked).logits, before)


def test_its_card_and_settings_can_be_used(made: Any, tmp_path: Path) -> None:
    folder = unpacked(zip_adapter(made.run, tmp_path), tmp_path / "out")
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-generation")
    assert f'"{made.run.id}-adapter")' in card.text  # the folder that the zip unpacks to
    settings = parse_settings(json.loads((folder / "settings.json").read_text()))
    assert (settings.name, settings.data, settings.model) == ("Tiny", "data.jsonl", "tiny")
    assert json.loads((folder / "scorecard.json").read_text()) == whole_values()


def test_a_full_fine_tune_is_a_model(make_run: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = make_run(method="full")
    path = zip_adapter(made.run, tmp_path)
    assert path.name == f"{made.run.id}-model.zip"
    folder = unpacked(path, tmp_path / "out")
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {f.name for f in folder.iterdir()}
    assert ModelCard.load(folder / "README.md").data.library_name == "transformers"
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 0


def test_a_folder_named_in_a_config_becomes_the_public_name(home: Path) -> None:
    run = make_folder(home)
    finish(run)
    config = {"base_model_name_or_path": "/home/ann/models/secret", "r": 4, "_name_or_path": None}
    write_json_atomically(run.adapter_dir / "adapter_config.json", config)
    (run.adapter_dir / "training_args.bin").write_bytes(b"x")
    (run.adapter_dir / "README.md").write_text("PEFT's own")
    files = adapter_files(run, "ann/voice")
    assert set(files) == {"adapter_config.json", "README.md", "settings.json"}
    assert json.loads(files["adapter_config.json"]) == {  # type: ignore[arg-type]
        "base_model_name_or_path": "org/model",
        "r": 4,
        "_name_or_path": None,
    }


def test_a_run_without_an_adapter_has_nothing_to_pack(home: Path, tmp_path: Path) -> None:
    run: Run = make_folder(home)
    with pytest.raises(ExportError, match=f"Run {run.id} has no adapter to download."):
        zip_adapter(run, tmp_path)


def test_a_folder_that_cannot_be_written_is_told(made: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="could not be zipped"):
        zip_adapter(made.run, tmp_path / "file" / "below")

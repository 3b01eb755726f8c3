"""Merging by the real process: the model on disk gives the adapter's logits, is checked, and appears whole or not."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from huggingface_hub import ModelCard

from sft_app.errors import ExportError
from sft_app.evaluation.scorecard import RowScore
from sft_app.export import merged as merging_module
from sft_app.export.fidelity import (
    FIDELITY_FILE,
    Fidelity,
    fidelity_sentence,
    is_warning,
    read_fidelity,
    write_fidelity,
)
from sft_app.export.fidelity_check import (
    SideResults,
    _refuse_without_memory,
    check_fidelity,
    compare_sides,
    shared_beginning,
)
from sft_app.export.merged import Step, check_room, find_merged, follow, merge_steps, merged_size_gib, saved_ns
from sft_app.inference.generation import Answer
from sft_app.models.hardware import detect_hardware
from sft_app.runs.folder import Run
from sft_app.runtime import resources
from tests.made_runs import make_run, randomise_adapter  # noqa: F401
from tests.waiting import started_by, wait_until

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.tensor([[1, 20, 30, 40, 50, 2]])


def small_effect(model: Any) -> Any:
    """As strong as a trained adapter is: a few hundredths of the weights."""
    return randomise_adapter(model, scale=0.05)


@pytest.fixture(scope="module")
def made(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    """A run with an adapter, merged once; not to be changed."""
    found = make_run(small_effect, method="lora", max_new_tokens=4)
    folder = tmp_path_factory.mktemp("out") / "model"
    steps: list[Step] = []
    found.result, found.steps = merge_run(found.run, folder, steps.append, prompts=1), steps
    return found


def merge_run(run: Run, folder: Path, on_progress: Callable[[Step], None] = lambda step: None, **options: Any) -> Any:
    return follow(merge_steps(run, folder, **options), on_progress)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


def adapted_logits(made: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """By plain PEFT on a base in full precision."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(made.ref.location, dtype=torch.bfloat16).to(dtype)
    return logits_of(PeftModel.from_pretrained(base, str(made.run.adapter_dir)).eval())


def merged_logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    return logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval())


def untouched_logits(made: Any) -> torch.Tensor:
    return merged_logits(Path(made.ref.location))


def assert_same_but_for_rounding(made: Any, folder: Path) -> None:
    """bfloat16 keeps 8 bits, so each weight is off by at most 1/256 of itself and a logit, the sum of many such, by
    about a hundredth of how large logits are; the adapter's effect is more than ten times that."""
    wanted, found = adapted_logits(made), merged_logits(folder)
    error, effect = (found - wanted).abs().max(), (untouched_logits(made) - wanted).abs().max()
    assert error < 0.02 * wanted.abs().max()
    assert effect > 5 * error


def test_the_merged_model_gives_the_adapters_logits(made: Any) -> None:
    assert_same_but_for_rounding(made, made.result.folder)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True}, {"method": "qlora"}])
def test_other_adapters_merge_into_a_base_of_16_bits(
    make_run: Callable[..., Any],  # noqa: F811
    tmp_path: Path,
    settings: dict[str, Any],
) -> None:
    made = make_run(small_effect, **{"method": "lora", "max_new_tokens": 2, **settings})
    found = merge_run(made.run, tmp_path / "model", prompts=1)
    assert_same_but_for_rounding(made, found.folder)
    assert not found.fidelity.unchecked, found.fidelity.unchecked
    assert found.fidelity.is_in_4bit == (settings.get("method") == "qlora")


def test_weights_are_bfloat16_safetensors_of_the_bases_names(made: Any) -> None:
    from safetensors import safe_open

    with (
        safe_open(made.result.folder / "model.safetensors", framework="pt") as found,
        safe_open(Path(made.ref.location) / "model.safetensors", framework="pt") as base,
    ):
        assert set(found.keys()) == set(base.keys())
        assert {found.get_tensor(name).dtype for name in found.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_tokenizer_template_and_stop_tokens_come_along(made: Any) -> None:
    from transformers import AutoTokenizer

    folder, asked = made.result.folder, [{"role": "user", "content": "Hi"}]
    found, base = (AutoTokenizer.from_pretrained(place) for place in (folder, made.ref.location))
    assert found.apply_chat_template(asked) == base.apply_chat_template(asked)
    assert json.loads((folder / "generation_config.json").read_bytes())["eos_token_id"] == 2


def test_nothing_of_this_machine_is_written(made: Any) -> None:
    texts = [file for file in made.result.folder.iterdir() if file.suffix in (".json", ".jinja", ".md")]
    assert len(texts) >= 7
    for file in texts:
        text = file.read_text(encoding="utf-8")
        assert str(made.home) not in text and made.ref.location not in text, file.name
    assert json.loads((made.result.folder / "config.json").read_bytes()).get("_name_or_path") is None


def test_its_card_says_how_to_load_it_and_what_the_check_found(made: Any) -> None:
    card = ModelCard.load(made.result.folder / "README.md")
    assert card.data.library_name == "transformers" and card.data.base_model is None  # it was a folder
    assert 'AutoModelForCausalLM.from_pretrained("model")' in card.text  # the folder's name
    assert fidelity_sentence(made.result.fidelity) in card.text.replace("\n", " ")
    assert json.loads((made.result.folder / "settings.json").read_bytes())["method"] == "lora"


def test_progress_grows_to_the_end_and_nothing_is_left_beside(made: Any) -> None:
    shares = [step.share for step in made.steps]
    assert shares == sorted(shares) and len(set(shares)) > 2
    assert [path.name for path in made.result.folder.parent.iterdir()] == ["model"]


def test_fidelity_is_written_and_says_that_all_is_well(made: Any) -> None:
    found = read_fidelity(made.result.folder)
    assert found == made.result.fidelity and found.adapter_ns == saved_ns(made.run)
    assert (found.run, found.conversations, found.prompts) == (made.run.id, 1, 1)
    assert not is_warning(found)
    assert "predicts the held-out answers as well as the base model with the adapter" in fidelity_sentence(found)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight"])
def test_damaged_weights_are_noticed(made: Any, tmp_path: Path, name: str) -> None:
    """A tensor that is twenty times too large makes a model sure of what is wrong."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(made.result.folder, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights[name] = weights[name] * 20
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    found = check_fidelity(made.run, tmp_path / "model", 1, lambda share: None)
    assert is_warning(found)
    assert "worse than the base model with the adapter" in fidelity_sentence(found)
    assert found.largest_change > 100 * made.result.fidelity.largest_change


KNOWN = Fidelity("run", reference_loss=2.0, merged_loss=2.0003, prompts=8, equal_answers=6, shared_beginning=0.9)


@pytest.mark.parametrize(
    ("fidelity", "warns", "told"),
    [
        (KNOWN, False, "6 of 8 greedy answers are identical word for word; on average they agree for the first 90%"),
        (replace(KNOWN, equal_answers=8), False, "8 of 8 greedy answers are identical word for word."),
        (replace(KNOWN, merged_loss=2.01), True, "loss 2.0100 vs. 2.0000, +0.0100, more than the 0.005"),
        (
            replace(KNOWN, merged_loss=2.01, is_in_4bit=True),
            False,
            "Unlike the base model in training and in Compare, the merged model is not rounded to 4 bits",
        ),
        (replace(KNOWN, merged_loss=2.06, is_in_4bit=True), True, "more than the 0.05"),
        (
            replace(KNOWN, merged_loss=1.9),
            True,
            "differently from the base model with the adapter: loss 1.9000 vs. 2.0000, -0.1000",
        ),
        (replace(KNOWN, merged_loss=1.9, is_in_4bit=True), False, "loss 1.9000 vs. 2.0000, -0.1000"),
        (replace(KNOWN, merged_loss=math.nan), True, "differently from"),
        (replace(KNOWN, merged_loss=math.nan, is_in_4bit=True), True, "differently from"),
        (
            Fidelity("run", unchecked="No room."),
            True,
            "could not check whether it answers like the base model with the adapter. No room.",
        ),
        (Fidelity("run", is_copy=True), False, "copied unchanged"),
    ],
)
def test_what_the_numbers_mean(fidelity: Fidelity, warns: bool, told: str) -> None:
    assert is_warning(fidelity) == warns
    assert told in fidelity_sentence(fidelity)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [([1, 2], [1, 2], 1.0), ([1, 2, 3, 4], [1, 2], 0.5), ([1, 2], [3, 2], 0.0), ([], [], 1.0), ([], [1], 0.0)],
)
def test_shared_beginning(one: list[int], other: list[int], share: float) -> None:
    assert shared_beginning(one, other) == share


def test_a_full_fine_tune_is_copied_as_it_is(make_run: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    made = make_run(lambda model: model, method="full")
    found = merge_run(made.run, tmp_path / "model")
    assert found.fidelity.is_copy
    saved = (made.run.adapter_dir / "model.safetensors").read_bytes()
    assert (found.folder / "model.safetensors").read_bytes() == saved
    assert torch.equal(merged_logits(found.folder), merged_logits(made.run.adapter_dir))


def test_an_earlier_merge_is_found_until_the_run_learns_more(made: Any, tmp_path: Path) -> None:
    assert find_merged(made.run, made.result.folder) == made.result
    assert find_merged(made.run, tmp_path) is None
    weights = made.run.adapter_dir / "adapter_model.safetensors"
    saved = weights.stat().st_mtime_ns
    os.utime(weights, ns=(saved + 1, saved + 1))
    assert find_merged(made.run, made.result.folder) is None
    os.utime(weights, ns=(saved, saved))


# What goes wrong


class EnoughError(Exception):
    pass


def workers() -> list[psutil.Process]:
    return started_by(os.getpid(), "sft_app.export.merge_worker")


@pytest.mark.parametrize("at", ["Starting", "Merging", "Checking that it answers the same"])
def test_an_interrupted_merge_leaves_nothing_half(made: Any, tmp_path: Path, at: str) -> None:
    shutil.copytree(made.result.folder, tmp_path / "model")
    before = sorted((file.name, file.stat().st_mtime_ns) for file in (tmp_path / "model").iterdir())

    def stop(step: Step) -> None:
        if step.what == at or step.share > 0.3:
            raise EnoughError

    with pytest.raises(EnoughError):
        merge_run(made.run, tmp_path / "model", stop)
    assert workers() == []
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted((file.name, file.stat().st_mtime_ns) for file in (tmp_path / "model").iterdir()) == before


def test_a_closed_generator_ends_the_process(made: Any, tmp_path: Path) -> None:
    steps = merge_steps(made.run, tmp_path / "model")
    next(steps)
    assert len(workers()) == 1
    steps.close()
    assert workers() == [] and list(tmp_path.iterdir()) == []


def test_a_killed_process_is_told_and_leaves_nothing(made: Any, tmp_path: Path) -> None:
    def kill(step: Step) -> None:
        for worker in workers():
            worker.send_signal(signal.SIGKILL)

    with pytest.raises(ExportError, match=r"ended early. It was killed \(signal 9\)"):
        merge_run(made.run, tmp_path / "model", kill)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("plain_processes")
def test_the_process_ends_with_its_parent_and_clears_up(made: Any, tmp_path: Path) -> None:
    """Its parent is said to be another than the one that it has."""
    import subprocess
    import sys

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "sft_app.export.merge_worker", str(made.run.path), str(scratch), "1", "1"]
    process = subprocess.Popen(command)
    assert process.wait(60) == 1
    wait_until(lambda: not scratch.exists())


def test_what_another_process_left_is_cleared_away(made: Any, tmp_path: Path) -> None:
    left, alive = tmp_path / ".model-merging-99999999-aaaa", tmp_path / f".model-merging-{os.getpid()}-bbbb"
    left.mkdir(), alive.mkdir()
    merging_module._make_scratch(tmp_path / "model").rmdir()
    assert not left.exists() and alive.exists()


def test_an_adapter_that_does_not_fit_is_told_in_a_sentence(make_run: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    made = make_run(small_effect, method="lora")
    config = made.run.adapter_dir / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 16', '"r": 8'))
    with pytest.raises(ExportError, match="could not be merged. The adapter does not fit this base model") as caught:
        merge_run(made.run, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_has_no_room_says_so(made: Any) -> None:
    """The GPU on which the run was compared in 4 bits need not have room for the merged model."""
    gpu = replace(detect_hardware(), device="cuda", memory_free_gib=0.0)
    with pytest.raises(ExportError, match=r"needs 0\.0 GiB of the GPU's memory in bfloat16, but only 0\.0 GiB is free"):
        _refuse_without_memory(made.result.folder, gpu, "bfloat16")


def test_too_little_disk_is_refused_with_numbers(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10 * 2**20)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(ExportError, match=r"needs 0\.1 GiB of disk space, but only 0\.0 GiB is free at"):
        check_room(made.run, tmp_path / "not" / "there")


def test_too_little_memory_is_refused_with_numbers(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging_module, "free_memory_gib", lambda device: 0.25)
    with pytest.raises(ExportError, match=r"Merging needs 0\.6 GiB of memory, but only 0\.2 GiB is free"):
        merge_run(made.run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_size_is_two_bytes_for_each_weight(made: Any) -> None:
    from safetensors.torch import load_file

    weights = load_file(Path(made.ref.location) / "model.safetensors")
    assert merged_size_gib(made.run) * 2**30 == 2 * sum(weight.numel() for weight in weights.values())


def test_a_folder_with_something_else_is_left_alone(made: Any, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("Dear diary")
    with pytest.raises(ExportError, match="already exists and is not a merged model"):
        merge_run(made.run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_run_without_an_adapter_has_nothing_to_merge(made: Any, tmp_path: Path) -> None:
    shutil.copytree(made.run.path, tmp_path / "run", ignore=shutil.ignore_patterns("adapter"))
    with pytest.raises(ExportError, match="has not saved anything to merge yet"):
        merge_run(Run(tmp_path / "run"), tmp_path / "model")


def test_a_quantised_base_is_refused(make_run: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    """A base whose own files say that they are quantised."""
    made = make_run(small_effect, method="lora")
    other = tmp_path / "base"
    shutil.copytree(made.ref.location, other)
    config = json.loads((other / "config.json").read_bytes())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (other / "config.json").write_text(json.dumps(config))
    settings = made.run.path / "settings.json"
    settings.write_text(settings.read_text().replace(made.ref.location, str(other)))
    with pytest.raises(ExportError, match="is stored quantised"):
        merge_run(made.run, tmp_path / "model")


def test_a_fidelity_file_of_another_kind_is_no_merged_model(tmp_path: Path) -> None:
    (tmp_path / FIDELITY_FILE).write_text("[1]")
    assert read_fidelity(tmp_path) is None


@pytest.mark.parametrize(("reference", "told"), [(4.0, "its loss is not a number"), (math.nan, "cannot be judged")])
def test_a_merged_model_without_a_loss_is_warned_of(tmp_path: Path, reference: float, told: str) -> None:
    """Also when it is read back, where JSON has no word for NaN."""
    found = Fidelity("run", reference_loss=reference, merged_loss=math.nan, largest_change=math.nan, conversations=3)
    write_fidelity(found, tmp_path)
    json.loads((tmp_path / FIDELITY_FILE).read_text(), parse_constant=lambda word: pytest.fail(word))
    for fidelity in (found, read_fidelity(tmp_path)):
        assert fidelity is not None and is_warning(fidelity)
        sentence = fidelity_sentence(fidelity)
        assert told in sentence and "nan" not in sentence


def test_answers_that_broke_off_are_not_equal_ones() -> None:
    score, broken = RowScore(4.0, 2, 1), Answer(broken=True)
    sides = [SideResults([score] * 2, [Answer("Hi", 1, ids=(5,)), broken])] * 2
    found = compare_sides(KNOWN, *sides)
    assert (found.prompts, found.equal_answers, found.shared_beginning) == (2, 1, 0.5)


def test_a_taught_chat_template_goes_into_the_model_and_its_modelfile(
    make_run: Callable[..., Any],  # noqa: F811
    base_model_dir: Path,
    tmp_path: Path,
) -> None:
    from transformers import AutoTokenizer

    from sft_app.export.ollama import write_modelfile

    made = make_run(small_effect, model=str(base_model_dir), chat_template="chatml", max_new_tokens=4)
    merge_run(made.run, tmp_path / "model", prompts=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (tokenizer.eos_token, "<|im_start|>" in tokenizer.chat_template) == ("<|im_end|>", True)
    stops = json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|pad|>"])) <= set(stops)
    modelfile = write_modelfile(made.run, tmp_path / "model").modelfile.read_text()
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert "<|im_start|>user\n{{ .Content }}<|im_end|>" in modelfile


@pytest.mark.parametrize("enable_thinking", [False, True])
def test_ollama_asks_as_the_run_was_trained_to_think(
    make_run: Callable[..., Any],  # noqa: F811
    enable_thinking: bool,
) -> None:
    from sft_app.export.model_card import model_card
    from sft_app.export.ollama import write_modelfile
    from tests.chat_styles import THINKING

    made = make_run(small_effect, chat_template=THINKING, enable_thinking=enable_thinking)
    modelfile = write_modelfile(made.run, made.run.adapter_dir).modelfile.read_text()
    assert "TEMPLATE" in modelfile
    assert ("<|im_start|>assistant\n<think>\n\n</think>" in modelfile) is not enable_thinking
    assert f"enable_thinking={enable_thinking}, " in model_card(made.run, "voice")

"""What can be compared, by what name, and which two sides one base model answers for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import ModelError, RunError
from sft_app.inference.sides import BASE, find_sides, list_sides, side_settings
from sft_app.runs.directory import list_runs
from sft_app.settings import EXAMPLE_ADAPTER, RunSettings

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def made(make_run: Make) -> Any:
    """A run with an adapter and two checkpoints, of which one is not whole."""
    made = make_run(dtype="float32", name="shop")
    for step in (4, 8):
        folder = made.run.checkpoints_dir / f"checkpoint-{step}"
        shutil.copytree(made.run.adapter_dir, folder)
        (folder / "trainer_state.json").write_text("{}")
    return made


@pytest.fixture
def whole(made: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Which of the checkpoints are complete is another module's to say; here it is the first."""
    kept = [made.run.checkpoints_dir / "checkpoint-4"]
    monkeypatch.setattr("sft_app.inference.sides.complete_checkpoints", lambda folder: kept)
    return made


def edit_config(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.fixture
def elsewhere(made: Any, tmp_path: Path) -> Path:
    """The run's adapter as a folder of its own."""
    return Path(shutil.copytree(made.run.adapter_dir, tmp_path / "adapter"))


def test_base_stands_first_and_checkpoints_under_their_run(whole: Any) -> None:
    assert list_sides(list_runs(whole.home)) == [
        ("Base model", BASE),
        (f"shop · {whole.run.id}", whole.run.id),
        (f"shop · {whole.run.id}, step 4", f"{whole.run.id}/checkpoint-4"),
        ("Bundled example: customer service", EXAMPLE_ADAPTER),
    ]


def test_the_bundled_adapter_stands_on_the_starter(home: Path) -> None:
    base, side = find_sides(BASE, EXAMPLE_ADAPTER, home)
    assert (base.base.name, side.label) == ("starter", "Bundled example")
    assert side_settings(side, home) == RunSettings()
    assert (side.folder / "adapter_model.safetensors").stat().st_size < 3_000_000


def test_every_listed_side_is_found_by_its_name(whole: Any) -> None:
    for _, name in list_sides(list_runs(whole.home))[1:-1]:
        base, side = find_sides(BASE, name, whole.home)
        assert (base.name, base.folder, side.name) == (BASE, None, name)
        assert base.base == side.base == whole.ref
        assert side_settings(side, whole.home) == whole.settings
    assert find_sides("latest", "", whole.home)[0].folder == whole.run.adapter_dir
    assert find_sides(f"{whole.run.id}/checkpoint-4", "base", whole.home)[0].label == "shop, step 4"


def test_checkpoint_that_is_not_there_is_told_with_those_that_are(whole: Any) -> None:
    with pytest.raises(RunError, match=r"has no checkpoint for step 8\. Saved checkpoints: 4\."):
        find_sides(BASE, f"{whole.run.id}/checkpoint-8", whole.home)


def test_two_bases_are_refused(made: Any) -> None:
    with pytest.raises(ModelError, match="Both sides are the base model"):
        find_sides("base", " ", made.home)


def test_adapter_of_a_folder_takes_the_base_of_the_other_side(made: Any, elsewhere: Path) -> None:
    left, right = find_sides(str(elsewhere), made.run.id, made.home)
    assert left.base == right.base == made.ref
    assert (left.label, left.folder) == ("adapter", elsewhere)


def test_an_adapter_for_another_revision_of_the_base_says_so(made: Any, elsewhere: Path) -> None:
    edit_config(elsewhere, revision="0123456789abcdef")
    left, right = find_sides(str(elsewhere), made.run.id, made.home)
    assert right.note == "" and left.note.startswith("adapter was made for revision 0123456789ab of ")
    assert left.note.endswith(", but is compared on a copy of unknown revision.")
    edit_config(elsewhere, revision="main")
    assert find_sides(str(elsewhere), made.run.id, made.home)[0].note == ""


def test_adapter_of_a_folder_beside_the_base_needs_a_base_that_is_found(made: Any, elsewhere: Path) -> None:
    with pytest.raises(ModelError, match="expected starter, a Hub id|is not on this machine|not a model folder"):
        find_sides(BASE, str(elsewhere), made.home)
    edit_config(elsewhere, base_model_name_or_path=made.ref.location)
    assert find_sides(BASE, str(elsewhere), made.home)[0].base.location == made.ref.location


def test_adapter_of_another_base_is_refused_with_both_names(made: Any, elsewhere: Path) -> None:
    edit_config(elsewhere, base_model_name_or_path="someone/other-model")
    with pytest.raises(ModelError, match=f"shop belongs to {made.ref.public_id} and adapter to someone/other-model"):
        find_sides(made.run.id, str(elsewhere), made.home)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, r"not a LoRA adapter that names its base model \(peft_type IA3"),
        ({"base_model_name_or_path": None}, "base None"),
    ],
)
def test_adapter_of_another_kind_is_refused(made: Any, elsewhere: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(elsewhere, **changes)
    with pytest.raises(ModelError, match=message):
        find_sides(made.run.id, str(elsewhere), made.home)


def test_folder_without_an_adapter_is_refused(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no adapter_config\.json, so it is not an adapter"):
        find_sides(made.run.id, str(tmp_path), made.home)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="not a LoRA adapter"):
        find_sides(made.run.id, str(tmp_path), made.home)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        find_sides(made.run.id, str(tmp_path), made.home)


@pytest.mark.parametrize("name", ["/no/such/folder", "a/b/c", "../x"])
def test_name_that_is_nothing_says_what_is_expected(made: Any, name: str) -> None:
    with pytest.raises(ModelError, match="is neither a folder on this machine nor a name on the Hub"):
        find_sides(BASE, name, made.home)


def test_run_that_is_not_there_is_told(made: Any) -> None:
    with pytest.raises(RunError, match="There is no run 'nothing'"):
        find_sides(BASE, "nothing", made.home)


def test_base_is_in_4_bits_where_one_side_was_trained_so(made: Any, make_run: Make) -> None:
    quantised = make_run(dtype="float32", method="qlora", home=made.home)
    left, right = find_sides(made.run.id, quantised.run.id, made.home)
    assert left.in_4bit and right.in_4bit
    assert not find_sides("base", made.run.id, made.home)[0].in_4bit

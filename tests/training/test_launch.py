"""From settings to a queued run: everything is checked before anything is written."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import AppError, DataError, ModelError, RunError
from sft_app.runs.directory import list_runs
from sft_app.runtime import resources
from sft_app.runtime.files import read_jsonl
from sft_app.settings import parse_settings, with_recipe
from sft_app.training import launch
from sft_app.training.launch import create_queued_run, resume_run, stop_run, submit_run
from sft_app.training.preflight import template_check


@pytest.fixture
def settings(tiny_model_dir: Path, data_file: Path) -> Any:
    return parse_settings({"model": str(tiny_model_dir), "data": str(data_file)})


@pytest.fixture
def no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stays in the queue: what is tested here is what was written, not what becomes of it."""
    monkeypatch.setattr(launch, "ensure_supervisor", lambda home: None)


def test_a_queued_run_holds_all_that_is_needed_to_repeat_it(settings: Any, home: Path, data_file: Path) -> None:
    run = create_queued_run(settings, home)
    record = run.record()
    assert record.settings == with_recipe(settings, 16, 64, "llama")
    assert (record.source.path, record.source.rows, record.source.rejected) == (str(data_file), 24, 0)
    assert len(record.source.sha256) == 64
    assert record.versions["trl"]
    train, heldout = read_jsonl(run.train_file), read_jsonl(run.heldout_file)
    assert (len(train), len(heldout)) == (16, 8)
    assert not [row for row in heldout if row in train]


def test_rows_that_the_settings_leave_out_are_not_counted_as_rejected(
    tiny_model_dir: Path, home: Path, tmp_path: Path
) -> None:
    """As `inspect` counts them."""
    data = tmp_path / "contests.jsonl"
    problems = [
        {"description": f"Print {n}.", "solutions": {"language": [3], "solution": [f"print({n})"]}} for n in range(9)
    ]
    problems += [
        {"description": "In C++.", "solutions": {"language": [2], "solution": ["int main;"]}},
        {"description": ""},
    ]
    data.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    settings = parse_settings({"model": str(tiny_model_dir), "data": str(data), "heldout_min": 1})
    source = create_queued_run(settings, home).record().source
    assert (source.rows, source.conversations, source.rejected) == (11, 9, 1)


def test_what_is_not_trained_on_is_kept_with_the_run(tiny_model_dir: Path, home: Path, tmp_path: Path) -> None:
    data = tmp_path / "tickets.jsonl"
    rows = [{"question": f"Where is {n}?", "answer": f"It is in box {n}.", "team": "North"} for n in range(9)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = parse_settings({"model": str(tiny_model_dir), "data": str(data), "heldout_min": 1})
    assert create_queued_run(settings, home).record().source.notes == ["Not used: `team`."]


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("rows_then", [20, 30])
def test_file_that_changes_while_it_is_read_is_told_and_leaves_no_run(
    settings: Any, home: Path, data_file: Path, rows_then: int, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = data_file.read_text().splitlines(keepends=True)
    really = launch.file_sha256

    sums: list[str] = []

    def sum_and_change(path: Path) -> str:
        """The first sum is before the rows are divided, the second after that and before they are written."""
        sums.append(really(path))
        if len(sums) == call:
            path.write_text("".join((lines * 2)[:rows_then]))
        return sums[-1]

    monkeypatch.setattr(launch, "file_sha256", sum_and_change)
    with pytest.raises(DataError, match=r"^examples\.jsonl changed while it was being read\. Try again\.$"):
        create_queued_run(settings, home)
    assert list_runs(home) == []


def test_the_same_seed_holds_out_the_same_conversations(settings: Any, home: Path) -> None:
    first, second = create_queued_run(settings, home), create_queued_run(settings, home)
    other = create_queued_run(settings.model_copy(update={"seed": 1}), home)
    assert read_jsonl(first.heldout_file) == read_jsonl(second.heldout_file)
    assert read_jsonl(first.heldout_file) != read_jsonl(other.heldout_file)


@pytest.mark.usefixtures("no_supervisor")
def test_a_second_click_is_not_a_second_run(settings: Any, home: Path) -> None:
    assert submit_run(settings, home) == submit_run(settings, home)
    assert len(list_runs(home)) == 1


@pytest.mark.usefixtures("no_supervisor")
def test_other_settings_are_another_run_behind_the_first(settings: Any, home: Path) -> None:
    first = submit_run(settings, home)
    second = submit_run(settings.model_copy(update={"seed": 1}), home)
    assert [run.id for run in list_runs(home)] == [second.id, first.id]
    assert {run.status().state for run in (first, second)} == {"queued"}


@pytest.mark.usefixtures("no_supervisor")
def test_a_broken_run_folder_does_not_keep_another_run_from_starting(settings: Any, home: Path) -> None:
    broken = create_queued_run(settings, home)
    (broken.path / "settings.json").unlink()
    assert submit_run(settings, home) != broken


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"data": "nowhere.jsonl"}, DataError, "There is no data file nowhere.jsonl"),
        ({"model": "no-such"}, ModelError, "expected starter, a Hub id"),
        ({"model": "nobody/nothing"}, ModelError, "cannot be fetched because HF_HUB_OFFLINE is set"),
        ({"heldout_min": 24, "heldout_max": 24}, DataError, "24 conversations are too few"),
    ],
)
def test_what_cannot_be_used_is_told_and_leaves_nothing(
    settings: Any, home: Path, changes: dict[str, Any], kind: type[AppError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        submit_run(settings.model_copy(update=changes), home)
    assert list_runs(home) == []


def test_a_full_disk_is_told_before_anything_is_written(
    settings: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 2**20, 2**20))
    with pytest.raises(RunError, match=r"The run needs 1\.0 GiB of disk space, but only 0\.0 GiB is free in "):
        submit_run(settings, home)
    assert list_runs(home) == []


def test_a_disk_too_small_for_all_checkpoints_is_told_by_how_much(
    settings: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each of the tiny model's 87,000 weights took 20,000 bytes in a checkpoint, of which there are four."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: usage(2**40, 0, 2**31))
    monkeypatch.setattr("sft_app.training.estimates.disk.BYTES_IN_CHECKPOINT", 20_000)
    small = settings.model_copy(update={"lora_r": 4})
    assert create_queued_run(small, home).status().state == "queued"
    full = settings.model_copy(update={"method": "full"})
    with pytest.raises(RunError, match=r"The run needs [4-9]\.\d GiB of disk space, but only 2\.0 GiB is free in "):
        create_queued_run(full, home)


def test_a_waiting_run_is_stopped_at_once_and_can_be_resumed(
    settings: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_queued_run(settings, home)
    stop_run(run)
    assert run.status().state == "stopped"
    with pytest.raises(RunError, match="is not running: it is stopped"):
        stop_run(run)
    monkeypatch.setattr(launch, "ensure_supervisor", lambda home: None)
    resume_run(run, home)
    assert run.status().state == "queued"
    assert not run.stop_is_requested()


def test_a_finished_run_cannot_be_resumed(settings: Any, home: Path) -> None:
    run = create_queued_run(settings, home)
    run.update_status(state="finished")
    with pytest.raises(RunError, match="only a stopped, failed or interrupted run"):
        resume_run(run, home)


@pytest.mark.parametrize(
    ("chat_template", "problem"),
    [
        ("", "^The model has no chat template: .* set chat_template to chatml"),
        ("{{ messages[0]['content'] }}", "changes the text of message 2"),
        ("{% for message in %}", "^The chat template is not valid Jinja"),
    ],
    ids=["none", "no answer", "syntax"],
)
def test_a_model_without_a_usable_chat_template_leaves_no_run(
    base_model_dir: Path, data_file: Path, home: Path, chat_template: str, problem: str
) -> None:
    settings = parse_settings({"model": str(base_model_dir), "data": str(data_file), "chat_template": chat_template})
    with pytest.raises(DataError, match=problem):
        create_queued_run(settings, home)
    assert list_runs(home) == []


def test_a_base_model_is_trained_with_chatml_or_on_plain_text(base_model_dir: Path, home: Path, tmp_path: Path) -> None:
    data, text = tmp_path / "chats.jsonl", tmp_path / "texts.txt"
    data.write_text('{"prompt": "Hi", "completion": "Yo"}\n' * 20)
    text.write_text("\n\n".join(f"Story {number}." for number in range(20)))
    for values in ({"data": str(data), "chat_template": "ChatML"}, {"data": str(text), "format": "text"}):
        run = create_queued_run(parse_settings({"model": str(base_model_dir), "heldout_min": 1, **values}), home)
        assert run.record().settings.chat_template == ("" if "format" in values else "chatml")


def test_a_models_own_template_that_rejects_a_plain_question_is_left_to_the_data(
    base_model_dir: Path, data_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a model on the Hub, which is not on this machine yet, so that it is loaded to check it."""
    refuse = DataError("The model's chat template rejects the conversation: A system message is needed.")

    def check(_: Any) -> None:
        raise refuse

    monkeypatch.setattr(template_check, "check_chat_template", check)
    assert create_queued_run(parse_settings({"model": str(base_model_dir), "data": str(data_file)}), home)

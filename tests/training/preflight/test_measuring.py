"""The dry run: a real process with the worker's own trainer, of which nothing is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.reading import load_data, open_data
from sft_app.errors import AppError, RunError
from sft_app.models.loading import load_tokenizer
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.children import start_python, wait_for
from sft_app.settings import parse_settings
from sft_app.training.preflight import dry_run as dry_run_process
from sft_app.training.preflight import measuring
from sft_app.training.preflight.fitting import look_ahead
from sft_app.training.preflight.measuring import DryRunOutOfMemory, measure_run
from sft_app.training.preflight.plan import Machine
from sft_app.training.termination import OUT_OF_MEMORY_EXIT
from sft_app.ui.context import PageContext
from sft_app.ui.train.preflight_views import preflight_card, preflight_notes
from tests.commands import Ended, assert_one_clear_line
from tests.waiting import started_by


@pytest.fixture
def measure(home: Path, tiny_model_dir: Path, data_file: Path) -> Callable[..., Any]:
    def run(tell: Any = None, **asked: Any) -> Any:
        values = {"model": str(tiny_model_dir), "data": str(data_file), "method": "lora", "heldout_min": 4}
        settings = parse_settings({**values, "per_device_train_batch_size": 2, **asked})
        examples = load_data(open_data(settings.reading(), home)).examples
        tokenizer = load_tokenizer(Machine(home).model(parse_settings(values)), home)
        return measure_run(settings, examples, measure_lengths(tokenizer, examples, None, 24), home, tell)

    return run


@pytest.mark.parametrize(
    "asked",
    [{"gradient_accumulation_steps": 8}, {"method": "full", "trainer": "classic", "gradient_accumulation_steps": 1}],
)
def test_dry_run_measures_the_longest_batch_and_leaves_nothing(
    measure: Callable[..., Any], home: Path, asked: dict[str, Any]
) -> None:
    told: list[float] = []
    found = measure(told.append, **asked)
    assert found.peak_gib > 0.2
    assert found.seconds_per_step > 0
    assert found.loss_spread > 0
    longest = len("SuserNWhere is order 10?ENSassistantNSoon!EN")  # S, E and N stand for start, end and newline
    rows = 2 * asked["gradient_accumulation_steps"]
    assert found.tokens_per_step == rows * longest
    assert told == sorted(told) and told[-1] == 1
    assert list_runs(home) == []
    assert list((home / "dry_runs").iterdir()) == []


def test_only_one_thing_at_a_time_has_the_machine(measure: Callable[..., Any], home: Path) -> None:
    with FileLock(home / "machine.lock"), pytest.raises(RunError, match="A run is in progress on this machine"):
        measure()


def test_dry_run_that_is_broken_off_leaves_no_process(measure: Callable[..., Any], home: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop(share: float) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        measure(stop)
    assert started_by(os.getpid(), "sft_app.training.preflight.dry_run") == []
    assert list((home / "dry_runs").iterdir()) == []


def test_why_a_dry_run_failed_is_told(measure: Callable[..., Any]) -> None:
    with pytest.raises(AppError, match="^The dry run failed. lora_target_modules 'nowhere'"):
        measure(lora_target_modules="nowhere")


# the command line

TOLD = {"steps", "tokens_per_step", "trainable", "memory", "memory_gib", "seconds", "disk_needed_gib", "suggestion"}


def dry_run(cli: Callable[..., Ended], model: Path, data: Path, *more: str) -> Ended:
    return cli("train", "--dry-run", "--model", model, "--data", data, "--set", "heldout_min=4", *more)


def test_command_line_looks_ahead_and_starts_nothing(
    cli: Callable[..., Ended], tiny_model_dir: Path, data_file: Path, home: Path
) -> None:
    told = dry_run(cli, tiny_model_dir, data_file, "--json").json
    assert told.keys() >= TOLD
    assert (told["steps"], told["conversations"], told["measured"], told["suggestion"]) == (25, 20, None, None)
    assert (told["replayed"], told["why_not_replayed"]) == (5, "")
    assert list_runs(home) == []


def test_command_line_measures_when_asked(
    cli: Callable[..., Ended], tiny_model_dir: Path, data_file: Path, home: Path
) -> None:
    told = dry_run(cli, tiny_model_dir, data_file, "--measure", "--json").json
    assert told["measured"]["peak_gib"] == pytest.approx(told["memory_gib"] - told["memory"]["margin"])
    assert list_runs(home) == []


def test_command_line_says_it_in_words(cli: Callable[..., Ended], tiny_model_dir: Path, data_file: Path) -> None:
    ended = dry_run(cli, tiny_model_dir, data_file)
    assert ended.status == 0, ended.err
    assert "steps: 25 × 4 conversations" in ended.out
    assert "replay: 5 general conversations next to your 20" in ended.out
    assert "GiB" in ended.out and "time: " in ended.out
    assert "With 4 held-out conversations, even the same change in all of them could be chance." in " ".join(
        ended.out.split()
    )


def test_command_line_suggests_what_fits(cli: Callable[..., Ended], tiny_model_dir: Path, data_file: Path) -> None:
    """512 rows of 100,000 tokens fit on no machine that runs the tests."""
    more = ("--trainer", "classic", "--method", "lora", "--set", "per_device_train_batch_size=512")
    ended = dry_run(cli, tiny_model_dir, data_file, *more, "--set", "block_size=100000")
    assert "does not fit" in ended.out and "per_device_train_batch_size=" in ended.out


def test_model_that_is_not_there_is_told(cli: Callable[..., Ended], data_file: Path, tmp_path: Path) -> None:
    assert_one_clear_line(dry_run(cli, tmp_path, data_file), "is not a model folder")


# a dry run that runs out of memory


def run_out(*_: Any, **__: Any) -> Any:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def test_dry_run_exits_with_the_status_of_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run_process, "measure", run_out)
    monkeypatch.setattr(dry_run_process.logging, "disable", lambda level: None)  # it would last for all later tests
    monkeypatch.setattr(dry_run_process, "end_with_parent", lambda *_: None)  # so would the thread that watches
    monkeypatch.setattr(Run, "record", lambda run: SimpleNamespace(settings=None))
    assert dry_run_process.main(str(tmp_path), str(os.getppid())) == OUT_OF_MEMORY_EXIT


def test_dry_run_that_runs_out_of_memory_raises_its_own_error(
    measure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_work", lambda *_: OUT_OF_MEMORY_EXIT)
    with pytest.raises(DryRunOutOfMemory):
        measure()


def test_dry_run_out_of_memory_answers_with_the_estimate_that_does_not_fit_and_a_change(
    tiny_model_dir: Path, data_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_work", lambda *_: OUT_OF_MEMORY_EXIT)
    monkeypatch.setattr("sft_app.models.hardware.free_memory_gib", lambda device: 8.0)
    values = {"model": str(tiny_model_dir), "data": str(data_file), "method": "lora", "heldout_min": 4}
    found, suggestion = look_ahead(parse_settings(values), home, with_measuring=True)
    assert found.measured is None and found.memory.total < found.memory_free_gib
    assert not found.fits_memory and not found.as_json()["fits_memory"]
    assert found.memory_gib == found.memory_free_gib
    assert suggestion is not None and suggestion.changes["per_device_train_batch_size"] < 4
    assert preflight_notes(found, suggestion)[0] == "The run does not fit: the dry run ran out of memory."
    assert "ran out of memory" in preflight_card(found, suggestion)


def test_page_keeps_that_a_dry_run_ran_out_of_memory(
    tiny_model_dir: Path, data_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "measure_run", out_of_memory)
    service = PageContext(home).preflight
    settings = parse_settings({"model": str(tiny_model_dir), "data": str(data_file), "method": "lora"})
    assert service.estimate(settings)[0].fits_memory
    service.measure(settings, lambda share: None)
    assert service.is_measured(settings)
    assert not service.estimate(settings)[0].fits_memory


def out_of_memory(*_: Any, **__: Any) -> Any:
    raise DryRunOutOfMemory("")


def test_dry_run_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """Its parent is this process; the one it is told to watch has ended."""
    run = tmp_path / "run"
    run.mkdir()
    arguments = ["-m", "sft_app.training.preflight.dry_run", str(run), str(2**22 + 1)]
    child = start_python(arguments, tmp_path / "log")
    assert wait_for(child, 60) == 1
    assert not run.exists()

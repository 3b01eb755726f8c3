"""The automatic `max_length` of a run: the page's number, written into the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.reading import open_data
from sft_app.models.catalog import recorded_model
from sft_app.models.loading import load_tokenizer
from sft_app.runs import Run
from sft_app.training.max_length import settle_max_length


def rows(lengths: list[int]) -> str:
    return "".join(json.dumps({"prompt": f"q{n}", "completion": "x" * size}) + "\n" for n, size in enumerate(lengths))


@pytest.mark.parametrize("longest", [20, 200, 3000])
def test_run_takes_what_the_check_up_told(make_run: Callable[..., Run], home: Path, longest: int) -> None:
    """The tiny model's context is 512."""
    run = make_run(max_length=None)
    settings = run.record().settings.model_copy(update={"data": str(home / "other.jsonl")})
    Path(settings.data).write_text(rows([5] * 20 + [longest]))
    from sft_app.training.launch import create_queued_run

    other = create_queued_run(settings, home)
    tokenizer = load_tokenizer(recorded_model(other), home)
    told = inspect_data(open_data(settings.reading(), home), settings, tokenizer).lengths
    assert told is not None
    assert settle_max_length(other, tokenizer) == told.max_length
    assert other.record().settings.max_length == told.max_length == {20: 64, 200: 256, 3000: 512}[longest]


def test_length_that_was_asked_for_stays(make_run: Callable[..., Run], tokenizer: Any) -> None:
    run = make_run(max_length=100)
    before = (run.path / "settings.json").read_bytes()
    assert settle_max_length(run, tokenizer) == 100
    assert (run.path / "settings.json").read_bytes() == before


def test_worked_out_length_stands_in_the_settings_after_the_run(
    make_run: Callable[..., Run], work: Callable[..., int]
) -> None:
    run = make_run(max_length=None)
    assert work(run) == 0
    assert run.status().state == "finished", run.status()
    assert run.record().settings.max_length == 64

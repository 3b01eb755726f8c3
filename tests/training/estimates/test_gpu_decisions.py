"""The decisions for well-known cards, as a table that someone has judged line by line."""

from __future__ import annotations

from pathlib import Path

from tests.training.estimates.gpu_decisions import table

JUDGED = Path(__file__).with_name("gpu_decisions.txt")


def test_decisions_are_those_that_were_judged() -> None:
    """After a change that is meant, write the new table with `python -m tests.training.estimates.gpu_decisions`."""
    assert list(table()) == JUDGED.read_text().splitlines()

"""Read answers that were recorded elsewhere, for example by a hosted model, as a side of its own. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sft_app.errors import DataError
from sft_app.evaluation.prompt_sets import read_prompt_table
from sft_app.evaluation.sides.more_sides import RecordedSide, prompt_key

ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
ANSWER_COLUMNS = ("answer", "completion", "response", "output")
"""Usual names of recorded answers. A reference answer is not one: no model gave it."""


def is_recorded_file(name: str) -> bool:
    """Return whether the name of a side is that of a file of recorded answers."""
    return name.lower().endswith(ENDINGS)


def read_recorded(path: Path) -> RecordedSide:
    """Read a file with prompts and answers. An empty answer is an answer; a null is none.

    Raises: DataError if it cannot be read, has no answers or several columns of them, or has two different answers to
        one prompt.
    """
    table = read_prompt_table(path)
    column = _answer_column(table.columns, path)
    answers: dict[str, str] = {}
    for row in table.rows:
        key, answer = prompt_key(table.prompt(row)), row.get(column)
        if not key or answer is None:
            continue
        if answers.setdefault(key, str(answer)) != str(answer):
            raise DataError(
                f"{path.name} has two different answers to the prompt “{key[:80]}”. Keep one answer per prompt."
            )
    if not any(map(str.strip, answers.values())):
        raise DataError(f"The column {column!r} of {path.name} contains no answers.")
    return RecordedSide(path.name, answers)


def _answer_column(columns: Sequence[str], path: Path) -> str:
    """Return the only column with a usual name. Raises: DataError if there is none, or more than one."""
    found = [column for column in columns if column.lower() in ANSWER_COLUMNS]
    if not found:
        raise DataError(
            f"{path.name} has no column with answers. Name it `answer`, next to a column `prompt`. "
            f"Columns found: {', '.join(columns) or 'none'}."
        )
    if len(found) > 1:
        listed = " and ".join(f"`{column}`" for column in found)
        raise DataError(
            f"{path.name} could have its answers in {listed}. Keep the column with the answers to compare with, "
            "and remove or rename the other."
        )
    return found[0]

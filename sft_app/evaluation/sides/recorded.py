"""Read answers that were recorded elsewhere, for example by a hosted model, as a side of its own. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from sft_app.errors import DataError
from sft_app.evaluation.prompt_sets import read_prompt_file
from sft_app.evaluation.sides.more_sides import RecordedSide, prompt_key

ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def is_recorded_file(name: str) -> bool:
    """Return whether the name of a side is that of a file of recorded answers."""
    return name.lower().endswith(ENDINGS)


def read_recorded(path: Path) -> RecordedSide:
    """Read a file with prompts and answers.

    Raises: DataError if it cannot be read, has no answers, or has two different answers to one prompt.
    """
    found = read_prompt_file(path)
    if not found.reference_column:
        raise DataError(
            f"{path.name} has no column with answers. Name it `answer`, next to a column `prompt`. "
            f"Columns found: {', '.join(found.columns) or 'none'}."
        )
    answers: dict[str, str] = {}
    for prompt in found.prompts:
        key = prompt_key(prompt.text)
        if not prompt.reference.strip():
            continue
        if answers.setdefault(key, prompt.reference) != prompt.reference:
            raise DataError(
                f"{path.name} has two different answers to the prompt “{key[:80]}”. Keep one answer per prompt."
            )
    if not answers:
        raise DataError(f"The column {found.reference_column!r} of {path.name} contains no answers.")
    return RecordedSide(path.name, answers)

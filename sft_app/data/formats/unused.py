"""What of a file is not learnt, in sentences: other columns, rejected answers, rows that a verdict leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.data.formats.column_names import mark
from sft_app.data.formats.guess import in_backticks
from sft_app.data.formats.layouts import used_columns
from sft_app.data.formats.profile import Rows, column_names
from sft_app.data.formats.verdicts import Verdict, find_verdict, is_rating
from sft_app.settings import DataSettings

WITHOUT_ANSWERS = ("text", "oasst", "code_contests")
NAMED = 40


def verdict_of(rows: Rows, settings: DataSettings) -> Verdict | None:
    """The column that marks bad answers, in a layout that has answers."""
    return None if settings.format in WITHOUT_ANSWERS else find_verdict(rows, list(_used(rows, settings)))


def unused_notes(rows: Rows, settings: DataSettings, verdict: Verdict | None) -> list[str]:
    """One sentence for each kind of column that is not learnt."""
    judge = [verdict.column] if verdict else []
    names = [name for name in column_names(rows) if name and name not in [*_used(rows, settings), *judge]]
    bad = [name for name in names if mark(name) == "bad"]
    ratings = [name for name in names if is_rating(name)]
    other = [name for name in names if name not in bad]
    return [
        *_note(bad, "{} {holds} rejected answers, which are never learnt."),
        *_note(judge, "{} marks good and bad answers: rows marked as bad are left out."),
        *_note(ratings, "{} may rate the answers: rows with a low rating are learnt like the others."),
        *_note(other, "Not used: {}."),
    ]


def _note(names: Sequence[str], sentence: str) -> list[str]:
    holds = "holds" if len(names) == 1 else "hold"
    return [sentence.format(in_backticks(names, NAMED), holds=holds)] if names else []


def _used(rows: Rows, settings: DataSettings) -> set[str]:
    return {name for row in rows for name in used_columns(row, settings)}

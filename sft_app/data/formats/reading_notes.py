"""Describe what is not trained on: unused columns, rejected answers, and rows marked as bad."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.data.formats.column_names import answer_mark, in_backticks
from sft_app.data.formats.column_profiles import Rows, list_columns
from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.formats.row_chains import RowChain
from sft_app.data.formats.row_filters import LabelColumn, RowFilter, ValueCounts, find_row_filter, may_be_class
from sft_app.settings import DataSettings

MAX_COLUMNS_IN_NOTE = 40
MAX_WORDS_IN_NOTE = 5
REASONING_NOTES = {
    "keep": "read with the reasoning before the answer, in <think> tags; to leave it out, set reasoning=leave_out",
    "leave_out": "read without the reasoning before the answer, because reasoning is set to leave_out",
}
RATINGS = (
    "{} may rate the answers, but rows with a low rating are used for training like the others. "
    "To leave them out, delete them from the file."
)


def find_filter(rows: Rows, counts: ValueCounts, settings: DataSettings) -> RowFilter | None:
    """Find the columns that mark bad answers; None if the layout has no answers."""
    return find_row_filter(counts, used_columns(rows, settings)) if LAYOUTS[settings.format].has_answers else None


def reading_notes(
    rows: Rows,
    settings: DataSettings,
    row_filter: RowFilter | None,
    is_chosen: bool = False,
    chain: RowChain | None = None,
) -> list[str]:
    """Return a sentence for each kind of column that is not trained on.

    `why_uncertain` covers classes of the text that may mark bad answers, unless the user chose the layout
    (`is_chosen`), because then no reason is shown.
    """
    layout = LAYOUTS[settings.format]
    marking = row_filter.columns_that("marks") if row_filter else []
    known = {*used_columns(rows, settings), *marking, *(vars(chain).values() if chain else ())}
    names = [name for name in list_columns(rows) if name and name not in known]
    doubtful = row_filter.columns_that("may mark") if row_filter else []
    bad = [name for name in names if answer_mark(name) == "bad" and name not in doubtful]
    other = [name for name in names if name not in bad]
    return [
        *([chain.note()] if chain else []),
        *(layout.notes(list(rows), settings) if layout.notes else []),
        *_note(bad, "{} {holds} rejected answers, which are never trained on."),
        *_note(marking, "{} {marks} good and bad answers: rows marked as bad are skipped."),
        *(_filter_notes(row_filter, is_chosen) if row_filter else []),
        *_note(other, "Not used: {}."),
    ]


def _filter_notes(row_filter: RowFilter, is_chosen: bool) -> list[str]:
    """Describe the columns that may mark answers but do not cause every marked row to be skipped."""
    columns = row_filter.columns
    doubtful = [name for name in row_filter.columns_that("may mark") if is_chosen or not may_be_class(name)]
    return [
        *_note(row_filter.columns_that("may rate"), RATINGS),
        *[_unclear(name, columns[name].unclear) for name in row_filter.columns_that("marks") if columns[name].unclear],
        *[_doubt(name, columns[name]) for name in doubtful],
    ]


def why_uncertain(row_filter: RowFilter) -> str:
    """Explain why the layout is only a guess although question and answer are clear; "" if it is certain."""
    marking, marks = row_filter.columns_that("marks"), row_filter.columns_that("may mark")
    rates = [] if marking else row_filter.columns_that("may rate")
    unclear = [name for name in marking if row_filter.columns[name].unclear]
    said = [
        *[_class_doubt(name, row_filter.columns[name]) for name in marks if may_be_class(name)],
        *_note([*(name for name in marks if not may_be_class(name)), *rates], "{} may show which answers are bad"),
        *_note(unclear, "{} does not always say whether an answer is good"),
    ]
    return "".join(f", but {one}" for one in said)


def _class_doubt(name: str, labels: LabelColumn) -> str:
    renamed = "; to skip the bad ones, rename it to `feedback`" if "feedback" in labels.better_names else ""
    words = in_backticks(sorted(labels.bad), MAX_WORDS_IN_NOTE)
    return f"{in_backticks([name])} may mark bad answers ({words}), and all rows are trained on{renamed}"


def _doubt(name: str, labels: LabelColumn) -> str:
    words = in_backticks(sorted(labels.bad), MAX_WORDS_IN_NOTE)
    said = "" if len(labels.better_names) > 1 else f" ({words})"
    return f"{in_backticks([name])} may mark bad answers{said}, but all rows are trained on. {_how_to_skip(labels)}"


def _how_to_skip(labels: LabelColumn) -> str:
    """Explain how to skip the bad rows. Under names such as `valid` or `harmful`, a yes may mean good or bad."""
    ways = [f"`{name}`" for name in labels.better_names]
    renamed = f", or rename the column to {' or '.join(ways)}" if ways else ""
    chosen = ", depending on what a yes means" if len(ways) > 1 else ""
    return f"To skip the bad ones, delete them from the file{renamed}{chosen}."


def _unclear(name: str, words: Sequence[str]) -> str:
    return (
        f"{in_backticks([name])} also contains {in_backticks(words, MAX_WORDS_IN_NOTE)}, neither good nor bad: "
        "those rows are trained on. To leave them out, delete them from the file."
    )


def _note(names: Sequence[str], sentence: str) -> list[str]:
    holds, marks = ("contains", "marks") if len(names) == 1 else ("contain", "mark")
    return [sentence.format(in_backticks(names, MAX_COLUMNS_IN_NOTE), holds=holds, marks=marks)] if names else []


def used_columns(rows: Rows, settings: DataSettings) -> set[str]:
    """Return the columns that the layout reads in any of these rows."""
    return {name for row in rows for name in LAYOUTS[settings.format].columns_read(row, settings)}

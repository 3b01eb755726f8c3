"""What of a file is not learnt, in sentences: other columns, rejected answers, rows that a verdict leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.data.formats.column_names import mark
from sft_app.data.formats.guess import in_backticks
from sft_app.data.formats.profile import Rows, column_names
from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.formats.verdicts import Judgement, Tally, Verdict, find_verdict, is_class
from sft_app.settings import DataSettings

NAMED = 40
WORDS_NAMED = 5
RATINGS = (
    "{} may rate the answers, but rows with a low rating are learned like the others. "
    "To leave them out, delete them from the file."
)


def verdict_of(rows: Rows, tally: Tally, settings: DataSettings) -> Verdict | None:
    """What marks bad answers, in a layout that has answers."""
    return find_verdict(tally, _used(rows, settings)) if LAYOUTS[settings.format].has_answers else None


def unused_notes(rows: Rows, settings: DataSettings, verdict: Verdict | None, is_chosen: bool = False) -> list[str]:
    """One sentence for each kind of column that is not learnt. Of a class of the text that may mark bad answers speaks
    the reason for the guess, which a reading that a person has chosen does not have."""
    judges = verdict.ruled("marks") if verdict else []
    names = [name for name in column_names(rows) if name and name not in [*_used(rows, settings), *judges]]
    flags = verdict.ruled("may mark") if verdict else []
    bad = [name for name in names if mark(name) == "bad" and name not in flags]
    other = [name for name in names if name not in bad]
    return [
        *_note(bad, "{} {holds} rejected answers, which are never learned."),
        *_note(judges, "{} {marks} good and bad answers: rows marked as bad are skipped."),
        *(_verdict_notes(verdict, is_chosen) if verdict else []),
        *_note(other, "Not used: {}."),
    ]


def _verdict_notes(verdict: Verdict, is_chosen: bool) -> list[str]:
    """On the columns of which nothing, or not everything, is acted on."""
    columns = verdict.columns
    doubtful = [name for name in verdict.ruled("may mark") if is_chosen or not is_class(name)]
    return [
        *_note(verdict.ruled("may rate"), RATINGS),
        *[_unclear(name, columns[name].unclear) for name in verdict.ruled("marks") if columns[name].unclear],
        *[_doubt(name, columns[name]) for name in doubtful],
    ]


def doubts(verdict: Verdict) -> str:
    """Why the reading is no more than a guess although question and answer are clear; "" where it is not."""
    marking, marks = verdict.ruled("marks"), verdict.ruled("may mark")
    rates = [] if marking else verdict.ruled("may rate")
    unclear = [name for name in marking if verdict.columns[name].unclear]
    said = [
        *[_class_doubt(name, verdict.columns[name]) for name in marks if is_class(name)],
        *_note([*(name for name in marks if not is_class(name)), *rates], "{} may show which answers are bad"),
        *_note(unclear, "{} does not always say whether an answer is good"),
    ]
    return "".join(f", but {one}" for one in said)


def _class_doubt(name: str, judgement: Judgement) -> str:
    renamed = "; to skip the bad ones, rename it to `feedback`" if "feedback" in judgement.better_names else ""
    words = in_backticks(sorted(judgement.bad), WORDS_NAMED)
    return f"{in_backticks([name])} may mark bad answers ({words}), and all rows are learned{renamed}"


def _doubt(name: str, judgement: Judgement) -> str:
    words = in_backticks(sorted(judgement.bad), WORDS_NAMED)
    said = "" if len(judgement.better_names) > 1 else f" ({words})"
    return f"{in_backticks([name])} may mark bad answers{said}, but all rows are learned. {_way_out(judgement)}"


def _way_out(judgement: Judgement) -> str:
    """A yes may mean either: `valid`, `harmful`."""
    ways = [f"`{name}`" for name in judgement.better_names]
    renamed = f", or rename the column to {' or '.join(ways)}" if ways else ""
    chosen = ", depending on what a yes means" if len(ways) > 1 else ""
    return f"To skip the bad ones, delete them from the file{renamed}{chosen}."


def _unclear(name: str, words: Sequence[str]) -> str:
    return (
        f"{in_backticks([name])} also contains {in_backticks(words, WORDS_NAMED)}, neither good nor bad: "
        "those rows are learned. To leave them out, delete them from the file."
    )


def _note(names: Sequence[str], sentence: str) -> list[str]:
    holds, marks = ("contains", "marks") if len(names) == 1 else ("contain", "mark")
    return [sentence.format(in_backticks(names, NAMED), holds=holds, marks=marks)] if names else []


def _used(rows: Rows, settings: DataSettings) -> set[str]:
    return {name for row in rows for name in LAYOUTS[settings.format].columns_read(row, settings)}

"""What of a file is not learnt, in sentences: other columns, rejected answers, rows that a verdict leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.data.formats.column_names import mark
from sft_app.data.formats.guess import in_backticks
from sft_app.data.formats.layouts import used_columns
from sft_app.data.formats.profile import Rows, column_names
from sft_app.data.formats.verdicts import Tally, Verdict, find_verdict, is_class
from sft_app.settings import DataSettings

WITHOUT_ANSWERS = ("text", "oasst", "code_contests")
NAMED = 40
WORDS_NAMED = 5
RATINGS = (
    "{} may rate the answers: rows with a low rating are learnt like the others. "
    "To leave them out, delete them from the file."
)


def verdict_of(rows: Rows, tally: Tally, settings: DataSettings) -> Verdict | None:
    """What marks bad answers, in a layout that has answers."""
    return None if settings.format in WITHOUT_ANSWERS else find_verdict(tally, _used(rows, settings))


def unused_notes(rows: Rows, settings: DataSettings, verdict: Verdict | None) -> list[str]:
    """One sentence for each kind of column that is not learnt."""
    judges = verdict.ruled("marks") if verdict else []
    names = [name for name in column_names(rows) if name and name not in [*_used(rows, settings), *judges]]
    bad = [name for name in names if mark(name) == "bad"]
    other = [name for name in names if name not in bad]
    return [
        *_note(bad, "{} {holds} rejected answers, which are never learnt."),
        *_note(judges, "{} {marks} good and bad answers: rows marked as bad are left out."),
        *(_verdict_notes(verdict) if verdict else []),
        *_note(other, "Not used: {}."),
    ]


def _verdict_notes(verdict: Verdict) -> list[str]:
    """On the columns of which nothing, or not everything, is acted on."""
    columns = verdict.columns
    return [
        *_note(verdict.ruled("may rate"), RATINGS),
        *[_unclear(name, columns[name].unclear) for name in verdict.ruled("marks") if columns[name].unclear],
        *[_doubt(name, sorted(columns[name].bad)) for name in verdict.ruled("may mark") if not is_class(name)],
    ]


def doubts(verdict: Verdict) -> str:
    """Why the reading is no more than a guess although question and answer are clear; "" where it is not."""
    marking = verdict.ruled("marks")
    may = [*verdict.ruled("may mark"), *(verdict.ruled("may rate") if not marking else [])]
    unclear = [name for name in marking if verdict.columns[name].unclear]
    said = [
        *_note(
            [name for name in may if is_class(name)],
            "{} may mark bad answers, and all its rows are learnt (renamed to `feedback`, it leaves them out)",
        ),
        *_note([name for name in may if not is_class(name)], "{} may say which answers are bad"),
        *_note(unclear, "{} does not always say whether an answer is good"),
    ]
    return "".join(f", but {one}" for one in said)


def _doubt(name: str, bad: Sequence[str]) -> str:
    return (
        f"{in_backticks([name])} may mark bad answers ({in_backticks(bad, WORDS_NAMED)}): all its rows are learnt. "
        "To leave the bad ones out, delete them from the file, or rename the column to `feedback`."
    )


def _unclear(name: str, words: Sequence[str]) -> str:
    return (
        f"{in_backticks([name])} also holds {in_backticks(words, WORDS_NAMED)}, neither good nor bad: "
        "those rows are learnt. Delete them from the file to leave them out."
    )


def _note(names: Sequence[str], sentence: str) -> list[str]:
    holds, marks = ("holds", "marks") if len(names) == 1 else ("hold", "mark")
    return [sentence.format(in_backticks(names, NAMED), holds=holds, marks=marks)] if names else []


def _used(rows: Rows, settings: DataSettings) -> set[str]:
    return {name for row in rows for name in used_columns(row, settings)}

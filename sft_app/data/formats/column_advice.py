"""Say what the columns of a table hold and how to choose among them, with an example only if it is a sound one."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.data.formats.column_names import (
    CONTEXTS,
    answer_mark,
    answer_score,
    in_backticks,
    is_avoided,
    is_side_note,
    question_score,
)
from sft_app.data.formats.column_profiles import ColumnProfile, Rows, normalize
from sft_app.errors import DataError

LONGEST_EXAMPLE = 120
"""A longer name is a text; it is left out of the example rather than cut, because a cut name fits no column."""
PROVIDE = "Provide a question and its answer in two text columns, or a list of `messages`."


def how_to_choose(user: str, assistant: str) -> str:
    """Explain how to choose the columns, with two columns of this file as an example unless one is ""."""
    shown = [user, assistant]
    if all(name and name.isprintable() and len(name) <= LONGEST_EXAMPLE and '"' not in name for name in shown):
        example = f'--map "user={user}" --map "assistant={assistant}"'
        return f"Choose the columns on the page or on the command line, for example {example}."
    return "Choose the columns on the page or on the command line (`--map`)."


def best_example(possible: Sequence[ColumnProfile]) -> str:
    """Name the first column that is not the old, unsafe or drafted answer; if all are, the first one."""
    return next((column.name for column in possible if not is_avoided(column.name)), possible[0].name)


def refuse(columns: Sequence[ColumnProfile], rows: Rows) -> DataError:
    """Make the error for rows that fit no layout: it says what the columns hold and what you can do."""
    values = [column.name for column in columns if answer_score(column.name) >= 5 and _holds_values(column.name, rows)]
    nested = [column.name for column in columns if column.kind == "nested"]
    bad = [column.name for column in columns if column.is_text() and answer_mark(column.name) == "bad"]
    few = [column.name for column in columns if column.kind in ("category", "constant")]
    user, assistant = ("", "") if nested else _example(columns)
    said = [
        f"The columns {in_backticks([column.name for column in columns])} match no known layout.",
        *_about(nested, "{} {holds} lists or objects, which this layout cannot read."),
        *_about(values, "{} {holds} values that are not text, such as true or 5."),
        *_about(bad, "{} {holds} answers marked as bad."),
        *_about(few, "{} {holds} too few different texts for a question or an answer."),
        how_to_choose(user, assistant) if user and assistant else PROVIDE,
    ]
    return DataError(" ".join(said))


def constant_note(columns: Sequence[ColumnProfile], used: Sequence[str], rows: Rows) -> str:
    """Name the unused columns that are the same in all rows; what may belong to the example is not advised against."""
    constant = [column.name for column in columns if column.kind == "constant" and column.name not in used]
    belonging = [name for name in constant if question_score(name) or normalize(name) in CONTEXTS]
    spare = [name for name in constant if name not in belonging]
    same = f"the same text in all {len(rows)} rows checked"
    said = [*_about(spare, f"{{}} {{holds}} {same} and can be left out")]
    said += _about(belonging, f"{{}} {{holds}} {same} and {'is' if len(belonging) == 1 else 'are'} not used")
    return "".join(f"; {one}" for one in said)


def _example(columns: Sequence[ColumnProfile]) -> tuple[str, str]:
    """Choose two columns of varied text as an example; "" for what is not found."""
    texts = [column.name for column in columns if column.is_prose() and answer_mark(column.name) != "bad"]
    asking = max(texts, key=question_score, default="")
    answers = [
        name
        for name in texts
        if name != asking and not (question_score(name) or is_side_note(name) or is_avoided(name))
    ]
    return asking, max(answers, key=answer_score, default="")


def _holds_values(name: str, rows: Rows) -> bool:
    return any(isinstance(row.get(name), (bool, int, float)) and row[name] == row[name] for row in rows)


def _about(names: list[str], sentence: str) -> list[str]:
    return [sentence.format(in_backticks(names), holds="contains" if len(names) == 1 else "contain")] if names else []

"""Which layout a file's rows have: a guess from the names of the columns and from what stands in them, with reasons.

A guess is only offered when it can be acted on; where two readings are possible, both are, the better one first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sft_app.data.formats.layouts import TABLES, ColumnMap, text_column, turn_column
from sft_app.data.formats.trees import MESSAGE_COLUMNS
from sft_app.errors import DataError

Rows = Sequence[dict[str, Any]]

ENOUGH_ROWS = 5
"""From so many rows on, a column that always holds the same is called constant."""
COLUMNS_NAMED = 8
NAME_SHOWN = 40
ID_LENGTH = 64
"""Longer texts are read as text, whatever they look like."""
ID = re.compile(r"[\d\W_]*|[!-~]*\d[!-~]*|\S+@\S+|\w+://\S+")
"""Numbers and dates; one word with a digit in it; e-mail and web addresses."""
QUESTION_NAMES = (
    "user", "question", "query", "prompt", "instruction", "input", "human", "customer", "client", "request",
    "message", "ask", "problem", "task", "source", "q",
    "frage", "anfrage", "kunde", "nachricht", "eingabe", "demande", "consigne", "pregunta", "consulta", "mensaje",
    "domanda", "vraag",
)  # fmt: skip
ANSWER_NAMES = (
    "assistant", "answer", "response", "completion", "output", "reply", "agent", "bot", "support", "solution",
    "target", "label", "a",
    "antwort", "ausgabe", "losung", "reponse", "sortie", "respuesta", "solucion", "salida", "risposta", "antwoord",
)  # fmt: skip
"""Both without accents, as `_plain` has the columns' names."""

TITLES = {
    "alpaca": "Alpaca's",
    "dolly": "Dolly's",
    "gpteacher": "GPTeacher's",
    "gpt4all": "GPT4All's",
    "question_answer": "a question and its answer",
}


@dataclass(frozen=True)
class Guess:
    """One reading of a file: the settings `format` and `columns`, and why."""

    format: str
    why: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """What the rows looked at hold under one name. `filled` is the share of rows with text, `length` its mean."""

    name: str
    filled: float
    length: float
    distinct: int
    looks_like_ids: bool

    def is_constant(self, rows: int) -> bool:
        return self.filled == 1 and self.distinct == 1 and rows >= ENOUGH_ROWS


def guess_formats(rows: Rows) -> list[Guess]:
    """Every reading that fits, the best first.

    Raises:
        DataError: none fits; names the columns there are.
    """
    guesses = _nested(rows) or [*(_named_tables(rows) or _any_table(rows)), *_plain_text(rows)]
    if not guesses:
        raise DataError(
            f"The columns {_names(column_names(rows))} fit no known layout. "
            "Name the ones that hold the question and the answer: user=COLUMN, assistant=COLUMN."
        )
    return guesses


def _nested(rows: Rows) -> list[Guess]:
    """Layouts that are known by the shape of their values."""
    shapes: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
        ("messages", lambda row: _has_turns(row, "role"), "every row holds a list of messages with `role`"),
        ("sharegpt", lambda row: _has_turns(row, "from"), "every row holds a list of turns with `from` and `value`"),
        ("oasst", _is_reply_tree, "the rows are messages of reply trees (OASST)"),
        ("code_contests", _is_contest, "`description` and `solutions` are CodeContests' (AlphaCode)"),
        (
            "prompt_completion",
            lambda row: all(isinstance(row.get(name), (str, list)) for name in ("prompt", "completion")),
            "`prompt` and `completion` hold the question and the answer",
        ),
    ]
    return [Guess(name, why) for name, fits, why in shapes if _share(rows, fits) >= 0.5]


def _named_tables(rows: Rows) -> list[Guess]:
    """Well-known tables by their columns; one whose context never changes is read without it."""
    columns = {column.name: column for column in _describe(rows)}
    fitting = [(name, map) for name, maps in TABLES.items() for map in maps if _holds_text(columns, map)]
    if not fitting:
        return []
    name, map = max(fitting, key=lambda table: sum(column in columns for column in table[1].used()))
    used = [column for column in map.used() if column in columns]
    named = f"the columns {_names(used)} are {TITLES[name]}"
    context = columns.get(map.context) if map.context else None
    if context is None or not context.is_constant(len(rows)):
        return [Guess(name, named + _constant_note(columns, used, rows))]
    plain = ColumnMap(map.user, map.assistant)
    why = f"`{plain.user}` is answered by `{plain.assistant}`{_constant_note(columns, plain.used(), rows)}"
    return [
        Guess("columns", why, plain.entries()),
        Guess(name, f"{named}, with `{context.name}` added to every question"),
    ]


def _any_table(rows: Rows) -> list[Guess]:
    """Two columns of text that change from row to row: by what their names suggest, else by length and order."""
    columns = {column.name: column for column in _describe(rows)}
    texts = [column for column in columns.values() if _may_be_chosen(column, len(rows))]
    if len(texts) < 2:
        return []
    texts.sort(key=lambda column: column.length)  # of two as long, the first stays the first
    answers = _called(texts, ANSWER_NAMES)
    asks = [column for column in _called(texts, QUESTION_NAMES) if column not in answers]
    answer = answers[-1] if answers else next(column for column in reversed(texts) if column not in asks[-1:])
    ask = asks[-1] if asks else next(column for column in reversed(texts) if column != answer)
    chosen = ColumnMap(ask.name, answer.name)
    note = _constant_note(columns, chosen.used(), rows)
    why = f"{_names([ask.name])} looks like the question, {_names([answer.name])} like the answer"
    if asks and answers:
        return [Guess("columns", why + note, chosen.entries())]
    turned = ColumnMap(answer.name, ask.name)
    basis = "the name of one" if asks or answers else "their lengths"
    return [
        Guess("columns", f"{why}, going by {basis}{note}", chosen.entries()),
        Guess("columns", "the same two columns the other way round", turned.entries()),
    ]


def _may_be_chosen(column: Column, rows: int) -> bool:
    """Settings cannot name a column without a name."""
    changes = column.filled >= 0.6 and not column.is_constant(rows)
    return bool(column.name) and changes and not column.looks_like_ids


def _called(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """Those with one of the names, or with one in their name; the last fits best."""
    fitting = [column for column in columns if _is_called(column, names)]
    return sorted(fitting, key=lambda column: _plain(column.name) in names)


def _plain_text(rows: Rows) -> list[Guess]:
    column = next((name for row in rows if (name := text_column(row))), None)
    if column is None or _share(rows, lambda row: isinstance(row.get(column), str)) < 0.5:
        return []
    return [
        Guess("text", f"{_names([column])} holds plain text, which is learnt from beginning to end, without a chat")
    ]


def _has_turns(row: dict[str, Any], key: str) -> bool:
    turns = row.get(turn_column(row))
    return isinstance(turns, list) and any(isinstance(turn, dict) and key in turn for turn in turns)


def _is_reply_tree(row: dict[str, Any]) -> bool:
    prompt = row.get("prompt")
    return row.keys() >= MESSAGE_COLUMNS or isinstance(prompt, dict) and {"text", "replies"} <= prompt.keys()


def _is_contest(row: dict[str, Any]) -> bool:
    return isinstance(row.get("description"), str) and isinstance(row.get("solutions"), (list, dict))


def _describe(rows: Rows) -> list[Column]:
    return [_describe_column(name, rows) for name in column_names(rows)]


def _describe_column(name: str, rows: Rows) -> Column:
    texts = [row[name] for row in rows if isinstance(row.get(name), str) and row[name].strip()]
    return Column(
        name=name,
        filled=len(texts) / len(rows),
        length=sum(map(len, texts)) / max(len(texts), 1),
        distinct=len(set(texts)),
        looks_like_ids=bool(texts) and all(len(text) <= ID_LENGTH and ID.fullmatch(text.strip()) for text in texts),
    )


def _holds_text(columns: dict[str, Column], map: ColumnMap) -> bool:
    """Whether question and answer are there, with text in most rows."""
    needed = [columns.get(map.user), columns.get(map.assistant)]
    return all(column is not None and column.filled >= 0.5 for column in needed)


def _constant_note(columns: dict[str, Column], used: Sequence[str], rows: Rows) -> str:
    constant = [column.name for column in columns.values() if column.is_constant(len(rows)) and column.name not in used]
    if not constant:
        return ""
    subject = f"{_names(constant)} {'holds' if len(constant) == 1 else 'hold'}"
    return f"; {subject} the same text in all {len(rows)} rows looked at and can be left out"


def _is_called(column: Column, names: Iterable[str]) -> bool:
    called = _plain(column.name)
    words = re.split(r"[\W_]+", called)
    return any(name in words or (len(name) > 3 and name in called) for name in names)


def _plain(name: str) -> str:
    """In small letters, without accents."""
    spelt_out = unicodedata.normalize("NFKD", name.strip().lower())
    return "".join(letter for letter in spelt_out if not unicodedata.combining(letter))


def column_names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{_short(name)}`" for name in names[:COLUMNS_NAMED]) or "(none)"
    return shown if len(names) <= COLUMNS_NAMED else f"{shown} and {len(names) - COLUMNS_NAMED:,} more"


def _short(name: str) -> str:
    """A file without headings has its first row as names: whole sentences, over several lines."""
    name = " ".join(name.split())
    return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}…"


def _share(rows: Rows, fits: Callable[[dict[str, Any]], Any]) -> float:
    return sum(bool(fits(row)) for row in rows) / max(len(rows), 1)

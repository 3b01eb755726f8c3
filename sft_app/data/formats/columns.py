"""Which two columns of a table are question and answer: the cells decide who can be one, the names who is.

Of several that could be the answer none is taken for its length: the person is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sft_app.data.formats.column_names import (
    DESCRIPTIONS,
    TITLES,
    answers,
    asks,
    could_answer,
    draft_order,
    is_aside,
    is_class,
    is_exact_answer,
    is_speaker,
    mark,
    twins,
)
from sft_app.data.formats.guess import in_backticks, one_line
from sft_app.data.formats.profile import PHRASE_WORDS, PROSE_WORDS, ColumnProfile, plain
from sft_app.errors import DataError

Columns = list[ColumnProfile]

ASKING_MARGIN = 0.3
"""So many more of a column's texts have to end in a question mark to tell which of two asks."""


@dataclass(frozen=True)
class Pair:
    """`basis` says what an uncertain pair goes by, "" where names and cells agree; `is_turnable` says that the other
    way round is as possible, `is_unnamed` that neither name says anything."""

    ask: str
    answer: str
    basis: str = ""
    is_turnable: bool = False
    is_unnamed: bool = False


def choose_pair(columns: Sequence[ColumnProfile]) -> Pair | None:
    """None when there are no two columns that could be question and answer.

    Raises:
        DataError: several could be the answer, or the question; names them.
    """
    pool = _pool(_without_titles(columns))
    called = {column.name.strip().lower(): column for column in pool}
    if {"q", "a"} <= called.keys():  # of options A to D, A is no answer
        return Pair(called["q"].name, called["a"].name)
    _check_twins(pool)
    answering, asking = _top(pool, answers), _top(pool, asks)
    if versions := _versions(pool, answering, asking):
        answer = _likeliest(versions, asking)
        pair = _question_for(answer, [column for column in pool if column not in versions])
        others = in_backticks([column.name for column in versions if column != answer])
        return pair and replace(pair, basis=f"its name, although {others} could also be the answer")
    if len(answering) > 1:
        raise DataError(_which("the answer", answering, asking[:1], "assistant"))
    if answering:
        return _question_for(answering[0], [column for column in pool if column != answering[0]])
    if asking:
        return _answer_to(asking, pool, _short_answers(columns, pool), _canned(columns))
    return _unnamed(_worth_it([column for column in pool if mark(column.name) != "bad"]))


def rivals(columns: Sequence[ColumnProfile], answer: str, ask: str) -> Columns:
    """Other columns of sentences that are called an answer just as clearly, or a version of it."""
    clear = max(answers(answer), 1)
    return [
        column
        for column in columns
        if column.is_prose() and column.name not in (answer, ask)
        if answers(column.name) >= clear or _is_version(column)
    ]


def other_texts(columns: Sequence[ColumnProfile], used: Sequence[str]) -> Columns:
    """Columns of sentences that could be meant instead of those of a well-known table."""
    return [
        column
        for column in columns
        if column.nature == "prose"
        and column.name not in used
        and not is_aside(column.name)
        and mark(column.name) != "bad"
    ]


def _without_titles(columns: Sequence[ColumnProfile]) -> Columns:
    """Jira's `Summary` is the title of its `Description`, where something else is there to answer it."""
    left = [column for column in columns if plain(column.name) not in TITLES]
    is_ticket = any(plain(column.name) in DESCRIPTIONS for column in left)
    return left if is_ticket and sum(column.is_prose() for column in left) > 1 else list(columns)


def _check_twins(pool: Columns) -> None:
    """Raises: DataError where two columns of a kind (`ref_A`, `ref_B`) can only be two answers to one question."""
    paired = twins([column.name for column in pool])
    alike = [column for column in pool if column.name in paired]
    others = [column for column in pool if column.name not in paired]
    is_about_answers = not any(asks(column.name) >= 5 for column in alike)
    if alike and others and is_about_answers and not any(answers(column.name) >= 5 for column in others):
        asked = _which("the answer", alike, _top(others, asks)[:1] or others[:1], "assistant")
        raise DataError(f"{asked} If each row says which answer is better, put the better answers into one column.")


def _versions(pool: Columns, answering: Columns, asking: Columns) -> Columns:
    """Columns that may all be the answer, as draft and corrected answer are."""
    found = [column for column in pool if column not in asking and _is_version(column)]
    return [] if len(found) < 2 else [*found, *(one for one in answering if one not in found)]


def _is_version(column: ColumnProfile) -> bool:
    """Not `Agent`, of names with titles."""
    return (
        column.nature == "prose"
        and could_answer(column.name)
        and (column.words >= PROSE_WORDS or not is_speaker(column.name))
    )


def _likeliest(versions: Columns, asking: Columns) -> ColumnProfile:
    """The edited one, else the one that is no draft. Raises: DataError where that leaves several."""
    best = max(draft_order(column.name) for column in versions)
    left = [column for column in versions if draft_order(column.name) == best]
    top = left if best < 0 or len(left) == 1 else _top(left, answers) or left
    if len(top) > 1:
        raise DataError(_which("the answer", versions, asking[:1], "assistant"))
    return top[0]


def _canned(columns: Sequence[ColumnProfile]) -> Columns:
    """Columns that are called the answer and hold a few texts again and again."""
    return [
        column
        for column in columns
        if column.nature in ("category", "constant") and answers(column.name) >= 5 and column.words >= PHRASE_WORDS
    ]


def _pool(columns: Sequence[ColumnProfile]) -> Columns:
    """Who can be chosen: sentences, else phrases too, else two columns of words that are all there is."""
    texts = [column for column in columns if column.name and column.is_text()]
    prose = [column for column in texts if column.nature == "prose"]
    pool = [
        column for column in texts if column.is_prose() and (column in prose or len(prose) < 2 or _is_called(column))
    ]
    if len(pool) >= 2:
        return pool
    words = [column for column in texts if column.nature != "name" or is_exact_answer(column.name)]
    return words if len(words) == 2 else pool


def _short_answers(columns: Sequence[ColumnProfile], pool: Columns) -> Columns:
    """Columns of single words that can only be the answer; the classes of a text if there is nothing but the two."""
    short = [column for column in columns if column.is_text() and column not in pool and is_exact_answer(column.name)]
    telling = [column for column in columns if column.nature != "identifier"]
    classes = [column for column in telling if column.nature == "category" and is_class(column.name)]
    return short or (classes if len(telling) == 2 else [])


def _question_for(answer: ColumnProfile, others: Columns) -> Pair | None:
    asking = _top(others, asks)
    if asking:
        return Pair(asking[0].name, answer.name, _doubt(asking, answer))
    possible = _worth_it([column for column in others if mark(column.name) != "bad"])
    marked = [column for column in possible if column.asking >= ASKING_MARGIN]
    found = possible if len(possible) == 1 else marked
    if possible and len(found) != 1:
        raise DataError(_which("the question", possible, [answer], "user"))
    return Pair(found[0].name, answer.name, "the name of one of them", is_turnable=True) if found else None


def _answer_to(asking: Columns, pool: Columns, short: Columns, canned: Columns) -> Pair | None:
    possible = _worth_it([column for column in pool if not asks(column.name) and mark(column.name) != "bad"])
    if len(possible) > 1 or possible and canned:
        raise DataError(_which("the answer", [*canned, *possible], asking[:1], "assistant"))
    if possible:
        return Pair(asking[0].name, possible[0].name, "the name of one of them", is_turnable=True)
    return Pair(asking[0].name, short[0].name, _doubt(asking, short[0])) if len(short) == 1 else None


def _unnamed(possible: Columns) -> Pair | None:
    if len(possible) > 2:
        raise DataError(_which("the question and the answer", possible, [], ""))
    if len(possible) < 2:
        return None
    ask, answer = sorted(possible, key=lambda column: column.length)  # of two as long, the first stays the first
    if abs(ask.asking - answer.asking) < ASKING_MARGIN:
        return Pair(ask.name, answer.name, "their lengths", is_turnable=True, is_unnamed=True)
    ask, answer = sorted(possible, key=lambda column: -column.asking)
    return Pair(ask.name, answer.name, "the question marks", is_turnable=True, is_unnamed=True)


def _doubt(asking: Columns, answer: ColumnProfile) -> str:
    """What a pair goes by whose names say which is which; "" when nothing speaks against it."""
    if len(asking) > 1:
        others = in_backticks([column.name for column in asking[1:]])
        return f"the order of the columns, because {others} could also be the question"
    return "its name, although it contains names or categories" if answer.nature in ("name", "category") else ""


def _worth_it(columns: Columns) -> Columns:
    """Without remarks, titles and the like, unless nothing else is there."""
    return [column for column in columns if not is_aside(column.name)] or columns


def _is_called(column: ColumnProfile) -> bool:
    return answers(column.name) > 0 or asks(column.name) > 0


def _top(columns: Columns, rank: Callable[[str], int]) -> Columns:
    """The columns that are called it most clearly, one or more of the same rank."""
    best = max((rank(column.name) for column in columns), default=0)
    return [column for column in columns if best and rank(column.name) == best]


def _which(what: str, possible: Columns, known: Columns, wanted: str) -> str:
    """`wanted` is the role that one of `possible` has, as the setting `columns` calls it."""
    names = in_backticks([column.name for column in possible])
    first = possible[0].name
    other = known[0].name if known else possible[1].name
    user, assistant = (other, first) if wanted == "assistant" and known else (first, other)
    return f"{names} could each be {what}, and it is unclear which. {choose_columns(user, assistant)}"


def choose_columns(user: str, assistant: str) -> str:
    """What to do where the app does not choose, with two of the file's own columns as an example."""
    example = f'--map "user={one_line(user)}" --map "assistant={one_line(assistant)}"'
    return f"Choose the columns on the page or on the command line, for example {example}."

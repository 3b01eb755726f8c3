"""Choose the question and answer columns of a table: cells show which are possible, names which are intended.

If several columns could be the answer, the app asks instead of taking the longest one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sft_app.data.formats.column_advice import best_example, how_to_choose
from sft_app.data.formats.column_names import (
    DESCRIPTION_WORDS,
    SUMMARY_WORDS,
    answer_mark,
    answer_score,
    could_answer,
    draft_order,
    in_backticks,
    is_class,
    is_exact_answer,
    is_remark,
    is_side_note,
    is_speaker,
    is_truth,
    paired_names,
    question_score,
)
from sft_app.data.formats.column_profiles import PHRASE_WORDS, PROSE_WORDS, ColumnProfile, normalize
from sft_app.data.formats.option_columns import option_columns
from sft_app.errors import DataError

Columns = list[ColumnProfile]

ASKING_MARGIN = 0.3
"""How much larger the share of texts with a question mark must be to decide which of two columns asks."""


@dataclass(frozen=True)
class ColumnPair:
    """The names of the question and answer columns.

    `basis` explains how an uncertain pair was chosen; "" if names and cells agree. `is_reversible` means the other way
    round is equally likely; `is_unnamed` means neither name gives a hint.
    """

    question: str
    answer: str
    basis: str = ""
    is_reversible: bool = False
    is_unnamed: bool = False


def choose_question_and_answer(columns: Sequence[ColumnProfile]) -> ColumnPair | None:
    """Choose the two columns; None if no two columns could be question and answer.

    Raises:
        DataError: several columns could be the answer, or the question; the message names them.
    """
    columns = _without_options(columns)
    candidates = _candidates(_without_titles(columns))
    called = {column.name.strip().lower(): column for column in candidates}
    if {"q", "a"} <= called.keys():  # of options A to D, A is not an answer
        return ColumnPair(called["q"].name, called["a"].name)
    _check_paired_names(candidates)
    answering, asking = _highest(candidates, answer_score), _highest(candidates, question_score)
    if versions := _versions(candidates, answering, asking):
        answer = _likeliest(versions, asking)
        pair = _question_for(answer, [column for column in candidates if column not in versions])
        others = in_backticks([column.name for column in versions if column != answer])
        return pair and replace(pair, basis=f"its name, although {others} could also be the answer")
    if len(answering) > 1:
        raise DataError(_ambiguity("the answer", answering, asking[:1], "assistant"))
    if answering:
        return _question_for(answering[0], [column for column in candidates if column != answering[0]])
    if asking:
        return _answer_to(asking, candidates, _short_answers(columns, candidates), _repeated_answers(columns))
    return _unnamed(_without_side_notes([column for column in candidates if answer_mark(column.name) != "bad"]))


def competing_answers(columns: Sequence[ColumnProfile], answer: str, question: str) -> Columns:
    """Find other columns of sentences whose names say answer, or a version of it, just as clearly."""
    clear = max(answer_score(answer), 1)
    return [
        column
        for column in columns
        if column.is_prose() and column.name not in (answer, question)
        if answer_score(column.name) >= clear or _is_version(column)
    ]


def other_texts(columns: Sequence[ColumnProfile], used: Sequence[str]) -> Columns:
    """Find columns of sentences that could be intended instead of those of a well-known table."""
    return [
        column
        for column in columns
        if column.kind == "prose"
        and column.name not in used
        and not is_side_note(column.name)
        and answer_mark(column.name) != "bad"
    ]


def _without_options(columns: Sequence[ColumnProfile]) -> Columns:
    """Leave out the options `A`, `B`, `C` … of a multiple-choice question, which become a part of it."""
    options = option_columns(tuple(column.name for column in columns))
    return [column for column in columns if column.name not in options]


def _without_titles(columns: Sequence[ColumnProfile]) -> Columns:
    """Leave out Jira's `Summary`, the title of its `Description`, if another column can be the answer."""
    left = [column for column in columns if normalize(column.name) not in SUMMARY_WORDS]
    is_ticket = any(normalize(column.name) in DESCRIPTION_WORDS for column in left)
    return left if is_ticket and sum(column.is_prose() for column in left) > 1 else list(columns)


def _check_paired_names(candidates: Columns) -> None:
    """Raise DataError for paired columns (`ref_A`, `ref_B`) that can only be two answers to one question."""
    paired = paired_names([column.name for column in candidates])
    alike = [column for column in candidates if column.name in paired]
    others = [column for column in candidates if column.name not in paired]
    is_about_answers = not any(question_score(column.name) >= 5 for column in alike)
    if alike and others and is_about_answers and not any(answer_score(column.name) >= 5 for column in others):
        ambiguity = _ambiguity("the answer", alike, _highest(others, question_score)[:1] or others[:1], "assistant")
        raise DataError(f"{ambiguity} If each row says which answer is better, put the better answers into one column.")


def _versions(candidates: Columns, answering: Columns, asking: Columns) -> Columns:
    """Find several columns that may each be the answer, such as a draft and its correction; [] if only one may."""
    versions = [column for column in candidates if column not in asking and _is_version(column)]
    return [] if len(versions) < 2 else [*versions, *(one for one in answering if one not in versions)]


def _is_version(column: ColumnProfile) -> bool:
    """Return whether a column may be a version of the answer; `Agent`, with names and titles, is not."""
    return (
        column.kind == "prose"
        and could_answer(column.name)
        and (column.words >= PROSE_WORDS or not is_speaker(column.name))
    )


def _likeliest(versions: Columns, asking: Columns) -> ColumnProfile:
    """Choose the edited version, else the one that is not a draft. Raises: DataError if several remain."""
    best = max(draft_order(column.name) for column in versions)
    left = [column for column in versions if draft_order(column.name) == best]
    top = left if best < 0 or len(left) == 1 else _highest(left, answer_score) or left
    is_compared = best == 0 and len({is_truth(column.name) for column in left}) > 1
    if len(top) > 1 or is_compared:
        raise DataError(_ambiguity("the answer", versions, asking[:1], "assistant"))
    return top[0]


def _repeated_answers(columns: Sequence[ColumnProfile]) -> Columns:
    """Find columns that are named like an answer but repeat a few texts."""
    return [
        column
        for column in columns
        if column.kind in ("category", "constant") and answer_score(column.name) >= 5 and column.words >= PHRASE_WORDS
    ]


def _candidates(columns: Sequence[ColumnProfile]) -> Columns:
    """Find the columns to choose from: sentences, else phrases too, else exactly two columns of words."""
    texts = [column for column in columns if column.name and column.is_text()]
    prose = [column for column in texts if column.kind == "prose"]
    candidates = [
        column
        for column in texts
        if column.is_prose() and (column in prose or len(prose) < 2 or _has_telling_name(column))
    ]
    if len(candidates) >= 2:
        return candidates
    words = [column for column in texts if column.kind != "name" or is_exact_answer(column.name)]
    return words if len(words) == 2 else candidates


def _short_answers(columns: Sequence[ColumnProfile], candidates: Columns) -> Columns:
    """Find columns that can only be the answer though they hold words, numbers or a few texts."""
    others = [column for column in columns if column not in candidates]
    short = [column for column in others if column.is_short() and is_exact_answer(column.name)]
    telling = [column for column in columns if column.kind != "identifier"]
    classes = [column for column in telling if column.kind == "category" and is_class(column.name)]
    return short or (classes if len(telling) == 2 else [])


def _question_for(answer: ColumnProfile, others: Columns) -> ColumnPair | None:
    asking = _highest(others, question_score)
    if asking:
        return ColumnPair(asking[0].name, answer.name, _doubt(asking, answer))
    possible = _without_side_notes([column for column in others if answer_mark(column.name) != "bad"])
    marked = [column for column in possible if column.asking >= ASKING_MARGIN]
    questions = possible if len(possible) == 1 else marked
    if possible and len(questions) != 1:
        raise DataError(_ambiguity("the question", possible, [answer], "user"))
    return (
        ColumnPair(questions[0].name, answer.name, "the name of one of them", is_reversible=True) if questions else None
    )


def _answer_to(asking: Columns, candidates: Columns, short: Columns, repeated: Columns) -> ColumnPair | None:
    left = [column for column in candidates if not question_score(column.name) and answer_mark(column.name) != "bad"]
    possible = _without_side_notes([column for column in left if not (short and is_remark(column.name))])
    if len(possible) == 1 and draft_order(possible[0].name) < 0:
        possible = left  # beside a draft, any other text may be what was sent
    if len(possible) > 1 or possible and repeated:
        raise DataError(_ambiguity("the answer", [*repeated, *possible], asking[:1], "assistant"))
    if possible and question_score(asking[0].name) == 1 and asking[0].asking < ASKING_MARGIN:
        unclear = sorted([asking[0], possible[0]], key=lambda one: (not is_side_note(one.name), candidates.index(one)))
        raise DataError(_ambiguity("the question or the answer", unclear, [], ""))
    if possible:
        return ColumnPair(asking[0].name, possible[0].name, "the name of one of them", is_reversible=True)
    return ColumnPair(asking[0].name, short[0].name, _doubt(asking, short[0])) if len(short) == 1 else None


def _unnamed(possible: Columns) -> ColumnPair | None:
    if len(possible) > 2:
        raise DataError(_ambiguity("the question and the answer", possible, [], ""))
    if len(possible) < 2:
        return None
    question, answer = sorted(possible, key=lambda column: column.length)  # of two as long, the first stays the first
    if abs(question.asking - answer.asking) < ASKING_MARGIN:
        return ColumnPair(question.name, answer.name, "their lengths", is_reversible=True, is_unnamed=True)
    question, answer = sorted(possible, key=lambda column: -column.asking)
    return ColumnPair(question.name, answer.name, "the question marks", is_reversible=True, is_unnamed=True)


def _doubt(asking: Columns, answer: ColumnProfile) -> str:
    """Explain how a pair with clear names was chosen; "" if nothing speaks against it."""
    if len(asking) > 1:
        others = in_backticks([column.name for column in asking[1:]])
        return f"the order of the columns, because {others} could also be the question"
    kinds = {"name": "names or categories", "category": "names or categories", "identifier": "numbers, dates or ids"}
    return f"its name, although it contains {kinds[answer.kind]}" if answer.kind in kinds else ""


def _without_side_notes(columns: Columns) -> Columns:
    """Leave out remarks, titles and similar columns, unless there is nothing else."""
    return [column for column in columns if not is_side_note(column.name)] or columns


def _has_telling_name(column: ColumnProfile) -> bool:
    return answer_score(column.name) > 0 or question_score(column.name) > 0


def _highest(columns: Columns, rank: Callable[[str], int]) -> Columns:
    """Find the columns whose names rank highest; several if they tie, [] if no name has a rank."""
    best = max((rank(column.name) for column in columns), default=0)
    return [column for column in columns if best and rank(column.name) == best]


def _ambiguity(what: str, possible: Columns, known: Columns, role: str) -> str:
    """Explain what is ambiguous and how to choose; `role` (`user`, `assistant`) is that of one of `possible`."""
    names = in_backticks([column.name for column in possible])
    first, second = best_example(possible), "" if role else possible[1].name
    other = known[0].name if known else second
    user, assistant = (other, first) if role == "assistant" else (first, other)
    return f"{names} could each be {what}, and it is unclear which. {how_to_choose(user, assistant)}"

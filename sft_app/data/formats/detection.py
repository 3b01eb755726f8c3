"""Detect the layout of a file from the cells and names of its columns, and explain why.

A layout is only offered if it can read the file. If two layouts can, both are offered, the better one first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sft_app.data.formats.column_advice import constant_note, how_to_choose, refuse
from sft_app.data.formats.column_mapping import (
    ColumnPair,
    choose_question_and_answer,
    competing_answers,
    other_texts,
)
from sft_app.data.formats.column_names import (
    CONTEXTS,
    answer_score,
    in_backticks,
    is_exact_answer,
    question_score,
    system_column,
)
from sft_app.data.formats.column_profiles import (
    ENOUGH_ROWS,
    PHRASE_WORDS,
    ColumnProfile,
    Rows,
    list_columns,
    normalize,
    profile_columns,
    profile_joined,
    spell_numbers,
)
from sft_app.data.formats.converters import message_rows
from sft_app.data.formats.converters.tables import ColumnMap, text_column
from sft_app.data.formats.layout import Layout
from sft_app.data.formats.option_columns import is_option_answer, option_columns, option_list_column
from sft_app.data.formats.registry import layouts_to_detect
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings

Certainty = Literal["chosen", "certain", "guess"]
"""How certain the layout of a file is: the user chose it, the rows leave no doubt, or the user must confirm it."""
QUESTION_WORDS = 3
SPEAKERS = ["role", "speaker", "sender", "from", "is_user", "is_bot", "isbot", "inbound", "author", "message"]
SPEAKERS += ["author_type", "sender_type", "author_role", "sender_role", "incoming", "is_incoming"]
WRITERS = ("user", "username", "name", "author_id")
TIMESTAMPS = ("ts", "timestamp", "thread_ts", "sent_at", "date", "time", "created_at", "send_date")


@dataclass(frozen=True)
class DetectedLayout:
    """A way to read a file: the settings `format` and `columns`, and why they fit."""

    format: str
    why: str
    columns: tuple[str, ...] = ()
    is_certain: bool = True


def detect_layouts(rows: Rows) -> list[DetectedLayout]:
    """Find every layout that fits the first rows of a file, the best first.

    Raises:
        DataError: no layout fits, or it is unclear which column is the answer; the message names the columns.
    """
    layouts = _by_shape(rows)
    if layouts:
        return layouts
    if not list_columns(rows):
        raise refuse([], rows)
    columns = profile_columns(rows)
    if len(rows) == 1 and sum(len(column.name.split()) >= QUESTION_WORDS for column in columns) > 1:
        raise DataError(
            "The file is one object whose names are texts, so it has one row. Write it as a list of rows, such as "
            '[{"question": "…", "answer": "…"}].'
        )
    if speaker := _speaker_column(columns, rows):
        return [DetectedLayout("message_rows", f"each row contains one message, and `{speaker}` names its author")]
    tables = _multiple_choice(rows, columns) or _known_table(rows, columns)
    tables = tables or _any_table(spell_numbers(rows, [name for name in list_columns(rows) if is_exact_answer(name)]))
    layouts = [*tables, *_plain_text(rows)]
    if not layouts:
        raise refuse(columns, rows)
    return layouts


def _by_shape(rows: Rows) -> list[DetectedLayout]:
    """Find a layout whose values have a recognisable shape in at least half of the rows."""
    for layout in layouts_to_detect():
        if recognise := layout.recognise:
            found = [column for row in rows if (column := recognise(row))]
            if rows and len(found) >= 0.5 * len(rows):
                return [DetectedLayout(layout.name, layout.evidence.format(found[0]))]
    return []


def _known_table(rows: Rows, columns: list[ColumnProfile]) -> list[DetectedLayout]:
    """Find a well-known table by its columns, unless the cells contradict it; a constant context is ignored."""
    named = {column.name: column for column in columns}
    fitting = [(layout, map) for layout in layouts_to_detect() for map in layout.column_maps if _holds_text(named, map)]
    if not fitting:
        return []
    layout, map = max(fitting, key=lambda table: sum(column in named for column in table[1].used()))
    answer = named[map.assistant]
    ask = profile_joined([column for column in (map.user, map.context) if column in named], rows)
    others = other_texts(columns, map.used())
    if competing_answers(columns, map.assistant, map.user) or others and not (ask.is_prose() and answer.is_prose()):
        return []
    used = [column for column in map.used() if column in named]
    doubt = _doubt(ask, answer, rows, _is_all(layout, columns))
    why = f"the columns {in_backticks(used)} are {layout.columns_are}{doubt}"
    is_certain = not doubt
    full = replace(
        map,
        system=map.system if map.system in named else _system(columns),
        context=map.context if map.context in named else "" if map.context else _context(columns, map),
    )
    if (added := [name for name in full.used() if name not in map.used()]) and full.system not in ("", map.system):
        why += f", with the system prompt in `{full.system}`"
    if added:
        why += f", with `{full.context}` added to every question" if full.context in added else ""
        return [DetectedLayout("columns", why, full.entries(), is_certain)]
    context = named.get(map.context)
    if context is None or context.kind != "constant":
        return [DetectedLayout(layout.name, why + constant_note(columns, used, rows), is_certain=is_certain)]
    bare = ColumnMap(map.user, map.assistant)
    said = f"`{map.user}` is answered by `{map.assistant}`{constant_note(columns, bare.used(), rows)}"
    return [
        DetectedLayout("columns", said, bare.entries(), is_certain=False),
        DetectedLayout(layout.name, f"{why}, with `{context.name}` added to every question", is_certain=False),
    ]


def _multiple_choice(rows: Rows, columns: list[ColumnProfile]) -> list[DetectedLayout]:
    """Find a multiple-choice question with its options and the right one; [] if the columns are none."""
    options = list(option_columns(tuple(column.name for column in columns)))
    options = options or [name for row in rows[:1] if (name := option_list_column(row))]
    rest = [column for column in columns if column.name not in options]
    answers = [column.name for column in rest if is_option_answer(column.name)]
    texts = [column for column in rest if column.is_text() and column.name not in answers]
    asking = [column for column in texts if question_score(column.name) > 0] or texts
    if not options or not answers or not asking:
        return []
    if len(answers) > 1:
        raise DataError(
            f"The options of a multiple-choice question are in {in_backticks(options)}, and {in_backticks(answers)} "
            f"could each say which one is right. {how_to_choose(asking[0].name, answers[0])}"
        )
    map = ColumnMap(asking[0].name, answers[0], _system(columns))
    map = replace(map, context=_context([column for column in texts if column != asking[0]], map))
    why = f"`{map.user}` is a multiple-choice question answered by `{map.assistant}`, with the options in"
    doubt = f", although {in_backticks([asking[1].name])} could also be the question" if len(asking) > 1 else ""
    is_certain = len(asking) == 1 or asking[1].name == map.context
    return [DetectedLayout("columns", f"{why} {in_backticks(options)}{doubt}", map.entries(), is_certain)]


def _is_all(layout: Layout, columns: list[ColumnProfile]) -> bool:
    """Return whether a table has only a prompt and a completion, so that nothing else can be intended."""
    return layout.name == "prompt_completion" and len(columns) == 2


def _doubt(ask: ColumnProfile, answer: ColumnProfile, rows: Rows, is_all: bool) -> str:
    """Explain what speaks against a well-known table that has no other texts; "" if nothing does."""
    few = [column for column in (ask, answer) if column.kind in ("constant", "category")]
    if few and not is_all:
        return f", but one of them has only {_texts(few[0].distinct)} in {len(rows)} rows"
    is_odd = {"identifier", "name"} & {ask.kind, answer.kind} and len(rows) >= ENOUGH_ROWS
    return ", but one of them contains numbers, dates, ids or names" if is_odd else ""


def _texts(number: int) -> str:
    return "1 text" if number == 1 else f"{number} different texts"


def _any_table(rows: Rows) -> list[DetectedLayout]:
    """Find question, answer, system prompt and an instruction's input in a table of unknown columns."""
    columns = profile_columns(rows)
    inputs, system = _inputs(columns), _system(columns)
    pair = choose_question_and_answer([column for column in columns if column.name not in (*inputs, system)])
    if pair is None or pair.is_unnamed and any(column.kind == "nested" for column in columns):
        return []
    map = _completed(pair, columns, inputs)
    is_instructed = map.user != pair.question
    if is_instructed and answer_score(pair.answer) >= 5:
        pair = replace(pair, basis="", is_reversible=False)
    why = f"{in_backticks([map.user])} looks like the question and {in_backticks([pair.answer])} like the answer"
    why += f", with {in_backticks([map.context])} added to every question" if is_instructed else ""
    why += f", judging by {pair.basis}" if pair.basis else ""
    why += constant_note(columns, map.used(), rows)
    first = DetectedLayout("columns", why, map.entries(), is_certain=not pair.basis)
    asked = {"context": pair.answer} if is_instructed else {"user": pair.answer}
    reversed = replace(map, assistant=pair.question, **asked)
    other = DetectedLayout("columns", "the same two columns the other way round", reversed.entries(), is_certain=False)
    return [first, other] if pair.is_reversible else [first]


def _completed(pair: ColumnPair, columns: list[ColumnProfile], inputs: list[str]) -> ColumnMap:
    """Add the system prompt and the text that the question is about.

    An instruction that is the same in all rows is a part of every question; what varies is what it is about.
    """
    used = [pair.question, pair.answer, _system(columns)]
    instruction = next((column.name for column in columns if column.name not in used and _instructs(column)), "")
    if instruction:
        return ColumnMap(instruction, pair.answer, _system(columns), pair.question)
    context = inputs[0] if inputs and normalize(pair.question) == "instruction" else ""
    context = context or _context(columns, ColumnMap(pair.question, pair.answer))
    return ColumnMap(pair.question, pair.answer, _system(columns), context)


def _instructs(column: ColumnProfile) -> bool:
    """Return whether a column repeats one question or instruction of a few words or more."""
    return column.kind == "constant" and question_score(column.name) >= 5 and column.words >= PHRASE_WORDS


def _inputs(columns: list[ColumnProfile]) -> list[str]:
    """Find Alpaca's `input`, which belongs to its `instruction`."""
    names = [column.name for column in columns if column.filled]
    return [name for name in names if normalize(name) == "input" and "instruction" in map(normalize, names)]


def _context(columns: list[ColumnProfile], map: ColumnMap) -> str:
    """Find the text that a question is about, such as an article or a table's schema; "" if there is none."""
    used = [map.user, map.assistant, _system(columns)]
    texts = [one for one in columns if one.name not in used and one.filled >= 0.5]
    return next((one.name for one in texts if normalize(one.name) in CONTEXTS and one.kind != "constant"), "")


def _system(columns: list[ColumnProfile]) -> str:
    """Find the system prompt; `instructions` are one beside a question and an answer."""
    names = [column.name for column in columns if column.filled]
    texts = [column.name for column in columns if column.is_text() and normalize(column.name) != "instructions"]
    is_asked = any(question_score(name) >= 5 for name in texts) and any(answer_score(name) >= 5 for name in texts)
    instructions = [name for name in names if normalize(name) == "instructions" and is_asked]
    return system_column(names) or next(iter(instructions), "")


def _speaker_column(columns: list[ColumnProfile], rows: Rows) -> str:
    """Find the column that names the author of each row's only text; "" if the rows are not messages."""
    if _share(rows, message_rows.is_message) < 0.5:
        return ""
    if [normalize(column.name) for column in columns] == ["text"]:
        return "text"  # a chat exported as lines
    if any(answer_score(column.name) >= 5 for column in columns if column.is_text()):
        return ""
    speakers = [column for column in columns if normalize(column.name) in SPEAKERS and column.kind != "prose"]
    if not speakers and any(normalize(column.name) in TIMESTAMPS for column in columns):
        speakers = [column for column in columns if normalize(column.name) in WRITERS]
    if sum(column.kind == "prose" for column in columns) > 1 and not speakers:
        return ""
    return next((column.name for column in speakers if column.kind != "prose"), "")


def _plain_text(rows: Rows) -> list[DetectedLayout]:
    """Offer plain text if at least half of the rows have text in the column found in the first row."""
    column = next((name for row in rows if (name := text_column(row))), None)
    if column is None or _share(rows, lambda row: isinstance(row.get(column), str)) < 0.5:
        return []
    why = (
        f"{in_backticks([column])} contains plain text, which is trained on from beginning to end, "
        "without a chat format"
    )
    return [DetectedLayout("text", why)]


def _holds_text(columns: dict[str, ColumnProfile], map: ColumnMap) -> bool:
    """Return whether both columns exist and hold text in at least half of the rows."""
    needed = [columns.get(map.user), columns.get(map.assistant)]
    return all(column is not None and column.filled >= 0.5 for column in needed)


def _share(rows: Rows, fits: Callable[[JsonObject], bool]) -> float:
    return sum(fits(row) for row in rows) / max(len(rows), 1)


def decide_layout(candidates: list[DetectedLayout], settings: DataSettings) -> tuple[DataSettings, Certainty]:
    """Return the settings with the layout to use, the first of the candidates unless one was chosen."""
    if settings.format != "auto":
        return settings, "chosen"
    if settings.columns:
        return settings.model_copy(update={"format": "columns"}), "chosen"
    best = candidates[0]
    decided = settings.model_copy(update={"format": best.format, "columns": best.columns})
    return decided, "certain" if best.is_certain else "guess"


def detect_unless_chosen(rows: Rows, settings: DataSettings) -> list[DetectedLayout]:
    """Detect the layouts that fit; if the settings name a layout, none has to."""
    try:
        return detect_layouts(rows)
    except DataError:
        if settings.format != "auto" or settings.columns:
            return []
        raise

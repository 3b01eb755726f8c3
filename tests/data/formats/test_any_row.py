"""Laws for rows that nobody has thought of: every row is a conversation or a reason, and no word is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.formats.converters.reply_trees import conversations_of_rows
from sft_app.data.formats.converters.tables import ColumnMap
from sft_app.data.formats.detection import detect_layouts
from sft_app.data.formats.registry import LAYOUTS, converter
from sft_app.data.messages import ROLES, Message
from sft_app.data.rows import Rejected, Row
from sft_app.errors import DataError
from sft_app.settings import DataSettings

FORMATS = list(LAYOUTS)
COLUMNS = ("user=question", "assistant=answer", "system=system_prompt", "context=context")
READINGS = [
    DataSettings(
        format=name,
        columns=COLUMNS if name == "columns" else (),
        code_language="any",
        solutions_per_problem=3,
        reply_paths="all",
        text_language="en",
    )
    for name in FORMATS
]
patiently = hypothesis_settings(deadline=None)
"""Other work on the machine is no failure."""
ORDER = re.compile("x|s?a?ua((s?u|t+)a)*")
INITIALS = {"system": "s", "user": "u", "assistant": "a", "tool": "t", "text": "x"}

MESSAGE_KEYS = (
    "role from content value weight tool_calls function_call function name arguments type text refusal rank lang "
    "deleted review_result message_id parent_id replies language solution"
)
KEYS = {
    **{name: {column for map in layout.column_maps for column in map.used()} for name, layout in LAYOUTS.items()},
    "messages": {"messages", "chat", "tools", "system"},
    "sharegpt": {"conversations", "functions", "system"},
    "prompt_completion": {"prompt", "completion", "tools"},
    "preference": {"prompt", "chosen", "rejected", "system", "tools"},
    "text": {"text", "content"},
    "oasst": {"prompt", "message_id", "parent_id", "text", "role"},
    "turns": {"conversation", "dialog", "system", "tools"},
    "message_rows": {"role", "content", "conversation_id", "turn"},
    "intents": {"patterns", "responses"},
    "code_contests": {"description", "solutions"},
    "columns": {"question", "answer", "system_prompt", "context"},
}
"""The columns that each layout looks at."""

words = st.one_of(
    st.sampled_from([*ROLES, "en", "", " ", "q", "1", "<image>", "[]", '{"name": "f"}', "half \ud83d", "True"]),
    st.text(max_size=8),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-1, 5), st.floats(), st.just(10**400), words)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(MESSAGE_KEYS.split()) | st.text(max_size=3)
    return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5)


values = st.recursive(scalars, _grown, max_leaves=12)
pairs = st.tuples(*(st.fixed_dictionaries({"role": st.just(role), "content": words}) for role in ("user", "assistant")))
strangers = st.lists(st.fixed_dictionaries({"role": st.sampled_from([*ROLES]), "content": words | values}), max_size=5)
messages = st.lists(pairs, max_size=2).map(lambda found: [turn for pair in found for turn in pair]) | strangers
marks = {"rank": scalars, "lang": words, "deleted": scalars, "review_result": scalars}
answers = st.fixed_dictionaries({"text": words, "role": st.just("assistant")}, optional=marks)
prompts = st.fixed_dictionaries({"text": words, "role": words | st.just("prompter")}, optional=marks).flatmap(
    lambda node: (st.lists(answers | values, max_size=3) | values).map(lambda replies: {**node, "replies": replies})
)
dialogues = st.lists(words, max_size=3).map(
    lambda said: "".join(f"\n\n{'Assistant' if place % 2 else 'Human'}: {text}" for place, text in enumerate(said))
)
solutions = st.lists(st.fixed_dictionaries({"language": scalars, "solution": words | values}), max_size=3)
cells = words | messages | values | prompts | solutions


def rows_of(format: str) -> st.SearchStrategy[dict[str, Any]]:
    """Rows with a layout's columns, or some of them: often as they should be, often with whatever in them."""
    own: dict[str, st.SearchStrategy[Any]] = {"prompt": prompts if format == "oasst" else words | messages}
    own.update(
        {"messages": messages, "conversations": messages, "completion": words | messages, "solutions": solutions}
    )
    own.update({"chosen": dialogues | messages, "rejected": dialogues | messages})
    columns = {column: own.get(column, words) | cells for column in sorted(KEYS[format])}
    well_formed = {column: own.get(column, words) for column in columns}
    return st.fixed_dictionaries(well_formed) | st.fixed_dictionaries({}, optional={**columns, "a\nb": cells})


rows = st.sampled_from(FORMATS).flatmap(rows_of)


def assert_valid(conversation: Conversation) -> None:
    assert ORDER.fullmatch("".join(INITIALS[message.role] for message in conversation.messages))
    for message in conversation.messages:
        assert isinstance(message.content, str)
        assert message.content.strip() or message.role in ("system", "tool")
        assert message.content.encode().decode() == message.content
    assert conversation.answers()


def assert_told(reason: str) -> None:
    assert reason.strip()
    assert len(reason.splitlines()) == 1


def converse(messages: list[Any]) -> None:
    try:
        assert_valid(make_conversation(messages))
    except DataError as error:
        assert_told(str(error))


@pytest.mark.parametrize("reading", READINGS, ids=FORMATS)
@patiently
@given(data=st.data())
def test_row_becomes_conversations_or_is_told(reading: DataSettings, data: st.DataObject):
    row = data.draw(rows_of(reading.format))
    try:
        made = converter(reading)(row, reading)
    except DataError as error:
        assert_told(str(error))
        return
    assert made
    for messages in made:
        converse(messages)


@patiently
@given(values=st.lists(rows | prompts.map(lambda node: {"message_id": "1", "parent_id": "q", **node}), max_size=6))
@example(values=[{"message_id": "1", "parent_id": ["1"]}, {"message_id": "2", "rank": float("-inf")}])
def test_flat_rows_become_conversations_or_are_told(values: list[dict[str, Any]]):
    numbered = [Row(number, row) for number, row in enumerate(values, start=1)]
    for item in conversations_of_rows(numbered, DataSettings(text_language="en")):
        if isinstance(item, Rejected):
            assert_told(item.reason)
        else:
            converse(item[1])


@patiently
@given(rows=st.lists(rows, max_size=7))
@example(rows=[])
def test_layout_is_guessed_or_told(rows: list[dict[str, Any]]):
    try:
        guesses = detect_layouts(rows)
    except DataError as error:
        assert_told(str(error))
        return
    assert guesses
    for guess in guesses:
        assert_told(guess.why)
        converter(DataSettings(format=guess.format, columns=guess.columns))  # type: ignore[arg-type]


# what is valid stays as it is

texts = st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
answered = st.tuples(texts, texts)


@st.composite
def any_conversation(draw: st.DrawFn) -> Conversation:
    """With or without a system text, calls of tools in between, and turns that are context only."""
    if draw(st.integers(0, 9)) == 0:
        return Conversation((Message("text", draw(texts)),))
    made = [Message("system", draw(st.text(max_size=5)))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        made.append(Message("user", draw(texts)))
        for _ in range(draw(st.integers(0, 2))):
            made.append(Message("assistant", draw(texts), draw(st.booleans())))
            made.append(Message("tool", draw(st.text(max_size=5))))
        made.append(Message("assistant", draw(texts), draw(st.booleans())))
    return Conversation((*made[:-1], Message("assistant", made[-1].content)))


@patiently
@given(conversation=any_conversation())
def test_conversation_comes_back_from_its_messages(conversation: Conversation):
    assert_valid(conversation)
    assert make_conversation(conversation.as_dicts()) == conversation


@patiently
@given(conversation=any_conversation())
def test_repair_leaves_what_is_valid_as_it_is(conversation: Conversation):
    assert make_conversation(conversation.as_dicts(), repair=True) == conversation


@patiently
@given(messages=messages)
def test_repair_gives_a_valid_conversation_or_says_why_not(messages: list[Any]):
    try:
        assert_valid(make_conversation(messages, repair=True))
    except DataError as error:
        assert_told(str(error))


@patiently
@given(messages=messages)
def test_repair_accepts_all_that_is_accepted_without(messages: list[Any]):
    try:
        conversation = make_conversation(messages)
    except DataError:
        return
    assert make_conversation(messages, repair=True) == conversation


# no word is lost, in any layout


Writer = Callable[[list[dict[str, str]]], dict[str, Any]]


def _sharegpt(spoken: list[dict[str, str]]) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in spoken]}


def _parts(spoken: list[dict[str, str]]) -> dict[str, Any]:
    return {"messages": [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in spoken]}


def _tree(spoken: list[dict[str, str]]) -> dict[str, Any]:
    replies: list[Any] = []
    for turn in reversed(spoken):
        replies = [{"text": turn["content"], "role": turn["role"], "replies": replies}]
    return {"prompt": replies[0]}


WRITERS: list[tuple[str, Writer]] = [
    ("messages", lambda spoken: {"messages": spoken}),
    ("messages", _parts),
    ("sharegpt", _sharegpt),
    ("prompt_completion", lambda spoken: {"prompt": spoken[:-1], "completion": spoken[-1:]}),
    ("preference", lambda spoken: {"prompt": spoken[:-1], "chosen": spoken[-1:], "rejected": spoken[-1:]}),
    ("preference", lambda spoken: {"chosen": spoken, "rejected": spoken}),
    ("oasst", _tree),
]


@pytest.mark.parametrize(("format", "write"), WRITERS)
@patiently
@given(system=st.lists(texts, max_size=1), pairs=st.lists(answered, min_size=1, max_size=3))
def test_whole_conversation_keeps_its_words_in_order(
    format: str, write: Writer, system: list[str], pairs: list[tuple[str, str]]
):
    spoken = [{"role": "system", "content": text} for text in system]
    for question, answer in pairs:
        spoken += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    reading = DataSettings(format=format)  # type: ignore[arg-type]
    [messages] = converter(reading)(write(spoken), reading)
    assert make_conversation(messages).as_dicts() == spoken


@patiently
@given(pairs=st.lists(answered, min_size=1, max_size=3), seed=st.integers(0, 99))
def test_flat_tree_keeps_its_words_in_order(pairs: list[tuple[str, str]], seed: int):
    said = [text for pair in pairs for text in pair]
    values: list[dict[str, Any]] = []
    for place, text in enumerate(said):
        parent, role = str(place - 1) if place else None, "assistant" if place % 2 else "prompter"
        values.append({"message_id": str(place), "parent_id": parent, "text": text, "role": role})
    random.Random(seed).shuffle(values)
    numbered = [Row(number, row) for number, row in enumerate(values, start=1)]
    [item] = conversations_of_rows(numbered, DataSettings())
    assert isinstance(item, tuple)
    assert [message.content for message in make_conversation(item[1]).messages] == said


TABLES = [
    *((name, map) for name, layout in LAYOUTS.items() for map in layout.column_maps),
    ("columns", ColumnMap("question", "answer", "system_prompt", "context")),
]


@pytest.mark.parametrize(("format", "columns"), TABLES)
@patiently
@given(question=texts, answer=texts, system=texts, context=texts)
def test_table_keeps_its_words_in_order(
    format: str, columns: ColumnMap, question: str, answer: str, system: str, context: str
):
    row = {columns.user: question, columns.assistant: answer, columns.system: system, columns.context: context}
    row.pop("", None)
    reading = DataSettings(format=format, columns=COLUMNS if format == "columns" else ())  # type: ignore[arg-type]
    [messages] = converter(reading)(row, reading)
    asked = f"{question}\n{context}" if columns.context else question
    expected = [*([system] if columns.system else []), asked, answer]
    assert [message.content for message in make_conversation(messages).messages] == expected


@patiently
@given(text=texts)
def test_plain_text_keeps_its_words(text: str):
    reading = DataSettings(format="text")
    [messages] = converter(reading)({"text": text}, reading)
    assert make_conversation(messages) == Conversation((Message("text", text),))

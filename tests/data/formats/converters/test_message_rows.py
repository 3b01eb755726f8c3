"""Rows of one message each become conversations, once it is known who the assistant is."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.data.formats.converters.message_rows import conversations_of_messages, message_columns, message_notes
from sft_app.data.formats.detection import detect_layouts
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.errors import DataError
from sft_app.settings import DataSettings


def joined(rows: list[JsonObject], **settings: Any) -> tuple[list[list[str]], list[Rejected]]:
    numbered = [Row(number, row) for number, row in enumerate(rows, start=1)]
    items = list(conversations_of_messages(numbered, DataSettings(**settings)))
    chats = [item[1] for item in items if not isinstance(item, Rejected)]
    left_out = [item for item in items if isinstance(item, Rejected)]
    return [[f"{one['role']}: {one['content']}" for one in chat] for chat in chats], left_out


def test_messages_are_grouped_by_conversation_and_ordered_by_turn() -> None:
    rows = [
        {"conversation_id": "b", "turn": 2, "role": "agent", "message": "Hello."},
        {"conversation_id": "a", "turn": 1, "role": "customer", "message": "Hi"},
        {"conversation_id": "a", "turn": 2, "role": "agent", "message": "Yo!"},
        {"conversation_id": "b", "turn": 1, "role": "customer", "message": "Hey"},
    ]
    assert joined(rows)[0] == [["user: Hey", "assistant: Hello."], ["user: Hi", "assistant: Yo!"]]


def test_turns_of_one_speaker_are_joined_and_a_last_question_is_counted() -> None:
    rows: list[JsonObject] = [
        {"name": "Ann", "is_user": True, "mes": "Hi"},
        {"name": "Ann", "is_user": True, "mes": "Anyone?"},
        {"name": "Nell", "is_user": False, "mes": "Yo!"},
        {"name": "Ann", "is_user": True, "mes": "Thanks"},
    ]
    chats, left_out = joined(rows)
    assert chats == [["user: Hi\nAnyone?", "assistant: Yo!"]]
    assert [(one.row, one.by_choice) for one in left_out] == [(4, True)]


def test_replies_are_one_conversation() -> None:
    rows = [
        {"tweet_id": "1", "inbound": "True", "text": "Hi", "in_response_to_tweet_id": ""},
        {"tweet_id": "2", "inbound": "False", "text": "Yo!", "in_response_to_tweet_id": "1.0"},
        {"tweet_id": "3", "inbound": "True", "text": "Hey", "in_response_to_tweet_id": ""},
        {"tweet_id": "4", "inbound": "False", "text": "Hello.", "in_response_to_tweet_id": "3.0"},
    ]
    assert joined(rows)[0] == [["user: Hi", "assistant: Yo!"], ["user: Hey", "assistant: Hello."]]


def test_names_of_people_are_asked_about_or_given() -> None:
    rows = [{"from": "Ann", "text": "Hi"}, {"from": "Nell", "text": "Yo!"}]
    with pytest.raises(DataError, match="Which of them is the assistant"):
        joined(rows)
    assert joined(rows, assistant="nell")[0] == [["user: Hi", "assistant: Yo!"]]
    with pytest.raises(DataError, match="No message is by 'Zoe'"):
        joined(rows, assistant="Zoe")


@pytest.mark.parametrize(
    "name", ["Ticket ID", "Case Number", "Ticket #", "conv_id", "call-id", "dialogId", "threadId", "chat", "session"]
)
def test_the_conversation_is_known_under_any_usual_name(name: str) -> None:
    asked = [{name: f"T-{one}", "role": "user", "Text": f"Hi {one}"} for one in range(3)]
    answered = [{name: f"T-{one}", "role": "agent", "Text": f"Yo {one}"} for one in range(3)]
    assert joined([*asked, *answered])[0] == [[f"user: Hi {one}", f"assistant: Yo {one}"] for one in range(3)]
    assert message_columns(asked[0], DataSettings()) == list(asked[0])


def test_an_unknown_column_that_may_name_conversations_is_asked_about() -> None:
    rows = [{"room": f"R{one // 2}", "role": ("user", "agent")[one % 2], "text": f"{one}"} for one in range(6)]
    with pytest.raises(DataError, match="All 6 messages would become one conversation, but `room`.*`conversation_id`"):
        joined(rows)
    with pytest.raises(DataError, match="`room`"):
        joined([{**row, "channel_id": "C"} for row in rows])
    for_each_role = [{**row, "room": row["role"]} for row in rows]
    assert len(joined(for_each_role)[0]) == 1
    ratings = [{"stars": one // 2 % 3, "role": ("user", "agent")[one % 2], "text": f"{one}"} for one in range(40)]
    assert len(joined(ratings)[0]) == 1


def test_a_row_without_the_conversation_that_others_name_is_no_part_of_any() -> None:
    rows = [
        {"ticket_id": "1", "role": "user", "text": "Hi"},
        {"ticket_id": "1", "role": "agent", "text": "Yo!"},
        {"ticket_id": "", "role": "user", "text": "Hey"},
    ]
    chats, left_out = joined(rows)
    assert chats == [["user: Hi", "assistant: Yo!"]]
    assert [(one.row, one.by_choice) for one in left_out] == [(3, False)]


TURNS = [("user", "1"), ("agent", "2"), ("user", "3"), ("agent", "4")]


@pytest.mark.parametrize(
    "columns",
    [
        {"date": ["2024-05-01"] * 2 + ["2024-05-02"] * 2, "time": ["23:50", "23:55", "00:02", "00:06"]},
        {"time": ["23:50", "23:55", "00:02", "00:06"]},
        {"id": [81644, 33481, 97227, 46993], "created_at": [f"2024-05-01T1{one}:00:00" for one in range(4)]},
        {"id": [81644, 33481, 97227, 46993]},
        {"order": [5000, 4000, 4998, 3998]},
        {"order": [7, 7, 7, 7], "Created At": ["3 May 2025 10:00"] * 2 + ["3 May 2025 10:30"] * 2},
        {"turn": ["turn 8", "turn 9", "turn 10", "turn 11"]},
    ],
)
def test_messages_that_are_in_order_stay_in_order(columns: dict[str, list[Any]]) -> None:
    rows = [{"role": role, "text": text} for role, text in TURNS]
    numbered = [{**row, **{name: cells[at] for name, cells in columns.items()}} for at, row in enumerate(rows)]
    assert joined(numbered)[0] == [["user: 1", "assistant: 2", "user: 3", "assistant: 4"]]


@pytest.mark.parametrize(
    "columns",
    [
        {"date": ["2024-05-01"] * 2 + ["2024-05-02"] * 2, "time": ["23:50", "23:55", "00:02", "00:06"]},
        {"id": [5, 6, 7, 8]},
        {"id": [50, 600, 7000, 80000]},
        {"order": [1, 2, 3, 4]},
        {"Message Number": [1, 2, 3, 4]},
        {"turn": ["turn 8", "turn 9", "turn 10", "turn 11"]},
        {"id": [1, 2, 3, 4], "created_at": ["2024-05-01"] * 4},
        {"id": [1, 2, 3, 4], "date": ["2024-05-01"] * 2 + ["2024-05-02"] * 2},
    ],
)
def test_messages_are_put_in_order(columns: dict[str, list[Any]]) -> None:
    rows = [{"role": role, "text": text} for role, text in TURNS]
    numbered = [{**row, **{name: cells[at] for name, cells in columns.items()}} for at, row in enumerate(rows)]
    assert joined(numbered[::-1])[0] == [["user: 1", "assistant: 2", "user: 3", "assistant: 4"]]


@pytest.mark.parametrize(
    "mark", [{"private": "true"}, {"Is Internal": True}, {"public": "no"}, {"type": "Internal note"}]
)
def test_internal_notes_are_left_out_and_counted(mark: JsonObject) -> None:
    rows: list[JsonObject] = [
        {"ticket_id": 1, "role": "customer", "text": "Hi", **dict.fromkeys(mark, "")},
        {"ticket_id": 1, "role": "agent", "text": "May be fraud.", **mark},
        {"ticket_id": 1, "role": "agent", "text": "Yo!", **dict.fromkeys(mark, "")},
    ]
    chats, left_out = joined(rows)
    assert chats == [["user: Hi", "assistant: Yo!"]]
    assert [(one.row, one.by_choice) for one in left_out] == [(2, True)]
    name = next(iter(mark))
    assert f"(`{name}`)" in left_out[0].reason
    assert message_notes(rows, DataSettings()) == [f"Internal notes, which `{name}` marks, are left out."]
    assert name in message_columns(rows[1], DataSettings())


def test_notes_say_what_was_assumed() -> None:
    rows: list[JsonObject] = [
        {"role": "user", "text": "Hi", "Time": "soon"},
        {"role": "bot", "text": "Wait", "Time": "later"},
        {"role": "agent", "text": "Yo!", "Time": "even later"},
    ]
    several, one, times = message_notes(rows, DataSettings())
    assert several.startswith("`bot`, `agent` are read as the assistant.")
    assert "one conversation" in one
    assert times.startswith("`Time` could not be read")
    told = [{**row, "chat_id": 1, "Time": f"2025-05-05 10:0{at}"} for at, row in enumerate(rows)]
    assert message_notes(told, DataSettings(assistant="agent")) == []


@pytest.mark.parametrize(
    ("speaker", "names"),
    [("author_type", ("customer", "agent")), ("incoming", (True, False)), ("sender_role", ("end-user", "agent"))],
)
@pytest.mark.parametrize("text", ["body", "body_text", "comment"])
def test_help_desk_rows_say_who_speaks(speaker: str, names: tuple[Any, Any], text: str) -> None:
    said = ("Where do I find the valve?", "It is below the lid.")
    rows = [{"ticket_id": at // 2, speaker: names[at % 2], text: f"{said[at % 2]} {at}"} for at in range(6)]
    assert detect_layouts(rows)[0].format == "message_rows"
    numbered = [Row(at, row) for at, row in enumerate(rows, start=1)]
    read = list(conversations_of_messages(numbered, DataSettings(data="tickets.csv")))
    assert [[one["role"] for one in item[1]] for item in read if not isinstance(item, Rejected)] == [
        ["user", "assistant"]
    ] * 3

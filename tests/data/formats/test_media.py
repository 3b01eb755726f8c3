"""Rows with pictures, sound or videos are refused, also where a message holds them; other attachments are named."""

from __future__ import annotations

import json

import pytest

from sft_app.data.formats.media import attached_note, attached_to_messages, media_reason
from sft_app.data.formats.usable_rows import usable_rows
from sft_app.data.rows import JsonObject, Rejected, Row

REFUSED = "only text can be trained on"


@pytest.mark.parametrize(
    "row",
    [
        {"image": "pics/0.jpg", "question": "q", "answer": "a"},
        {"image_url": "https://shop.example/42", "question": "q", "answer": "a"},
        {"images": ["pics/0.jpg"], "messages": []},
        {"picture": {"bytes": b"x", "path": None}},
        {"anything": {"bytes": b"x", "path": None}},
        {"conversations": [{"from": "human", "value": "<image>\nWhat is it?"}]},
        {"audio": "a.wav", "text": "t"},
    ],
)
def test_media_is_refused_with_its_column(row: JsonObject) -> None:
    assert REFUSED in media_reason(row)


@pytest.mark.parametrize("row", [{"image": "", "a": "b"}, {"a": "Use <video src='x'></video>."}, {"images": 3}])
def test_text_is_no_media(row: JsonObject) -> None:
    assert media_reason(row) == ""


ASKED = {"role": "user", "content": "What does this show?"}
ANSWERED = {"role": "assistant", "content": "A red valve."}


def rows_with(**attached: object) -> list[JsonObject]:
    """Build rows whose first message has an attachment: as values, as text, in a tree and in a log."""
    turns = [{**ASKED, **attached}, ANSWERED]
    node = {"author": {"role": "user"}, "content": {"parts": ["q"]}, "metadata": attached}
    return [
        {"messages": turns},
        {"messages": json.dumps(turns)},
        {"mapping": {"a": {"parent": None, "message": node}}},
        {"request": {"messages": turns}},
        {"comments": [{"author_id": 1, "body": "q", **attached}]},
    ]


@pytest.mark.parametrize(
    "attached",
    [
        {"attachments": [{"type": "image", "url": "https://shop.example/42"}]},
        {"attachments": [{"name": "valve.PNG"}]},
        {"files": ["voice.mp3"]},
        {"files": [{"file_kind": "image", "file_name": "scan"}]},
        {"media": {"mime_type": "video/mp4"}},
        {"images": ["valve.png"]},
        {"image_url": {"url": "https://shop.example/42"}},
    ],
)
def test_media_in_a_message_is_refused_with_its_key(attached: JsonObject) -> None:
    for row in rows_with(**attached):
        (refused,) = usable_rows([Row(1, row)], is_parquet=False)
        assert isinstance(refused, Rejected)
        assert REFUSED in refused.reason
        assert f"`{next(iter(attached))}` of a message" in refused.reason


@pytest.mark.parametrize(
    "attached",
    [{"attachments": [{"file_name": "manual.pdf", "extracted_content": "Turn left."}]}, {"files": ["file-18"]}],
)
def test_other_attachments_of_messages_are_named(attached: JsonObject) -> None:
    for row in rows_with(**attached):
        (read,) = usable_rows([Row(1, row, "read as Windows-1252")], is_parquet=False)
        assert isinstance(read, Row)
        assert read.values == row
        name = next(iter(attached))
        assert read.note == f"read as Windows-1252, and read without what is attached to the messages (`{name}`)"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{**ASKED, "attachments": [], "files": None, "images": ""}, ANSWERED]},
        {"messages": [ASKED, {**ANSWERED, "tool_calls": [{"name": "show", "arguments": {"image": "a.png"}}]}]},
        {"messages": [ASKED, {"role": "tool", "content": {"image": "a.png"}}], "tools": [{"image": {"type": "x"}}]},
        {"products": [{"title": "Valve", "image": "a.png"}], "question": "q", "answer": "a"},
        {"question": "q", "answer": '{"image": "a.png", "role": 3}'},
    ],
)
def test_what_belongs_to_tools_and_texts_is_no_attachment(row: JsonObject) -> None:
    attached = attached_to_messages(row)
    assert media_reason(row, attached) == attached_note(attached) == ""

"""Rows with pictures or sound are refused, and Parquet's padding is no argument."""

from __future__ import annotations

import pytest

from sft_app.data.formats.usable_rows import media_reason, usable_rows, without_padding
from sft_app.data.rows import JsonObject, Row


@pytest.mark.parametrize(
    "row",
    [
        {"image": "pics/0.jpg", "question": "q", "answer": "a"},
        {"images": ["pics/0.jpg"], "messages": []},
        {"picture": {"bytes": b"x", "path": None}},
        {"anything": {"bytes": b"x", "path": None}},
        {"conversations": [{"from": "human", "value": "<image>\nWhat is it?"}]},
        {"audio": "a.wav", "text": "t"},
    ],
)
def test_media_is_refused_with_its_column(row: JsonObject) -> None:
    assert "only text can be trained on" in media_reason(row)


@pytest.mark.parametrize("row", [{"image": "", "a": "b"}, {"a": "Use <video src='x'></video>."}, {"images": 3}])
def test_text_is_no_media(row: JsonObject) -> None:
    assert media_reason(row) == ""


def test_padding_is_dropped_only_within_tools_and_only_for_parquet() -> None:
    row = {"note": None, "messages": [{"content": None, "tool_calls": [{"arguments": {"x": 1, "y": None}}]}]}
    assert without_padding(row) == {
        "note": None,
        "messages": [{"content": None, "tool_calls": [{"arguments": {"x": 1}}]}],
    }
    assert list(usable_rows([Row(1, row)], is_parquet=False)) == [Row(1, row)]

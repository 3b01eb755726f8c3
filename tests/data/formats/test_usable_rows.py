"""Parquet's padding is no argument."""

from __future__ import annotations

from sft_app.data.formats.usable_rows import usable_rows, without_padding
from sft_app.data.rows import Row


def test_padding_is_dropped_only_within_tools_and_only_for_parquet() -> None:
    row = {"note": None, "messages": [{"content": None, "tool_calls": [{"arguments": {"x": 1, "y": None}}]}]}
    assert without_padding(row) == {
        "note": None,
        "messages": [{"content": None, "tool_calls": [{"arguments": {"x": 1}}]}],
    }
    assert list(usable_rows([Row(1, row)], is_parquet=False)) == [Row(1, row)]

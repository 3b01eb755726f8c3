"""Rows as a text that other programs read: CSV for spreadsheets, JSONL for scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from sft_app.runtime.files import jsonl_line


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=columns)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return table.getvalue()


def jsonl_text(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(map(jsonl_line, rows))


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value

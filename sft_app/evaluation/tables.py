"""Write rows as CSV for spreadsheets or JSONL for scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from sft_app.runtime.files import jsonl_line


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """Return the rows as CSV. A cell that a spreadsheet would read as a formula gets a leading apostrophe."""
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

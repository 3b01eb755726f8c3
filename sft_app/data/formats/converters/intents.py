"""Convert a chatbot's intents to message lists: each pattern is a question, and each response an answer to it.

Source: the `intents.json` of chatbot tutorials (tag, patterns, responses).
"""

from __future__ import annotations

from typing import Any

from sft_app.data.messages import RawMessages
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings


def from_intents(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"patterns": […], "responses": […]}`. Raises: DataError if one of them has no text."""
    patterns, responses = _texts(row.get("patterns")), _texts(row.get("responses"))
    if not patterns or not responses:
        raise DataError("`patterns` and `responses` must both be lists with at least one text")
    return [
        [{"role": "user", "content": pattern}, {"role": "assistant", "content": response}]
        for pattern in patterns
        for response in responses
    ]


def patterns_column(row: JsonObject) -> str:
    """Return the column of the patterns if the row is an intent; otherwise ""."""
    return "patterns" if _texts(row.get("patterns")) and _texts(row.get("responses")) else ""


def intent_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_intents` reads."""
    return ["patterns", "responses"]


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str) and text.strip()] if isinstance(value, list) else []

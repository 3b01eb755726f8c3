"""Join the lines of an OpenAI batch by `custom_id`: what was asked, and what was answered.

Source: OpenAI, "Batch API".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sft_app.data.formats.converters.turn_shapes import find_shape
from sft_app.data.messages import RawMessages
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.errors import DataError
from sft_app.settings import DataSettings

ONLY_ASKED = (
    "the file holds what a batch asked, without the answers. Put the lines of the batch's output file into this file"
)
ONLY_ANSWERED = (
    "the file holds what a batch answered, without what was asked. "
    "Put the lines of the batch's input file into this file"
)


def batch_column(row: JsonObject) -> str:
    """Return the column that identifies a line of a batch; "" if the row is none."""
    return "custom_id" if is_batch_line(row) else ""


def is_batch_line(row: JsonObject) -> bool:
    """Return whether a row is a request of a batch or the response to one."""
    return "custom_id" in row and (_asked(row) is not None or isinstance(row.get("response"), dict))


def batch_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that are read."""
    return ["custom_id", "body", "response", "error"]


def from_batch_line(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Refuse a single line. Raises: DataError always, because lines are joined."""
    raise DataError("it is not a line of a batch")


def conversations_of_batch(
    rows: Iterable[Row | Rejected], settings: DataSettings
) -> Iterator[tuple[Row, RawMessages] | Rejected]:
    """Join each request with its response, in the order of the requests; the others are yielded as `Rejected`."""
    asked: dict[str, Row] = {}
    answered: dict[str, Row] = {}
    for row in rows:
        if isinstance(row, Rejected):
            yield row
        elif not is_batch_line(row.values):
            yield Rejected(row.number, "it is not a line of a batch")
        else:
            lines, id = (answered if "response" in row.values else asked), str(row.values["custom_id"])
            if id in lines:
                yield Rejected(row.number, f"its `custom_id` is the same as that of row {lines[id].number}")
            else:
                lines[id] = row
    for id, row in asked.items():
        if id not in answered:
            yield Rejected(row.number, "its answer is not in the file" if answered else ONLY_ASKED)
            continue
        reply = _answer(answered[id].values)
        if isinstance(reply, str):
            yield Rejected(answered[id].number, reply)
        else:
            yield answered[id], [*(_asked(row.values) or []), reply]
    for id, row in answered.items():
        if id not in asked:
            yield Rejected(row.number, "its question is not in the file" if asked else ONLY_ANSWERED)


def _asked(row: JsonObject) -> RawMessages | None:
    body = row.get("body")
    messages = body.get("messages") if isinstance(body, dict) else None
    return messages if isinstance(messages, list) and find_shape(messages) else None


def _answer(row: JsonObject) -> Any:
    """Return the message of the answer, or why there is none."""
    response = row["response"]
    if row.get("error") or response.get("status_code", 200) != 200:
        return "the request failed"
    choices = response.get("body", {}).get("choices") if isinstance(response.get("body"), dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict) or "message" not in choices[0]:
        return "its response has no message"
    if len(choices) > 1:
        return f"it has {len(choices)} answers, and it is unclear which one is the best; keep one of them"
    return choices[0]["message"]

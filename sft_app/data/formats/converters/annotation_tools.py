"""Read the tasks of annotation tools: what was asked, and what an annotator answered.

Source: exports of Label Studio, Argilla and Prodigy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sft_app.data.messages import Role
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError, NotChosen

QUESTION_FIELDS = ("question", "prompt", "instruction", "text", "input", "query", "message")


@dataclass(frozen=True)
class Said:
    """A text of an export. `role` is None for an internal note; `name` is its author where no role is known."""

    role: Role | None
    text: str
    name: str = ""


def dicts(value: Any) -> list[JsonObject]:
    """Return the objects in a list; [] if the value is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def get(value: Any, *names: str) -> Any:
    """Return what lies under names within each other; None if it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: JsonObject, *names: str) -> str:
    """Return the first text under these names; "" if there is none."""
    return next((value[name] for name in names if isinstance(value.get(name), str) and value[name].strip()), "")


def _question(fields: Any, where: str) -> str:
    """Return the text of a task, which is its only one, or the one with a telling name."""
    texts = {key: value for key, value in fields.items() if isinstance(value, str) and value.strip()}
    named = next((texts[key] for key in QUESTION_FIELDS if key in texts), None)
    if named is None and len(texts) != 1:
        raise DataError(
            f"`{where}` holds {len(texts)} texts, and none of them is called {' or '.join(QUESTION_FIELDS[:3])}"
        )
    return named if named is not None else next(iter(texts.values()))


def label_studio(row: JsonObject) -> Iterator[Said]:
    """Read a task of Label Studio. Raises: DataError if it is unclear which annotation is right."""
    yield Said("user", _question(row["data"], "data"))
    done = [one for one in dicts(row.get("annotations")) if not one.get("was_cancelled")]
    if len(done) > 1:
        raise DataError(f"it has {len(done)} annotations, and it is unclear which one is right; keep one of them")
    for result in [one for annotation in done for one in dicts(annotation.get("result"))]:
        value = get(result, "value", "text") or get(result, "value", "choices")
        yield Said("assistant", "\n".join(map(str, value)) if isinstance(value, list) else str(value or ""))


def argilla(row: JsonObject) -> Iterator[Said]:
    """Read a record of Argilla. Raises: DataError if it is unclear which answer is right."""
    yield Said("user", _question(row["fields"], "fields"))
    responses = row["responses"]
    given = [item for items in responses.values() for item in dicts(items)] if isinstance(responses, dict) else []
    for response in dicts(responses):
        values = response.get("values") or {}
        given += [{"status": response.get("status"), **item} for item in values.values() if isinstance(item, dict)]
    texts = [
        one["value"] for one in given if one.get("status") in ("submitted", None) and isinstance(one.get("value"), str)
    ]
    if len(texts) > 1:
        raise DataError(
            f"it has {len(texts)} submitted answers, and it is unclear which one is right; keep one of them"
        )
    yield from (Said("assistant", text) for text in texts)


def prodigy(row: JsonObject) -> Iterator[Said]:
    """Read a task of Prodigy. Raises: NotChosen if the annotator rejected it."""
    if row.get("answer") in ("reject", "ignore"):
        raise NotChosen(f"`answer` is {row['answer']}")
    yield Said("user", text(row, "text", "prompt", "question"))
    accepted = row.get("accept")
    chosen = ", ".join(map(str, accepted)) if isinstance(accepted, list) else ""
    yield Said("assistant", text(row, "user_input", "response", "label") or chosen)

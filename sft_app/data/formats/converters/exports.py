"""Convert exports of help desks, forums and annotation tools, one conversation or task a row.

To add an export, add a record to `EXPORTS`: how it is recognised, what it says in which order, and an example.
Source: the APIs of Zendesk, Freshdesk, Intercom, Front and Discourse; exports of Label Studio, Argilla and Prodigy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sft_app.data.formats.converters.annotation_tools import Said, argilla, dicts, get, label_studio, prodigy, text
from sft_app.data.messages import RawMessages, Role
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings

STAFF = ("agent", "admin", "staff", "moderator", "teammate", "bot", "operator")


@dataclass(frozen=True)
class Export:
    """An export: `columns` are those that `said` reads; it is recognised by `is_export`."""

    name: str
    is_export: Callable[[JsonObject], bool]
    said: Callable[[JsonObject], Iterator[Said]]
    columns: tuple[str, ...]
    example: JsonObject


def export_of(row: JsonObject) -> Export | None:
    """Find the export that a row comes from; None if it comes from no known one."""
    return next((export for export in EXPORTS if export.is_export(row)), None)


def export_column(row: JsonObject) -> str:
    """Return the column that identifies an export; "" if the row has another layout."""
    export = export_of(row)
    return next((name for name in export.columns if name in row), "") if export else ""


def export_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_export` reads."""
    export = export_of(row)
    return [*export.columns] if export else []


def from_export(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert a ticket, topic or task to its public texts up to the last answer.

    Raises:
        DataError: the row is no export, no one answered, or it is unclear who the assistant is.
        NotChosen: an annotator rejected the task.
    """
    export = export_of(row)
    if export is None:
        raise DataError("it is not a ticket, topic or task of a known export")
    said = _with_roles([one for one in export.said(row) if one.text.strip()], settings)
    answers = [where for where, one in enumerate(said) if one.role == "assistant"]
    if not answers:
        raise DataError("no one answered it")
    messages: RawMessages = []
    for one in said[: answers[-1] + 1]:
        if messages and messages[-1]["role"] == one.role:
            messages[-1]["content"] += f"\n\n{one.text.strip()}"
        elif one.role:
            messages.append({"role": one.role, "content": one.text.strip()})
    return [messages]


def said_in_export(row: JsonObject) -> list[Said]:
    """List the texts of a ticket, topic or task before their roles are known; [] if the row is no readable export."""
    export = export_of(row)
    try:
        return [one for one in export.said(row) if one.text.strip()] if export else []
    except DataError:
        return []


def left_out_notes(rows: list[JsonObject], settings: DataSettings) -> list[str]:
    """Say how many internal notes, and texts after the last answer, are not read."""
    internal = after = 0
    for row in rows:
        said = said_in_export(row)
        try:
            internal += sum(one.role is None and not one.name for one in said)
            public = _with_roles(said, settings)
        except DataError:
            continue
        last = max((where for where, one in enumerate(public) if one.role == "assistant"), default=len(public) - 1)
        after += len(public) - last - 1
    where = f"in the first {len(rows):,} rows" if len(rows) > 1 else "in the first row"
    return [
        *([f"Internal notes are left out: {internal:,} {where}."] if internal else []),
        *([f"Messages after the last answer are left out: {after:,} {where}."] if after else []),
    ]


def _with_roles(said: list[Said], settings: DataSettings) -> list[Said]:
    """Leave out internal notes, and give authors with a name the role that the setting `assistant` says."""
    wanted = settings.assistant.strip().lower()
    names = list(dict.fromkeys(one.name for one in said if one.name))
    is_known = any(one.role == "assistant" for one in said)
    if names and not is_known and wanted not in map(str.lower, names):
        shown = ", ".join(f"“{name}”" for name in names[:6])
        raise DataError(
            f'its messages are by {shown}; say who the assistant is, for example with --assistant "{names[-1]}"'
        )
    named = [
        Said("assistant" if one.name.lower() == wanted and wanted else one.role or "user", one.text)
        if one.name
        else one
        for one in said
    ]
    return [one for one in named if one.role]


def _zendesk_comments(row: JsonObject) -> list[JsonObject]:
    comments = dicts(row.get("comments"))
    events = (event for audit in dicts(row.get("audits")) for event in dicts(audit.get("events")))
    return comments or [event for event in events if event.get("type") == "Comment"]


def _zendesk(row: JsonObject) -> Iterator[Said]:
    comments, requester = _zendesk_comments(row), row.get("requester_id", get(row, "requester", "id"))
    opened = text(row, "description").strip()
    described = next((one for one in comments if opened and text(one, "plain_body", "body").strip() == opened), None)
    if described is None:
        yield Said("user", opened)
    elif requester is None:
        requester = described.get("author_id", get(described, "author", "id"))
    for one in comments:
        author = one.get("author_id", get(one, "author", "id"))
        role = str(get(one, "author", "role") or "").lower()
        named = text(one, "author_name", "author") or str(get(one, "author", "name") or "")
        if (author is None or requester is None) and not role and named:
            is_internal = one.get("public") is False
            yield Said(None, text(one, "plain_body", "body", "html_body"), "" if is_internal else named)
            continue
        if author is None and not role or author is not None and requester is None:
            raise DataError("it does not say who asked: `requester_id` and `author_id` are needed in every ticket")
        answers = role in STAFF or not role and author != requester
        role_or_none: Role | None = None if one.get("public") is False else "assistant" if answers else "user"
        yield Said(role_or_none, text(one, "plain_body", "body", "html_body"))


def _freshdesk(row: JsonObject) -> Iterator[Said]:
    yield Said("user", text(row, "description_text", "description"))
    for one in dicts(row.get("conversations")):
        role: Role = "user" if one.get("incoming") else "assistant"
        yield Said(None if one.get("private") else role, text(one, "body_text", "body"))


def _intercom_parts(row: JsonObject) -> list[JsonObject]:
    parts = row.get("conversation_parts")
    return dicts(get(parts, "conversation_parts") or parts)


def _intercom(row: JsonObject) -> Iterator[Said]:
    for one in [row["source"], *_intercom_parts(row)]:
        role: Role = "assistant" if get(one, "author", "type") in STAFF else "user"
        yield Said(None if one.get("part_type") == "note" else role, text(one, "body"))


def _front(row: JsonObject) -> Iterator[Said]:
    for one in dicts(row["messages"]):
        yield Said("user" if one["is_inbound"] else "assistant", text(one, "text", "body", "blurb"))


def _discourse(row: JsonObject) -> Iterator[Said]:
    posts = dicts(get(row, "post_stream", "posts"))
    asker = posts[0].get("username")
    for one in posts:
        is_staff = any(one.get(key) is True for key in ("staff", "admin", "moderator", "accepted_answer"))
        role: Role | None = "user" if one.get("username") == asker else "assistant" if is_staff else None
        yield Said(role, text(one, "raw", "cooked"), str(one.get("username") or "unknown"))


EXPORTS = (
    Export(
        "Zendesk",
        lambda row: any("public" in one for one in _zendesk_comments(row)),
        _zendesk,
        ("comments", "audits", "requester_id", "requester", "description"),
        {"requester_id": 1, "comments": [{"author_id": 1, "body": "q", "public": True}, {"author_id": 2, "body": "a"}]},
    ),
    Export(
        "Freshdesk",
        lambda row: any("incoming" in one for one in dicts(row.get("conversations"))),
        _freshdesk,
        ("conversations", "description_text", "description"),
        {"description_text": "q", "conversations": [{"body_text": "a", "incoming": False, "private": False}]},
    ),
    Export(
        "Intercom",
        lambda row: isinstance(row.get("source"), dict) and bool(_intercom_parts(row)),
        _intercom,
        ("conversation_parts", "source"),
        {
            "source": {"author": {"type": "user"}, "body": "q"},
            "conversation_parts": [{"author": {"type": "admin"}, "body": "a"}],
        },
    ),
    Export(
        "Front",
        lambda row: bool(dicts(row.get("messages"))) and all("is_inbound" in one for one in dicts(row["messages"])),
        _front,
        ("messages",),
        {"messages": [{"is_inbound": True, "text": "q"}, {"is_inbound": False, "text": "a"}]},
    ),
    Export(
        "Discourse",
        lambda row: bool(dicts(get(row, "post_stream", "posts"))),
        _discourse,
        ("post_stream",),
        {"post_stream": {"posts": [{"username": "x", "raw": "q"}, {"username": "y", "staff": True, "raw": "a"}]}},
    ),
    Export(
        "Label Studio",
        lambda row: isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list),
        label_studio,
        ("annotations", "data"),
        {"data": {"text": "q"}, "annotations": [{"result": [{"value": {"text": ["a"]}}]}]},
    ),
    Export(
        "Argilla",
        lambda row: isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), (dict, list)),
        argilla,
        ("responses", "fields"),
        {"fields": {"prompt": "q"}, "responses": {"answer": [{"value": "a", "status": "submitted"}]}},
    ),
    Export(
        "Prodigy",
        lambda row: "_input_hash" in row and ("user_input" in row or "accept" in row),
        prodigy,
        (
            "answer",
            "text",
            "prompt",
            "question",
            "user_input",
            "response",
            "label",
            "accept",
            "_input_hash",
            "_task_hash",
        ),
        {"_input_hash": 1, "text": "q", "user_input": "a", "answer": "accept"},
    ),
)

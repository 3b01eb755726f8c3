"""Convert reply trees, such as OASST1, to message lists, from one tree or one message per row.

Source: OpenAssistant/oasst1, dataset card (columns, ranks, tree states).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sft_app.data.messages import ROLES, RawMessages
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.errors import DataError, NotChosen
from sft_app.settings import DataSettings

MESSAGE_COLUMNS = {"message_id", "parent_id", "text", "role"}
PARENT_MISSING = "the message it answers is not in the file"
ROOT_MISSING = "its conversation has no first message in the file"


@dataclass
class Node:
    """A message of a tree. `rank` 0 is the best among its siblings; a message without a rank comes last."""

    row: int
    text: Any
    role: Any
    rank: float
    language: str
    refused: str
    replies: list[Node] = field(default_factory=list)


def from_reply_tree(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"prompt": {"text", "role", "replies": […]}}` to its best-ranked path, or to every path.

    Raises:
        DataError: there is no first message, or no one answered it.
        NotChosen: it is not in the language of the settings, was deleted, or failed its review.
    """
    prompt = row.get("prompt")
    if not isinstance(prompt, dict) or "text" not in prompt:
        raise DataError('`prompt` must be a message {"text", "role", "replies"}')
    root = _build_tree(prompt)
    reason = _why_left_out(root, settings)
    if reason:
        raise NotChosen(reason)
    paths = [path for path in _paths(root, settings) if len(path) > 1]
    if not paths:
        raise DataError("no one answered the first message")
    return [_messages(path) for path in paths]


def is_tree_message(row: JsonObject) -> bool:
    """Return whether a row is a single message of a reply tree rather than a whole tree."""
    return row.keys() >= MESSAGE_COLUMNS


def tree_column(row: JsonObject) -> str:
    """Return the column that identifies a reply tree or one of its messages; "" if the row is neither."""
    prompt = row.get("prompt")
    if is_tree_message(row):
        return "parent_id"
    return "prompt" if isinstance(prompt, dict) and {"text", "replies"} <= prompt.keys() else ""


def conversations_of_rows(
    rows: Iterable[Row | Rejected], settings: DataSettings
) -> Iterator[tuple[Row, RawMessages] | Rejected]:
    """Join rows of one message each, in any order, into message lists, and yield each with the row it ends with.

    A row that ends up in no conversation is yielded as a `Rejected` with the reason.
    """
    nodes: dict[str, Node] = {}
    parents: dict[str, str | None] = {}
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        id, parent = row.values.get("message_id"), row.values.get("parent_id")
        if not isinstance(id, str):
            yield Rejected(row.number, "`message_id` must be text")
        elif parent is not None and not isinstance(parent, str):
            yield Rejected(row.number, "`parent_id` must be text, or empty for a first message")
        elif id in nodes:
            yield Rejected(row.number, f"its message_id is the same as that of row {nodes[id].row}")
        else:
            nodes[id], parents[id] = _node(row.values, row.number), parent
    yield from _conversations_of_trees(nodes, _link_replies(nodes, parents), parents, settings)


def _link_replies(nodes: dict[str, Node], parents: dict[str, str | None]) -> list[Node]:
    """Add every message to its parent's replies, and return the messages without a parent."""
    roots = []
    for id, parent in parents.items():
        if not parent:
            roots.append(nodes[id])
        elif parent in nodes:
            nodes[parent].replies.append(nodes[id])
    return roots


def _conversations_of_trees(
    nodes: dict[str, Node], roots: list[Node], parents: dict[str, str | None], settings: DataSettings
) -> Iterator[tuple[Row, RawMessages] | Rejected]:
    used: set[int] = set()
    for root in roots:
        if _why_left_out(root, settings):
            continue
        for path in _paths(root, settings):
            if len(path) > 1:
                used.update(node.row for node in path)
                yield Row(path[-1].row, {}), _messages(path)
    linked = _rows_of(roots)
    for id, node in nodes.items():
        if node.row not in used and node.row in linked:
            yield _left_out(node, parents[id], settings)
        elif node.row not in used:
            yield Rejected(node.row, ROOT_MISSING if parents[id] in nodes else PARENT_MISSING)


def _left_out(node: Node, parent: str | None, settings: DataSettings) -> Rejected:
    """Return why a message of a complete tree is in no conversation."""
    reason = _why_left_out(node, settings)
    if not reason and not node.replies and (not parent or _asks(node)):
        return Rejected(node.row, "no one answered it")
    return Rejected(node.row, reason or "not on a selected path of replies", by_choice=True)


def _rows_of(roots: list[Node]) -> set[int]:
    rows: set[int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        rows.add(node.row)
        waiting += node.replies
    return rows


def _build_tree(message: JsonObject, row: int = 0) -> Node:
    """Build the tree of a nested message without recursion, because it may be deeper than Python's stack."""
    root = _node(message, row)
    waiting: list[tuple[Node, Any]] = [(root, message.get("replies"))]
    while waiting:
        node, replies = waiting.pop()
        for reply in replies if isinstance(replies, list) else []:
            if isinstance(reply, dict):
                node.replies.append(_node(reply, row))
                waiting.append((node.replies[-1], reply.get("replies")))
    return root


def _node(message: JsonObject, row: int) -> Node:
    refused = "failed its review" if _reads_as(message.get("review_result"), False) else ""
    return Node(
        row=row,
        text=message.get("text"),
        role=message.get("role"),
        rank=_rank(message.get("rank")),
        language=" ".join(str(message.get("lang") or "").split()),
        refused="deleted" if _reads_as(message.get("deleted"), True) else refused,
    )


def _reads_as(value: Any, expected: bool) -> bool:
    """Return whether a value is the boolean `expected`, or its text in a CSV file."""
    return str(value).strip().lower() in (("true", "1") if expected else ("false", "0"))


def _rank(value: Any) -> float:
    try:
        rank = float(value)
    except (TypeError, ValueError, OverflowError):
        return inf
    return inf if rank != rank else rank


def _why_left_out(node: Node, settings: DataSettings) -> str:
    language = settings.text_language.strip().lower()
    if language and node.language and not node.language.lower().startswith(language):
        return f"its language is {node.language}, not {language}"
    return node.refused


def _paths(root: Node, settings: DataSettings) -> list[list[Node]]:
    """Find the paths from the root to a last answer: the one with the best-ranked replies, or all of them."""
    done: list[list[Node]] = []
    waiting = [[root]]
    while waiting:
        path = waiting.pop()
        replies = [reply for reply in path[-1].replies if not _why_left_out(reply, settings)]
        replies.sort(key=lambda reply: (reply.rank, reply.row))
        if settings.reply_paths == "best":
            replies = replies[:1]
        if not replies:
            done.append(_up_to_an_answer(path))
        waiting += [[*path, reply] for reply in reversed(replies)]
    unique = {tuple(map(id, path)): path for path in done}
    return list(unique.values())


def _up_to_an_answer(path: list[Node]) -> list[Node]:
    """Drop a final question from a path; paths that end in different questions to the same answer become equal."""
    return path[:-1] if _asks(path[-1]) and len(path) > 1 else path


def _asks(node: Node) -> bool:
    return isinstance(node.role, str) and ROLES.get(node.role.strip().lower()) == "user"


def _messages(path: list[Node]) -> RawMessages:
    return [{"role": node.role, "content": node.text} for node in path]

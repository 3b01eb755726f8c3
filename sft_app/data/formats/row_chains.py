"""Join rows of a question and its answer that continue other rows: `parent_id` names the row before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sft_app.data.formats.column_profiles import Rows, list_columns, normalize
from sft_app.data.messages import RawMessages, role_of
from sft_app.data.rows import Rejected, Row

ID_NAMES = ("id", "row_id", "message_id", "turn_id", "example_id", "uuid")
PARENT_NAMES = (
    *("parent_id", "parent", "parentid", "parent_message_id", "previous_id", "prev_id", "previous", "in_reply_to"),
    *("reply_to", "reply_to_id", "follows"),
)
MOST_CHILDREN = 2
"""Where rows share their parents more than this, on average, the parents are categories."""
Converted = tuple[Row, list[RawMessages], int]
"""A row, its message lists, and the hash of what is not read."""


@dataclass(frozen=True)
class RowChain:
    """The columns with a row's id and with that of the row it continues."""

    id: str
    parent: str

    def note(self) -> str:
        """Say how rows are joined."""
        return (
            f"Rows are joined to conversations: `{self.parent}` names the row that a row continues, by its "
            f"`{self.id}`. Where several rows continue the same one, each is a conversation of its own."
        )


@dataclass
class _Link:
    row: Row
    messages: RawMessages
    unread: int
    next: list[_Link] = field(default_factory=list)


def find_chain(rows: Rows, used: Collection[str]) -> RowChain | None:
    """Find the columns that chain rows to conversations, among those not in `used`; None if rows stand alone."""
    names = [name for name in list_columns(rows) if name not in used]
    ids = [name for name in names if normalize(name) in ID_NAMES]
    parents = [name for name in names if normalize(name) in PARENT_NAMES]
    pairs = (RowChain(id, parent) for parent in parents for id in ids)
    return next((chain for chain in pairs if _links(rows, chain)), None)


def join_chains(rows: Iterable[Converted | Rejected], chain: RowChain) -> Iterator[Converted | Rejected]:
    """Join converted rows, in any order, to one conversation for each row that no other continues.

    An answer that several conversations share is trained on in the first of them. Conversations are in the order of
    their first rows. A row whose chain has no beginning is yielded as `Rejected`.
    """
    links: dict[str, _Link] = {}
    for item in rows:
        if isinstance(item, Rejected):
            yield item
            continue
        row, [messages], unread = item
        key = _key(row.values.get(chain.id)) or f"\0{row.number}"
        if key in links:
            yield Rejected(row.number, f"its `{chain.id}` is the same as that of row {links[key].row.number}")
        else:
            links[key] = _Link(row, messages, unread)
    roots = _roots(links, chain)
    told: set[int] = set()
    for root in roots:
        yield from _conversations(root, told)
    for link in links.values():
        if link.row.number not in told:
            parent = _key(link.row.values.get(chain.parent))
            yield Rejected(link.row.number, f"the row that it continues (`{chain.parent}` {parent!r}) is not usable")


def _roots(links: dict[str, _Link], chain: RowChain) -> list[_Link]:
    roots = []
    for link in links.values():
        parent = _key(link.row.values.get(chain.parent))
        if not parent:
            roots.append(link)
        elif parent in links:
            links[parent].next.append(link)
    return roots


def _conversations(root: _Link, told: set[int]) -> Iterator[Converted]:
    """Yield the path to each last row; `told` collects the rows that are in a conversation."""
    waiting = [[root]]
    while waiting:
        path = waiting.pop()
        if path[-1].next:
            waiting += [[*path, link] for link in reversed(path[-1].next)]
            continue
        messages: RawMessages = []
        for link in path:
            is_repeated = link.row.number in told
            messages += [
                {**message, "weight": 0} if is_repeated and role_of(message) == "assistant" else message
                for message in link.messages
                if not (role_of(message) == "system" and message in messages)
            ]
        told.update(link.row.number for link in path)
        yield path[-1].row, [messages], path[-1].unread


def _links(rows: Rows, chain: RowChain) -> bool:
    """Return whether parents are other rows, and not categories that many rows share."""
    ids = [_key(row.get(chain.id)) for row in rows]
    parents = [_key(row.get(chain.parent)) for row in rows]
    named = Counter(parent for parent, id in zip(parents, ids, strict=True) if parent and parent != id)
    known = Counter({parent: count for parent, count in named.items() if parent in set(ids)})
    if not known or "" in ids or len(set(ids)) < len(ids):
        return False
    return known.total() <= MOST_CHILDREN * len(known) and "" in parents


def _key(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(value).strip().removesuffix(".0")  # pandas writes ids as 1.0 where some cells are empty

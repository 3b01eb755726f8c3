"""Find the rows with personal data, apart from what the answers are meant to contain.

An address or number in the answers of several conversations is that of the person or company who answers. A kind that
most answers contain is the task, such as to extract addresses.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from sft_app.data.checkup.personal_data import personal_values
from sft_app.data.conversation import Conversation

OWN, OWN_SHARE = 5, 0.002
"""So many different conversations, and such a share of them, have an address of one's own in an answer."""
TASK, TASK_SHARE = 5, 0.5


@dataclass
class PersonalRows:
    """Collects what looks like personal data: hashes only, apart from addresses and phone numbers in answers."""

    total: int = 0
    found: dict[str, tuple[array[int], array[int]]] = field(
        default_factory=lambda: defaultdict(lambda: (array("q"), array("q")))
    )
    answered: dict[str, dict[str, set[int]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))

    def add(self, conversation: Conversation) -> None:
        """Add the next conversation."""
        index, self.total = self.total, self.total + 1
        for message in conversation.messages:
            for kind, value in personal_values(message.content):
                indexes, values = self.found[kind]
                indexes.append(index)
                values.append(hash(value))
                if message.role == "assistant":
                    self.answered[kind][value].add(hash(conversation))

    def own(self) -> set[str]:
        """Return the addresses and phone numbers of the person or company who answers."""
        least = max(OWN, OWN_SHARE * self.total)
        return {
            value
            for kind in ("personal_email", "personal_phone")
            for value, conversations in self.answered[kind].items()
            if len(conversations) >= least
        }

    def tasks(self) -> set[str]:
        """Return the kinds that most answers contain, apart from what is one's own."""
        own, least = self.own(), max(TASK, TASK_SHARE * self.total)
        return {
            kind
            for kind, values in self.answered.items()
            if len(set().union(*(rows for value, rows in values.items() if value not in own))) >= least
        }

    def kept(self) -> set[str]:
        """Return the kinds and values that no fix masks."""
        return self.own() | self.tasks()

    def indexes(self, kind: str) -> list[int]:
        """Return the indexes of the conversations with personal data of this kind, ascending."""
        if kind not in self.found:
            return []
        own = [hash(value) for value in self.own()]
        indexes, values = (np.frombuffer(numbers, dtype=np.int64) for numbers in self.found[kind])
        found: list[int] = np.unique(indexes[~np.isin(values, own)]).tolist()
        return found

"""Put the training examples nearest to a question in front of it, as earlier turns. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.messages import Message
from sft_app.data.split import RelatedRows
from sft_app.data.tokens import render_last_prompt
from sft_app.errors import DataError
from sft_app.evaluation.sides.nearest import NearestTexts
from sft_app.runtime.files import iterate_jsonl

MAX_INDEXED = 100_000
"""Further training rows are not searched."""
MAX_PROMPT_TOKENS = 2048
"""Examples that would make a prompt longer than this are left out, because every token of them takes time."""
SPARE = 8
"""Candidates to look at beyond the wanted ones, in case some are copies of the question."""


@dataclass(frozen=True)
class Prompted:
    """A conversation with examples as earlier turns, only context; `examples` counts them."""

    conversation: Conversation
    examples: int


class NearestExamples:
    """Finds the training conversations nearest to a question, for any number of questions.

    Only numbers of each training row are kept; the file is read again for the examples that are used.
    """

    def __init__(self, train_file: Path) -> None:
        self._file = train_file
        self._lines: list[int] = []
        questions: list[str] = []
        for line, conversation in _numbered(train_file):
            if (example := as_example(conversation)) is not None:
                self._lines.append(line)
                questions.append(asked_text(example.messages))
        self._index = NearestTexts(questions)

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, conversations: Sequence[Conversation], count: int) -> list[list[Conversation]]:
        """Return for each conversation the `count` nearest examples, the nearest first.

        An example that the split would keep on the same side as the conversation, such as a copy or near duplicate of
        it, is never returned.
        """
        found = [
            self._index.nearest(asked_text(conversation.messages), count + SPARE) if count else []
            for conversation in conversations
        ]
        examples = self._read({near.position for each in found for near in each})
        related = _related(conversations, examples)
        return [
            [examples[near.position] for near in each if near.position not in related[index]][:count]
            for index, each in enumerate(found)
        ]

    def _read(self, positions: set[int]) -> dict[int, Conversation]:
        wanted = {self._lines[position]: position for position in positions}
        read = ((line, as_example(conversation)) for line, conversation in _numbered(self._file) if line in wanted)
        return {wanted[line]: example for line, example in read if example is not None}


def as_example(conversation: Conversation) -> Conversation | None:
    """Return a training conversation as earlier turns: without system turns and greeting, as context only.

    None for plain text, which has no question.
    """
    if conversation.is_text():
        return None
    messages = [message for message in conversation.messages if message.role != "system"]
    first = next(at for at, message in enumerate(messages) if message.role == "user")
    return Conversation(tuple(map(_as_context, messages[first:])))


def last_turn_only(conversation: Conversation) -> Conversation:
    """Return the conversation with every answer but the last one as context."""
    *earlier, last = conversation.messages
    return Conversation((*map(_as_context, earlier), last))


def with_examples(
    tokenizer: Any, conversation: Conversation, examples: Sequence[Conversation], system: str, room: int
) -> Prompted:
    """Put a system prompt and the examples in front of a conversation whose last turn is to be answered.

    The nearest example comes last, next to the question (Liu et al. 2022, arXiv 2101.06804). The farthest are left out
    until the prompt has at most `room` tokens. A system prompt that the conversation has already stays the only one.

    Raises: DataError if the chat template does not take the conversation.
    """
    for count in range(len(examples), -1, -1):
        made = _joined(conversation, examples[:count], system)
        if not count or len(render_last_prompt(tokenizer, made)) <= room:
            break
    return Prompted(made, count)


def asked_text(messages: Iterable[Message]) -> str:
    """Return what the user says in a conversation."""
    return "\n".join(message.content for message in messages if message.role == "user")


def prompt_room(context: int, answer_tokens: int) -> int:
    """Return how many tokens a prompt with examples may have, so that an answer still fits."""
    return min(MAX_PROMPT_TOKENS, context - answer_tokens)


def _joined(conversation: Conversation, examples: Sequence[Conversation], system: str) -> Conversation:
    messages = conversation.messages
    opening = next((at for at, message in enumerate(messages) if message.role == "user"), 0)
    before, asked = list(messages[:opening]), messages[opening:]
    if system and not any(message.role == "system" for message in before):
        before.insert(0, Message("system", system))
    turns = [message for example in reversed(examples) for message in example.messages]
    *earlier, last = asked
    return Conversation((*before, *turns, *map(_as_context, earlier), last))


def _as_context(message: Message) -> Message:
    return replace(message, trained=False) if message.role == "assistant" else message


def _related(conversations: Sequence[Conversation], examples: dict[int, Conversation]) -> list[set[int]]:
    """Return for each conversation the positions of the examples that are related to it, as the split sees it."""
    rows, positions = RelatedRows(), list(examples)
    asked = [as_example(conversation) or conversation for conversation in conversations]
    for number, conversation in enumerate([*examples.values(), *asked]):
        rows.add(number, conversation)
    groups = rows.groups() if asked else np.empty(0, np.int64)
    others, own = groups[: len(positions)], groups[len(positions) :]
    return [{position for position, other in zip(positions, others, strict=True) if other == group} for group in own]


def _numbered(file: Path) -> Iterator[tuple[int, Conversation]]:
    for line, row in enumerate(islice(iterate_jsonl(file), MAX_INDEXED)):
        with suppress(DataError):  # an edited file; training skipped the row too
            yield line, make_conversation(row["messages"])

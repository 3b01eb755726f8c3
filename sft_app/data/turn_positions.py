"""Find the tokens that the model writes as one turn of a rendered conversation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from sft_app.data.chat_templates import TemplateInput, render_template, unused_character
from sft_app.data.conversation import Conversation
from sft_app.data.messages import END_OF_THOUGHT, START_OF_THOUGHT
from sft_app.errors import DataError

Message = dict[str, Any]


@dataclass(frozen=True)
class EncodedText:
    """A text as token ids, with the span of characters of each, and the ids that mark structure."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]
    special: set[int]


def encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Encode a text to ids and the span of characters of each. The template has already written BOS if needed."""
    if not tokenizer.is_fast:
        raise DataError(
            "The model's tokenizer does not report which characters its tokens stand for. "
            "Choose a model with a fast tokenizer."
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded["input_ids"], _without_gaps(encoded["offset_mapping"])


def _without_gaps(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Assign white space that a tokenizer leaves out of its offsets (`trim_offsets`) to the next token."""
    whole: list[tuple[int, int]] = []
    reached = 0
    for begin, end in offsets:
        whole.append((min(begin, reached), max(end, reached)))
        reached = max(end, reached)
    return whole


def turn_positions(
    tokenizer: Any, chat: TemplateInput, turn: int, encoded: EncodedText
) -> tuple[Sequence[int], Sequence[int]]:
    """Return the positions of a turn's content, and of what closes it up to a special token; the latter may be empty.

    Raises: DataError if the template changes the turn's text.
    """
    if chat.messages[turn].get("tool_calls"):
        return _call_positions(tokenizer, chat, turn, encoded)
    content = _content_positions(encoded.offsets, *_turn_span(tokenizer, chat, turn, encoded.text))
    return content, _end_of_turn_positions(encoded, content.stop)


def lost_thoughts(tokenizer: Any, chat: TemplateInput) -> list[int]:
    """List the turns whose thought the template leaves out, which many do for all answers but the last."""
    mark, lost = unused_character(str(message["content"]) for message in chat.messages), []
    for turn, message in enumerate(chat.messages):
        before, end, after = str(message["content"]).partition(END_OF_THOUGHT)
        start = before.rpartition(START_OF_THOUGHT)[2]
        if message["role"] != "assistant" or not end or not start.strip():
            continue
        marked = f"{before.removesuffix(start)}{mark}{end}{after}"
        with suppress(DataError):  # then the template reads the thought
            if mark not in render_template(tokenizer, _with_turn(chat, turn, {**message, "content": marked})):
                lost.append(turn)
    return lost


def _turn_span(tokenizer: Any, chat: TemplateInput, turn: int, text: str) -> tuple[int, int]:
    """Find what the model writes as turn `turn` in `text`: from the end of its prompt to the end of its content."""
    mark, messages = unused_character([text]), chat.messages
    marked = render_template(tokenizer, _with_turn(chat, turn, {**messages[turn], "content": mark}))
    _, _, after = marked.partition(mark)
    start = _turn_start(tokenizer, chat, turn, text, marked.partition(mark)[0])
    if mark not in marked or start is None or not text.endswith(after):
        raise DataError(f"the chat template changes the text of message {turn + 1} (assistant)")
    return start, len(text) - len(after)


def _turn_start(tokenizer: Any, chat: TemplateInput, turn: int, text: str, before: str) -> int | None:
    """Find where the turn begins: after its prompt, or after `before` if the text does not continue the prompt."""
    prompt = render_template(tokenizer, chat.replaced(chat.messages[:turn]), add_generation_prompt=True)
    # Before an answer without a thought, a template may write more (an empty thought) than before one with a thought.
    beginning = prompt if text.startswith(prompt) else before
    return len(beginning) if text.startswith(beginning) else None


def _call_positions(
    tokenizer: Any, chat: TemplateInput, turn: int, encoded: EncodedText
) -> tuple[Sequence[int], Sequence[int]]:
    """Find the tokens of a turn that calls tools, which the template writes after its content.

    The turn ends where the text after the last call's name is no longer the same in the whole conversation and in one
    that ends with this turn.
    """
    text, mark, message = encoded.text, unused_character([encoded.text]), chat.messages[turn]
    marked = render_template(tokenizer, _with_turn(chat, turn, {**message, "content": mark}))
    before, found, _ = marked.partition(mark)
    start = _turn_start(tokenizer, chat, turn, text, before if found else text + mark)
    named = _with_turn(chat, turn, _with_last_name(message, mark))
    whole = render_template(tokenizer, named)
    named_until, name = whole.find(mark), message["tool_calls"][-1]["function"]["name"]
    if start is None or named_until < start or whole.replace(mark, name) != text:
        raise DataError(f"the chat template changes the text of message {turn + 1} (assistant)")
    alone = render_template(tokenizer, named.replaced(named.messages[: turn + 1])).partition(mark)[2]
    after = text[named_until + len(name) :]
    stop = named_until + len(name) + len(commonprefix([after, alone.replace(mark, name)]))
    content = _content_positions(encoded.offsets, start, named_until)
    return _closed(encoded, content, stop)


def _closed(encoded: EncodedText, content: range, stop: int) -> tuple[Sequence[int], Sequence[int]]:
    """Split what follows the content up to `text[:stop]` into more content and what ends with a special token."""
    rest = [at for at in range(content.stop, len(encoded.ids)) if encoded.offsets[at][1] <= stop]
    ends = [at for at in rest if encoded.ids[at] in encoded.special]
    if ends:
        return content, range(content.stop, ends[-1] + 1)
    while rest and not encoded.text[slice(*encoded.offsets[rest[-1]])].strip():
        rest.pop()
    content = range(content.start, content.stop + len(rest))
    return content, _end_of_turn_positions(encoded, content.stop)


def _with_turn(chat: TemplateInput, turn: int, message: Message) -> TemplateInput:
    return chat.replaced([*chat.messages[:turn], message, *chat.messages[turn + 1 :]])


def _with_last_name(message: Message, name: str) -> Message:
    *calls, last = message["tool_calls"]
    return {**message, "tool_calls": [*calls, {**last, "function": {**last["function"], "name": name}}]}


def _content_positions(offsets: list[tuple[int, int]], start: int, end: int) -> range:
    """Find the consecutive tokens that overlap `text[start:end]`."""
    first = next((i for i, (_, stop) in enumerate(offsets) if stop > start), len(offsets))
    last = next((i for i, (begin, _) in enumerate(offsets[first:], first) if begin >= end), len(offsets))
    return range(first, last)


def _end_of_turn_positions(encoded: EncodedText, after: int) -> list[int]:
    """Find the special token that closes a turn and the white space before it; [] if there is none."""
    for position in range(after, len(encoded.ids)):
        if encoded.ids[position] in encoded.special:
            return list(range(after, position + 1))
        if encoded.text[slice(*encoded.offsets[position])].strip():
            break
    return []


def check_late_prompts(conversation: Conversation, text: str) -> None:
    """Refuse a system message in the middle that the chat template drops or moves. Raises: DataError if it does."""
    answered = 0
    for message in conversation.messages:
        if message.role == "assistant":
            answered = max(answered, text.find(message.content.strip(), answered))
        elif message.role == "system" and answered and text.find(message.content.strip(), answered) < 0:
            raise DataError("the chat template has no place for a system message in the middle of a conversation")

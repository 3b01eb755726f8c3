"""Render a conversation as the model reads it: token ids, and labels that mark the trained tokens.

The preview, the trainer and the scorecard all use `render_conversation`, so the page shows exactly what is trained.

It works with any chat template, including those without `{% generation %}` marks: to find an assistant turn in the
rendered text, the conversation is rendered again with a mark in place of that turn's content, and the two texts are
compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sft_app.data.chat_templates import (
    TemplateInput,
    can_think,
    chatml_notes,
    is_thinking,
    render_template,
)
from sft_app.data.conversation import Conversation
from sft_app.data.messages import Message
from sft_app.data.tool_templates import template_input, tools_form
from sft_app.data.turn_positions import EncodedText, check_late_prompts, encode, lost_thoughts, turn_positions
from sft_app.errors import DataError, NoChatTemplate

IGNORED = -100
GENERATION_STOPS = "generation_stops"
"""The attribute under which a tokenizer carries the stop tokens of its model's `generation_config`."""
NO_THINKING = "The model's chat template cannot turn thinking on or off, so Think first has no effect."
EXCHANGE = (Message("user", "a"), Message("assistant", "b"))


@dataclass(frozen=True)
class RenderedConversation:
    """A conversation as tokens.

    `input_ids` and `labels` have the full length, (tokens,); a label is the token id if the token is trained, else
    -100. The first `kept` tokens fit in `max_length`; the rest is cut off. `ends` are the positions of the tokens that
    close assistant turns, trained or not. `is_eos_added` if the template itself ends answers without a special token.
    `tools` is "native" or "text", as they are written. `has_thought` if a thought is written. The template leaves out
    the thoughts of `lost_thoughts` answers before the last, of which `untrained_answers` are therefore only context.
    """

    input_ids: list[int]
    labels: list[int]
    kept: int
    ends: tuple[int, ...] = ()
    is_eos_added: bool = False
    is_chat: bool = False
    tools: str = ""
    has_thought: bool = False
    lost_thoughts: int = 0
    is_last_thought_lost: bool = False
    untrained_answers: int = 0

    @property
    def trained(self) -> int:
        """Count the trained tokens that are kept."""
        return sum(label != IGNORED for label in self.labels[: self.kept])

    @property
    def trained_lost(self) -> int:
        """Count the trained tokens that are cut."""
        return sum(label != IGNORED for label in self.labels[self.kept :])

    @property
    def is_cut(self) -> bool:
        """Return whether the conversation is longer than `max_length`."""
        return self.kept < len(self.input_ids)

    def as_training_row(self) -> dict[str, list[int]]:
        """Return the row for the trainer, cut to `kept` tokens."""
        return {"input_ids": self.input_ids[: self.kept], "labels": self.labels[: self.kept]}


def render_conversation(tokenizer: Any, conversation: Conversation, max_length: int) -> RenderedConversation:
    """Render a conversation and label every assistant turn, including its end-of-turn token, and nothing else.

    A turn of weight 0 is context, and so is an earlier answer of a conversation with thoughts whose own thought the
    template leaves out: training it would teach the model to answer without one. A turn starts where the template's
    generation prompt ends, so anything the template adds before an answer at generation time is context too. If the
    template ends the last turn without a special token, the tokenizer's EOS is added, because the model could not
    learn to stop otherwise. Plain text is trained whole.

    Raises:
        DataError: the tokenizer has no chat template or no offsets, or the template rejects the conversation.
    """
    if conversation.is_text():
        return _render_text(tokenizer, conversation.messages[0].content, max_length)
    chat, lost = _template_input(tokenizer, conversation)
    text = render_template(tokenizer, chat)
    check_late_prompts(conversation, text)
    last = len(chat.messages) - 1
    untrained = {turn for turn in lost if turn != last and chat.enable_thinking and "weight" not in chat.messages[turn]}
    ids, offsets = encode(tokenizer, text)
    encoded = EncodedText(text, ids, offsets, special_ids(tokenizer))
    trained: list[int] = []
    ends: list[int] = []
    ends_itself = True
    first_question = next((turn for turn, message in enumerate(chat.messages) if message["role"] == "user"), 0)
    for turn, message in enumerate(chat.messages):
        if message["role"] == "assistant" and turn > first_question:  # a greeting is context
            content, ending = turn_positions(tokenizer, chat, turn, encoded)
            ends += ending[-1:]
            ends_itself = bool(ending) or "weight" in message
            trained += [] if "weight" in message or turn in untrained else [*content, *ending]
    if not ends_itself:
        ids = [*ids[: trained[-1] + 1], tokenizer.eos_token_id]
        trained.append(len(ids) - 1)
        ends.append(len(ids) - 1)
    labels = [IGNORED] * len(ids)
    for position in trained:
        labels[position] = ids[position]
    return RenderedConversation(
        ids,
        labels,
        min(len(ids), max_length),
        tuple(ends),
        is_eos_added=not ends_itself,
        is_chat=True,
        tools=tools_form(conversation.as_structured(), chat),
        has_thought=_writes_thought(conversation, lost),
        lost_thoughts=len([turn for turn in lost if turn != last]),
        is_last_thought_lost=last in lost,
        untrained_answers=len(untrained),
    )


def render_prompt(tokenizer: Any, messages: Sequence[dict[str, Any]]) -> list[int]:
    """Encode the prompt that the model answers; the last of `messages` is the user's.

    Raises: DataError as `render_conversation`.
    """
    return encode(tokenizer, prompt_text(tokenizer, messages))[0]


def render_last_prompt(tokenizer: Any, conversation: Conversation) -> list[int]:
    """Encode the prompt of a conversation's last answer, written as in training.

    Whether the template takes the tools may depend on that answer, so the whole conversation decides it.

    Raises: DataError as `render_conversation`.
    """
    chat = template_input(tokenizer, conversation.as_structured(), is_thinking(tokenizer))
    prompt = render_template(tokenizer, chat.replaced(chat.messages[:-1]), add_generation_prompt=True)
    return encode(tokenizer, prompt)[0]


def encode_question(tokenizer: Any, question: str) -> list[int]:
    """Encode a question as `render_prompt` does, or as plain text for a model without a chat template."""
    try:
        return render_prompt(tokenizer, [{"role": "user", "content": question}])
    except NoChatTemplate:
        ids: list[int] = tokenizer(question)["input_ids"]
        return ids


def prompt_text(tokenizer: Any, messages: Sequence[dict[str, Any]], add_generation_prompt: bool = True) -> str:
    """Render the text that `render_prompt` encodes. Raises: DataError as `render_conversation`."""
    chat = template_input(tokenizer, messages, is_thinking(tokenizer))
    return render_template(tokenizer, chat, add_generation_prompt)


def training_rows(rendered: Iterable[RenderedConversation]) -> list[dict[str, list[int]]]:
    """Return rows for the trainer; conversations that keep no trained token are left out."""
    return [conversation.as_training_row() for conversation in rendered if conversation.trained > 0]


def special_ids(tokenizer: Any) -> set[int]:
    """Find the ids that mark structure rather than text: beginning, end of turn, roles."""
    added = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _render_text(tokenizer: Any, text: str, max_length: int) -> RenderedConversation:
    """Encode plain text followed by EOS; its first token is not trained, because nothing precedes it."""
    ids = tokenizer(text, verbose=False)["input_ids"]  # suppresses the warning about texts longer than the context
    if ids[-1:] != [tokenizer.eos_token_id]:
        ids = [*ids, tokenizer.eos_token_id]
    return RenderedConversation(ids, [IGNORED, *ids[1:]], min(len(ids), max_length), (len(ids) - 1,))


def _template_input(tokenizer: Any, conversation: Conversation) -> tuple[TemplateInput, list[int]]:
    """Return what the template is given for a conversation to learn from, and the turns whose thoughts it leaves out.

    A conversation of which a thought is written is rendered as one that thinks, whatever the setting: with thinking
    off, templates write an empty thought before the real one.
    """
    messages = conversation.as_structured()
    if not conversation.has_thought():
        return template_input(tokenizer, messages, is_thinking(tokenizer)), []
    chat = template_input(tokenizer, messages, True)
    lost = lost_thoughts(tokenizer, chat)
    thinks = is_thinking(tokenizer) or _writes_thought(conversation, lost)
    return replace(chat, enable_thinking=thinks), lost


def _writes_thought(conversation: Conversation, lost: list[int]) -> bool:
    return conversation.thoughts() > len(lost)


def template_notes(tokenizer: Any, rendered: RenderedConversation) -> list[str]:
    """Return a sentence for each unusual thing in how the tokenizer renders a conversation."""
    notes = []
    ids, bos = rendered.input_ids, tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        notes.append(
            f"The text begins with {tokenizer.bos_token} twice: both the chat template and the tokenizer add it."
        )
    if rendered.ends and rendered.input_ids[rendered.ends[-1]] == tokenizer.pad_token_id:
        notes.append(
            f"The model pads with the token that ends an answer ({tokenizer.pad_token}). That is harmless here: "
            "labels depend on position, not on the token."
        )
    if not rendered.ends:
        notes.append("The chat template does not end answers with a special token.")
    if rendered.is_eos_added:
        notes.append(
            f"The chat template ends answers without a special token, so {tokenizer.eos_token} is added after the "
            "last answer to teach the model to stop."
        )
    return notes + chatml_notes(tokenizer) + lost_thought_notes(rendered)


def lost_thought_notes(rendered: RenderedConversation) -> list[str]:
    """Say which thoughts the template leaves out, and what follows for training."""
    notes, count = [], rendered.lost_thoughts
    if count:
        untrained = ", so those answers are not trained" if rendered.untrained_answers else ""
        notes.append(
            f"The chat template leaves out {count} thought{'s' if count > 1 else ''} of earlier answers{untrained}."
        )
    if rendered.is_last_thought_lost:
        notes.append("The chat template leaves out the thought of the last answer.")
    return notes


def thinking_notes(tokenizer: Any, conversation: Conversation) -> list[str]:
    """Say where a conversation does not agree with how the model is later asked, as for its thoughts."""
    is_on, has_thought = is_thinking(tokenizer), False
    if not conversation.is_text():
        has_thought = _writes_thought(conversation, _template_input(tokenizer, conversation)[1])
    notes = []
    if is_on and not can_think(tokenizer):
        notes.append(NO_THINKING)
    elif has_thought and not is_on and can_think(tokenizer):
        notes.append(
            "This answer has a thought, but Think first is off, so the model is later asked for answers without one. "
            "Turn on Think first (enable_thinking)."
        )
    elif is_on and not has_thought:
        notes.append("Think first is on, but this answer has no thought, so the model learns to answer without one.")
    if not _begins_as_asked(tokenizer, conversation):
        notes.append(
            "When the model is asked, the chat template begins the answer with text that it does not write here, such "
            "as the start of a thought, so the model is not trained from exactly where it later begins."
        )
    return notes


def _begins_as_asked(tokenizer: Any, conversation: Conversation) -> bool:
    """Return whether the last answer follows the text with which the model is asked for it."""
    if conversation.is_text():
        return True
    chat, _ = _template_input(tokenizer, conversation)
    asked = render_template(tokenizer, chat.replaced(chat.messages[:-1]), add_generation_prompt=True)
    return render_template(tokenizer, chat).startswith(asked)


def stop_ids(tokenizer: Any) -> frozenset[int]:
    """Find the ids that end an answer.

    They are the tokenizer's EOS, those that the model's `generation_config` names (see `models.loading`), and the
    tokens that close an assistant turn. A template may close the last turn in another way than those before.
    """
    stops = {tokenizer.eos_token_id, *getattr(tokenizer, GENERATION_STOPS, ())}
    for turns in (EXCHANGE, EXCHANGE * 2):
        with suppress(DataError if len(turns) > 2 else NoChatTemplate):  # some templates take a single question only
            rendered = render_conversation(tokenizer, Conversation(turns), max_length=2**31)
            stops |= {rendered.input_ids[position] for position in rendered.ends}
    return frozenset(stops)


def check_chat_template(tokenizer: Any) -> list[str]:
    """Render a question and its answer, and return what is unusual about it, as `template_notes` does.

    Raises:
        DataError: there is no chat template, it cannot be rendered, or it leaves the answer out or changes it.
    """
    return template_notes(tokenizer, render_conversation(tokenizer, Conversation(EXCHANGE), max_length=2**31))

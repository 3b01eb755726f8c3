"""Split a chat template into the text before and after each kind of message, by rendering marks.

This is for runners whose templates are not Jinja. The parts are rendered again and compared with the chat template over
several conversations, so they are either right or refused with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_app.data.tokens import prompt_text, special_ids
from sft_app.errors import DataError, ExportError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM_MARK, *CONTENT_MARKS = (chr(code) for code in range(0xE000, 0xE006))
TemplateMessages = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class ChatTemplateParts:
    """Holds the text before and after each kind of message.

    `opening` precedes the first question if there is no system message; otherwise `system` surrounds the system
    message. Both include what precedes the first question; later ones follow `user[0]`. An answer follows `generation`.
    """

    opening: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation: str

    def render(self, messages: TemplateMessages) -> str:
        """Render messages as the chat template does, with its generation prompt; the last message is the user's."""
        system = [message["content"] for message in messages if message["role"] == "system"]
        text = self.system[0] + system[0] + self.system[1] if system else self.opening
        turns = [message for message in messages if message["role"] != "system"]
        for index, message in enumerate(turns):
            before, after = self.user if message["role"] == "user" else self.assistant
            text += ("" if index == 0 else before) + message["content"] + after
        return text + self.generation


def split_chat_template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplateParts:
    """Split the tokenizer's chat template. A BOS token that the tokenizer itself adds is left out.

    Raises: ExportError if the parts give another text than the chat template, naming the first conversation that
    differs.
    """
    try:
        parts = _find_parts(tokenizer)
        for name, messages in CONVERSATIONS.items():
            if parts.render(messages) != _without_bos(tokenizer, prompt_text(tokenizer, messages)):
                raise ExportError(f"it writes {name} without fixed text before and after each message")
    except (DataError, ValueError) as error:
        raise ExportError(str(error)) from error
    return parts


def unsupported_template_features(tokenizer: PreTrainedTokenizerBase, parts: ChatTemplateParts) -> list[str]:
    """Return a sentence for each thing the chat template does to messages that fixed text cannot do."""
    notes = []
    if _differs(tokenizer, parts, [_user("Hi"), _assistant("<think>\na\n</think>\n\nb"), _user("c")]):
        notes.append("The chat template removes earlier thoughts (<think>) from a conversation; Ollama keeps them.")
    if _differs(tokenizer, parts, [_user(" Hi \n")]):
        notes.append("The chat template removes whitespace around a message; Ollama keeps it.")
    if "strftime_now" in (tokenizer.chat_template or ""):
        notes.append("The chat template writes today's date; in Ollama it stays the date of the export.")
    return notes


def _differs(tokenizer: PreTrainedTokenizerBase, parts: ChatTemplateParts, messages: TemplateMessages) -> bool:
    try:
        return parts.render(messages) != _without_bos(tokenizer, prompt_text(tokenizer, messages))
    except DataError:
        return True


def _find_parts(tokenizer: PreTrainedTokenizerBase) -> ChatTemplateParts:
    one, two, three, four, five = CONTENT_MARKS
    turns = [_user(one), _assistant(two), _user(three), _assistant(four), _user(five)]
    opening, to_answer, to_question, _, _, ending = _split_at_marks(tokenizer, turns, CONTENT_MARKS)
    before, after, *_ = _split_at_marks(tokenizer, [_system(SYSTEM_MARK), *turns], [SYSTEM_MARK, *CONTENT_MARKS])
    specials = {tokenizer.convert_ids_to_tokens(id) for id in special_ids(tokenizer)}
    answered = _text_after(tokenizer, turns[:2], two)
    user_after = _common_start([to_answer, ending, _text_after(tokenizer, turns[:1], one) or ending], specials)
    assistant_after = _common_start([to_question, answered], specials) if answered else to_question
    return ChatTemplateParts(
        opening=opening,
        system=(before, after),
        user=(to_question.removeprefix(assistant_after), user_after),
        assistant=(to_answer.removeprefix(user_after), assistant_after),
        generation=ending.removeprefix(user_after),
    )


def _split_at_marks(tokenizer: PreTrainedTokenizerBase, messages: TemplateMessages, marks: Sequence[str]) -> list[str]:
    """Return the text before, between and after the marks.

    Raises: ValueError if they are not each written once, in order.
    """
    text = _without_bos(tokenizer, prompt_text(tokenizer, messages))
    parts = re.split("|".join(marks), text)
    if re.findall("|".join(marks), text) != list(marks):
        raise ValueError("it does not write every message once, in order")
    return parts


def _text_after(tokenizer: PreTrainedTokenizerBase, messages: TemplateMessages, mark: str) -> str:
    """Return the text after the last message without a generation prompt; empty if the template refuses that."""
    try:
        return prompt_text(tokenizer, messages, add_generation_prompt=False).rpartition(mark)[2]
    except DataError:
        return ""


def _common_start(texts: Sequence[str], specials: set[str]) -> str:
    """Return the start that all texts share, without cutting a special token in two."""
    pattern = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) + r"|[\s\S]")
    shared = ""
    for parts in zip(*(pattern.findall(text) for text in texts), strict=False):
        if len(set(parts)) > 1:
            break
        shared += parts[0]
    return shared


def _without_bos(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Remove the BOS token if the tokenizer adds it itself, so that a runner does not add a second one."""
    bos, ids = tokenizer.bos_token, tokenizer("a", verbose=False)["input_ids"]
    return text.removeprefix(bos) if bos and ids[:1] == [tokenizer.bos_token_id] else text


def _system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


_ODD = 'a "quoted" {{ word }}\n\n{% if %} and \\n, `x`, user:\n<b>'
CONVERSATIONS: dict[str, TemplateMessages] = {
    "one question": [_user("Hi")],
    "one question with a system message": [_system("Be kind."), _user("Hi")],
    "several turns": [_user("Hi"), _assistant("Yo"), _user("How?"), _assistant("So."), _user("Why?")],
    "several turns with a system message": [_system("Be."), _user("Hi"), _assistant("Yo"), _user("How?")],
    "quotes, braces and new lines": [_system(_ODD), _user(_ODD), _assistant(_ODD), _user(_ODD)],
}

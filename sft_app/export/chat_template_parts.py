"""A chat template taken apart: the text before and after each kind of message, found by rendering marks.

For runners whose templates are no Jinja. What was found is rendered again and compared with the chat template itself
over several conversations, so that pieces are either right or refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_app.data.tokens import prompt_text, special_ids
from sft_app.errors import DataError, ExportError

SYSTEM, *MARKS = (chr(code) for code in range(0xE000, 0xE006))
Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class ChatPieces:
    """`opening` stands before the first question where there is no system message, and around it there is one.

    They hold what comes before the first question too; later ones have `user[0]` before them. `generation` is what an
    answer is written after.
    """

    opening: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation: str

    def render(self, messages: Messages) -> str:
        """As the chat template with its generation prompt; the last message is the user's."""
        system = [message["content"] for message in messages if message["role"] == "system"]
        text = self.system[0] + system[0] + self.system[1] if system else self.opening
        turns = [message for message in messages if message["role"] != "system"]
        for place, message in enumerate(turns):
            before, after = self.user if message["role"] == "user" else self.assistant
            text += ("" if place == 0 else before) + message["content"] + after
        return text + self.generation


def take_apart(tokenizer: Any) -> ChatPieces:
    """The pieces of the tokenizer's chat template; a BOS that the tokenizer itself writes is left out.

    Raises: ExportError when they do not give what the chat template gives, with the first conversation that differs.
    """
    try:
        pieces = _find_pieces(tokenizer)
        for name, messages in CONVERSATIONS.items():
            if pieces.render(messages) != _without_bos(tokenizer, prompt_text(tokenizer, messages)):
                raise ExportError(f"it writes {name} without fixed text before and after each message")
    except (DataError, ValueError) as error:
        raise ExportError(str(error)) from error
    return pieces


def template_notes(tokenizer: Any, pieces: ChatPieces) -> list[str]:
    """What the chat template does to a message that no fixed text can do, each as a sentence."""
    notes = []
    if _differs(tokenizer, pieces, [_user("Hi"), _assistant("<think>\na\n</think>\n\nb"), _user("c")]):
        notes.append("The chat template removes earlier thoughts (<think>) from a conversation; Ollama keeps them.")
    if _differs(tokenizer, pieces, [_user(" Hi \n")]):
        notes.append("The chat template removes whitespace around a message; Ollama keeps it.")
    if "strftime_now" in (tokenizer.chat_template or ""):
        notes.append("The chat template writes today's date; in Ollama it stays the date of the export.")
    return notes


def _differs(tokenizer: Any, pieces: ChatPieces, messages: Messages) -> bool:
    try:
        return pieces.render(messages) != _without_bos(tokenizer, prompt_text(tokenizer, messages))
    except DataError:
        return True


def _find_pieces(tokenizer: Any) -> ChatPieces:
    one, two, three, four, five = MARKS
    turns = [_user(one), _assistant(two), _user(three), _assistant(four), _user(five)]
    opening, to_answer, to_question, _, _, ending = _between(tokenizer, turns, MARKS)
    before, after, *_ = _between(tokenizer, [_system(SYSTEM), *turns], [SYSTEM, *MARKS])
    specials = {tokenizer.convert_ids_to_tokens(id) for id in special_ids(tokenizer)}
    answered = _tail(tokenizer, turns[:2], two)
    user_after = _common([to_answer, ending, _tail(tokenizer, turns[:1], one) or ending], specials)
    assistant_after = _common([to_question, answered], specials) if answered else to_question
    return ChatPieces(
        opening=opening,
        system=(before, after),
        user=(to_question.removeprefix(assistant_after), user_after),
        assistant=(to_answer.removeprefix(user_after), assistant_after),
        generation=ending.removeprefix(user_after),
    )


def _between(tokenizer: Any, messages: Messages, marks: Sequence[str]) -> list[str]:
    """The text before, between and after the marks. Raises: ValueError where they are not written once, in order."""
    text = _without_bos(tokenizer, prompt_text(tokenizer, messages))
    parts = re.split("|".join(marks), text)
    if re.findall("|".join(marks), text) != list(marks):
        raise ValueError("it does not write every message once, in order")
    return parts


def _tail(tokenizer: Any, messages: Messages, mark: str) -> str:
    """What stands after the last message when no answer is asked for; empty where the template refuses that."""
    try:
        return prompt_text(tokenizer, messages, add_generation_prompt=False).rpartition(mark)[2]
    except DataError:
        return ""


def _common(texts: Sequence[str], specials: set[str]) -> str:
    """The beginning that all share, without cutting a special token in two."""
    pattern = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) + r"|[\s\S]")
    shared = ""
    for parts in zip(*(pattern.findall(text) for text in texts), strict=False):
        if len(set(parts)) > 1:
            break
        shared += parts[0]
    return shared


def _without_bos(tokenizer: Any, text: str) -> str:
    """A runner that encodes as the tokenizer does writes BOS itself, and a second one would be one too many."""
    bos, ids = tokenizer.bos_token, tokenizer("a", verbose=False)["input_ids"]
    return text.removeprefix(bos) if bos and ids[:1] == [tokenizer.bos_token_id] else text


def _system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


_ODD = 'a "quoted" {{ word }}\n\n{% if %} and \\n, `x`, user:\n<b>'
CONVERSATIONS: dict[str, Messages] = {
    "one question": [_user("Hi")],
    "one question with a system message": [_system("Be kind."), _user("Hi")],
    "several turns": [_user("Hi"), _assistant("Yo"), _user("How?"), _assistant("So."), _user("Why?")],
    "several turns with a system message": [_system("Be."), _user("Hi"), _assistant("Yo"), _user("How?")],
    "quotes, braces and new lines": [_system(_ODD), _user(_ODD), _assistant(_ODD), _user(_ODD)],
}

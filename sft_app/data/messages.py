"""Define `Message`, a turn of a conversation, and read it from the spellings that files use."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sft_app.data.tool_calls import as_json, call_text, calls_of, definitions_text
from sft_app.errors import DataError

Role = Literal["system", "user", "assistant", "tool", "text"]
RawMessages = list[Any]
"""Messages as they are in a file, before `make_conversation` checks them."""

ROLE_WORDS: dict[Role, str] = {
    "system": "system developer",
    "user": "user end-user end_user human prompter customer client patient student visitor caller buyer guest "
    "questioner asker inquirer "
    "usuario cliente utilisateur benutzer nutzer kunde utente gebruiker пользователь 用户 ユーザー 사용자 "
    "المستخدم משתמש",
    "assistant": "assistant gpt chatgpt ai model bot chatbot function_call agent doctor teacher tutor support advisor "
    "adviser expert helper operator therapist counselor moss claude gemini llama "
    "asistente agente assistent assistente ассистент помощник 助手 アシスタント 어시스턴트 المساعد עוזר",
    "tool": "tool function observation tool_response tool_result",
    "text": "text",
}
ROLES: dict[str, Role] = {word: role for role, words in ROLE_WORDS.items() for word in words.split()}
"""The names that files use for roles. Source: OpenAI fine-tuning format; ShareGPT and OASST datasets."""
MODEL_NAME = re.compile(r"(?:chat)?gpt[-_ ]?\d[\w.-]*|(?:claude|gemini|llama|mistral|qwen|deepseek)[-_ ]?\d[\w.-]*")
ROLE_KEYS = ("role", "from", "speaker", "sender", "author", "rol", "rolle")
CONTENT_KEYS = (
    *("content", "value", "text", "message", "body", "parts", "utterance", "mes"),
    *("contenido", "contenu", "conteudo", "contenuto", "inhalt"),
)
THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning", "thought", "thoughts")
SAYING_KEYS = {*CONTENT_KEYS, "tool_calls", "function_call", "tools"}
PLAIN_KEYS = {"role", "content"}
TOOL_RESULT_KEYS = ("name", "tool_call_id")
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
THOUGHT_PARTS = ("thinking", "reasoning")
START_OF_THOUGHT, END_OF_THOUGHT = "<think>", "</think>"
VALUE_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is all of it as text, with tool definitions and calls. `trained` is false for an assistant turn that is
    only context (OpenAI's `weight: 0`). `structure` is JSON with what chat templates that know tools take instead: the
    content without them, and `tools`, `tool_calls`, or a result's `name` and `tool_call_id`.
    """

    role: Role
    content: str
    trained: bool = True
    structure: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the message as text: `role`, `content`, and `weight: 0` if it is only context."""
        weight = {} if self.trained else {"weight": 0}
        return {"role": self.role, "content": self.content, **weight}

    def rewritten(self, rewrite: Callable[[str], str]) -> Message:
        """Return the message with its text rewritten, unless nothing would remain.

        If the text of its tools changes too, it is text from then on.
        """
        text = rewrite(self.content)
        if not text.strip() or text == self.content:
            return self
        said = json.loads(self.structure).get("content") if self.structure else None
        if isinstance(said, str):
            again = read_message(1, {**self.as_structured(), "content": rewrite(said)})
            return again if again.content == text else replace(self, content=text, structure="")
        return replace(self, content=text, structure=self.structure if said is None else "")

    def as_copied(self) -> dict[str, Any]:
        """Return the message as a cleaned copy holds it: all of it as text, and under `structure` as values."""
        return {**self.as_dict(), **({"structure": json.loads(self.structure)} if self.structure else {})}

    def as_structured(self) -> dict[str, Any]:
        """Return the message with its tools as values. `make_conversation` reads it back."""
        return {**self.as_dict(), **(json.loads(self.structure) if self.structure else {})}


def _read_copied(position: int, message: dict[str, Any]) -> Message | None:
    """Read a message of a cleaned copy; None if its text no longer agrees with its structure."""
    plain = {key: value for key, value in message.items() if key != "structure"}
    again = read_message(position, {**plain, **message["structure"]})
    return again if again.content == message.get("content") else None


def role_of(message: Any) -> Role | None:
    """Return the role of a message as a file spells it; None if its author's name is no role."""
    return role_named(role_name(message))


def role_named(name: Any) -> Role | None:
    """Return the role that a name means, such as `Human` or `GPT-4`; None if it means none."""
    if not isinstance(name, str):
        return None
    called = name.strip().lower()
    return ROLES.get(called) or ("assistant" if MODEL_NAME.fullmatch(called) else None)


def role_name(message: Any) -> Any:
    """Return who says a message, as the file spells it; None if it does not say."""
    if not isinstance(message, dict):
        return None
    named = next((message[key] for key in ROLE_KEYS if message.get(key) is not None), None)
    return named.get("role", named.get("name")) if isinstance(named, dict) else named


def said_in(message: dict[str, Any]) -> Any:
    """Return the content of a message under any of the usual keys; None if it has none."""
    return next((message[key] for key in CONTENT_KEYS if message.get(key) is not None), None)


def first_texts(spoken: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return the first text of each speaker from pairs of both: first those whose name is no role, who speak most."""
    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name, said in spoken:
        counts[name] += 1
        texts.setdefault(name, said if isinstance(said, str) else "")
    names = [name for name, _ in counts.most_common()]
    return {name: texts[name] for name in sorted(names, key=lambda name: role_named(name) is not None)}


def plain_role(message: Any) -> Role | None:
    """Return the role of a message that is nothing but a known role and a text, as most are; otherwise None."""
    if not isinstance(message, dict) or message.keys() != PLAIN_KEYS or not isinstance(message["content"], str):
        return None
    return ROLES.get(message["role"]) if message["role"] in ("system", "user", "assistant") else None


def read_message(position: int, message: Any) -> Message:
    """Check and convert a message. Raises: DataError, naming its `position`, which counts from 1."""
    if not isinstance(message, dict):
        raise DataError(f"message {position} needs a `role` and a `content`")
    if (plain := plain_role(message)) and not _holds_half_a_character(message["content"]):
        return Message(plain, message["content"])
    if isinstance(message.get("structure"), dict) and (copied := _read_copied(position, message)):
        return copied
    named = role_name(message)
    if named is None or not message.keys() & SAYING_KEYS:
        raise DataError(f"message {position} needs a `role` and a `content`")
    role = role_named(named)
    if role is None:
        raise DataError(f"message {position} has the role {_short(named)}; expected system, user, assistant or tool")
    where = f"message {position} ({role})"
    said = _content(said_in(message), role, where)
    calls = calls_of(message)
    if str(named).strip().lower() == "function_call" and said.strip() and "<tool_call>" not in said:
        said, calls = "", [said, *calls]
    if role == "assistant" and END_OF_THOUGHT not in said:
        said = _thought(message) + said
    content = "\n".join(part for part in (said, *map(call_text, calls)) if part)
    structure: dict[str, Any] = {"content": said, "tool_calls": calls} if calls else {}
    if role == "system" and (definitions := definitions_text(message.get("tools"))):
        parts = isinstance(message.get("content"), list)  # they are joined by a line break
        content = ("\n" if parts else "\n\n").join(part for part in (said, definitions) if part)
        structure = {"content": [said] if parts else said, "tools": message["tools"]}
    if role == "tool":
        structure = {key: message[key] for key in TOOL_RESULT_KEYS if isinstance(message.get(key), str)}
    written = as_json(structure) if structure else ""
    if _holds_half_a_character(content + written):
        raise DataError(f"{where} contains an incomplete character (a lone surrogate)")
    return Message(role, content, role != "assistant" or _is_trained(message, where), structure=written)


def _is_trained(message: dict[str, Any], where: str) -> bool:
    weight = message.get("weight", message.get("loss_weight", 1))
    if weight not in (0, 1, None):
        raise DataError(f"{where} has weight {_short(weight)}; expected 0 or 1")
    is_masked = message.get("train") is False or message.get("loss") is False  # Axolotl's and ms-swift's keys
    return bool(weight != 0 and not is_masked)


def in_thought_tags(thought: str) -> str:
    """Write a thought as the models that think do, in front of the answer."""
    text = thought.strip()
    return f"{START_OF_THOUGHT}\n{text}\n{END_OF_THOUGHT}\n\n" if text else ""


def _thought(message: dict[str, Any]) -> str:
    thought = next((message[key] for key in THOUGHT_KEYS if isinstance(message.get(key), str)), "")
    return in_thought_tags(thought)


def _content(value: Any, role: Role, where: str) -> str:
    """Read a text, or a list of parts; only texts, refusals and thoughts can be trained on."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if role == "tool" and not _is_parts(value):
        return as_json(value)
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        value = value["parts"]
    if not isinstance(value, list):
        raise DataError(f"{where} has {kind_of(value)} as content; expected text")
    thought = "\n".join(_part_text(part, where) for part in value if _is_thought(part))
    return in_thought_tags(thought) + "\n".join(_part_text(part, where) for part in value if not _is_thought(part))


def _is_parts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) or _part_key(part) for part in value)


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in THOUGHT_PARTS


def _part_key(part: Any) -> str:
    """Return the key of a part's text; "" if it has none. Source: the APIs of OpenAI, Anthropic and Google."""
    if not isinstance(part, dict):
        return ""
    keys = (str(part.get("type")), "text", "value", "content")
    return next((key for key in keys if isinstance(part.get(key), str)), "")


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, dict) else "text"
    if kind not in (*TEXT_PARTS, *THOUGHT_PARTS):
        raise DataError(f"{where} contains a part of type {_short(kind)}; only text can be trained on")
    key = _part_key(part)
    if not key:
        raise DataError(f"{where} contains a part that is not text")
    return str(part[key])


def kind_of(value: Any) -> str:
    """Describe the kind of a value for an error message; NaN is an empty cell written by pandas."""
    is_missing = value is None or value != value
    return "nothing" if is_missing else VALUE_KINDS.get(type(value), type(value).__name__)


def _holds_half_a_character(text: str) -> bool:
    """Return whether a text contains half an emoji, which JSON can spell but tokenizers and UTF-8 files reject."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"

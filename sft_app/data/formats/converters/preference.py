"""Convert preference data to message lists: only the chosen answer is trained on, never the rejected one.

Source: TRL, "Dataset formats" (prompt, chosen, rejected); Anthropic/hh-rlhf, dataset card (dialogues as one text);
OpenAI, "Direct preference optimization" (input, preferred_output); LLaMA-Factory, data/README.md (ShareGPT).
"""

from __future__ import annotations

import re
from typing import Any

from sft_app.data.formats.column_names import SYSTEM_NAMES, answer_mark, system_column
from sft_app.data.formats.converters.chat import messages_columns, with_system, with_tools
from sft_app.data.messages import RawMessages, kind_of
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings

SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
PREFERENCE_PROMPT_COLUMNS = (
    "prompt",
    "question",
    "instruction",
    "query",
    "input",
    "conversations",
    "messages",
    "context",
)
ASSISTANTS = ("assistant", "gpt", "model", "bot", "chatgpt", "function_call")


def from_preference(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"prompt", "chosen", "rejected"}` with messages or dialogues to the prompt and the chosen answer.

    Raises:
        DataError: there is no chosen answer, or no column with its question.
    """
    prompt = row.get(prompt_column(row) or "")
    tools = prompt if isinstance(prompt, dict) else row
    return [with_tools(with_system(_preferred_messages(row), row.get(system_column(row))), tools)]


def preference_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_preference` reads."""
    _, *others = messages_columns(row, settings)
    return [chosen_column(row), prompt_column(row) or "", *SYSTEM_NAMES, *others]


def chosen_column(row: JsonObject) -> str:
    """Find the column with the chosen answer if it holds messages or a dialogue, not just a text; otherwise ""."""
    good = [name for name in row if answer_mark(name) == "good" and isinstance(row[name], (str, list, dict))]
    if not any(answer_mark(name) == "bad" for name in row) and not any(_is_dialogue(row[name]) for name in good):
        return ""
    if any(_is_dialogue(row[name]) for name in PREFERENCE_PROMPT_COLUMNS if name in row):
        return next(iter(good), "")
    return next((name for name in good if _is_dialogue(row[name])), "")


def prompt_column(row: JsonObject) -> str | None:
    """Find the column with the question or conversation that the chosen answer replies to."""
    return next((name for name in PREFERENCE_PROMPT_COLUMNS if row.get(name)), None)


def _preferred_messages(row: JsonObject) -> RawMessages:
    column = chosen_column(row)
    if not column:
        raise DataError("no column contains a chosen answer, as messages or as a dialogue")
    answer = _messages(row[column], "assistant", column)
    if answer and not _is_from(answer[0], ASSISTANTS):
        return answer  # the whole conversation
    prompt = prompt_column(row)
    if prompt is None:
        raise DataError(f"`{column}` is an answer, but no column contains its question")
    return [*_messages(row[prompt], "user", prompt), *answer]


def _is_from(message: Any, roles: tuple[str, ...]) -> bool:
    role = message.get("role", message.get("from")) if isinstance(message, dict) else None
    return isinstance(role, str) and role.strip().lower() in roles


def _is_dialogue(value: Any) -> bool:
    return bool(value) and (isinstance(value, (list, dict)) or isinstance(value, str) and _speaks_first(value))


def _speaks_first(text: str) -> bool:
    first = SPEAKER.match(text)
    return first is not None and (first[1] == "Human" or "\n\nHuman:" in text)


def _messages(value: Any, role: str, column: str) -> RawMessages:
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        return list(value["messages"])
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise DataError(f"`{column}` must be text or messages, got {kind_of(value)}")
    return _turns(value) if _speaks_first(value) else [{"role": role, "content": value.strip()}]


def _turns(dialogue: str) -> list[dict[str, str]]:
    """Split `\\n\\nHuman: …\\n\\nAssistant: …` into messages; an empty last turn marks the start of the answer."""
    _, *parts = SPEAKER.split(dialogue)
    filled = list(zip(parts[::2], parts[1::2], strict=True))
    if filled and not filled[-1][1].strip():
        filled.pop()
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[speaker], "content": said.strip()} for speaker, said in filled]

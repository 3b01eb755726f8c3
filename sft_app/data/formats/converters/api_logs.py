"""Read logs of calls to a model: a request in one column, its response in another, as objects or as JSON in a cell.

Source: the APIs of OpenAI (chat completions, responses), Anthropic, Google and Ollama; exports of LangSmith, Langfuse.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sft_app.data.formats.converters.turn_shapes import find_shape, shaped_messages
from sft_app.data.messages import RawMessages, role_named, role_of
from sft_app.data.rows import JsonObject
from sft_app.data.sources.python_literals import parsed_cell
from sft_app.errors import DataError

REQUESTS = ("request", "request_body", "requestbody", "input", "inputs", "prompt")
RESPONSES = ("response", "response_body", "responsebody", "output", "outputs", "completion")
TURNS_OF_REQUEST = ("messages", "contents", "input", "prompt")
NO_ANSWER = (
    "`{}` holds an object without an answer: it needs `choices`, `content`, `candidates`, `output` or `message`, as "
    "the APIs of OpenAI, Anthropic, Google and Ollama have them"
)


class LoggedCall(NamedTuple):
    """A call in a row: its columns, the body of its request, and the turns of the request and of the response."""

    request: str
    response: str
    body: JsonObject
    messages: RawMessages


def log_columns(row: JsonObject) -> tuple[str, str] | None:
    """Return the columns of a request and its response; None unless one of the two is what a model's API takes."""
    named = {str(name).lower(): name for name in row}
    request = next((named[name] for name in REQUESTS if name in named), "")
    response = next((named[name] for name in RESPONSES if name in named), "")
    if not request or not response or "instruction" in named:  # Alpaca's `input` and `output` are texts
        return None
    is_pair = request == "prompt" and not isinstance(row[request], (str, dict))  # TRL's lists of messages
    asked, answered = _parsed(row[request]), _parsed(row[response])
    is_log = not is_pair and (bool(_turns_asked(asked)) or _is_body(answered)) and bool(asked and answered)
    return (request, response) if is_log else None


def logged_call(row: JsonObject) -> LoggedCall | None:
    """Read a call; None if the row is none. Raises: DataError if its response has no answer, or several."""
    columns = log_columns(row)
    if columns is None:
        return None
    request, response = columns
    body = _unwrapped(_parsed(row[request]))
    asked = _turns_asked(body) or ([{"role": "user", "content": body}] if isinstance(body, str) else [])
    if not asked:
        raise DataError(f"`{request}` holds an object without a list of messages")
    messages = [*asked, *answer_in(row[response], response)]
    return LoggedCall(request, response, body if isinstance(body, dict) else {}, messages)


def answer_in(value: Any, column: str) -> RawMessages:
    """Read the answer in a response. Raises: DataError if it has none, or several."""
    body = _unwrapped(_parsed(value))
    if isinstance(body, str) or isinstance(value, str) and not _is_body(body):
        return [{"role": "assistant", "content": value}]  # an answer may be JSON itself
    answer = _answer_of(body)
    if not answer:
        raise DataError(NO_ANSWER.format(column))
    return shaped_messages([answer]) or [answer]


def is_response(value: Any) -> bool:
    """Return whether a cell is the response of a model's API."""
    return _is_body(_parsed(value))


def _parsed(value: Any) -> Any:
    return parsed_cell(value) if isinstance(value, str) else value


def _unwrapped(value: Any) -> Any:
    body = value.get("body") if isinstance(value, dict) else None
    return _parsed(body) if isinstance(_parsed(body), dict) else value


def _turns_asked(value: Any) -> RawMessages:
    """Return the turns in the body of a request, or in a list of turns; [] if it is neither."""
    value = _unwrapped(value)
    if isinstance(value, list):
        turns = shaped_messages(value) if any(isinstance(turn, dict) and role_of(turn) for turn in value) else []
        return turns
    if not isinstance(value, dict):
        return []
    for name in TURNS_OF_REQUEST:
        inner = value.get(name)
        if isinstance(inner, list) and find_shape(inner) and any(map(role_of, inner)):
            return shaped_messages(inner)
        if isinstance(inner, str) and inner.strip() and "model" in value:
            return [{"role": "user", "content": inner}]
    return []


def _is_body(value: Any) -> bool:
    body = _unwrapped(value)
    if isinstance(body, list):
        return bool(body) and all(isinstance(turn, dict) and role_of(turn) == "assistant" for turn in body)
    return isinstance(body, dict) and bool(_answers(body))


def _answers(body: JsonObject) -> list[Any]:
    """List the answers in a response under the key of its API; [] if there is none."""
    for key in ("choices", "candidates"):
        if isinstance(body.get(key), list) and all(isinstance(one, dict) for one in body[key]):
            return list(body[key])
    if isinstance(body.get("message"), dict):
        return [body["message"]]
    if isinstance(body.get("output"), list) and body.get("object") == "response":
        return [body]
    is_message = role_named(body.get("role")) == "assistant" and ("content" in body or "tool_calls" in body)
    return [body] if is_message else []


def _answer_of(body: Any) -> JsonObject:
    """Return the message of a response; {} if it has none. Raises: DataError if it has several answers."""
    if isinstance(body, list):
        body = body[0] if len(body) == 1 else {}
    answers = _answers(body) if isinstance(body, dict) else []
    if len(answers) > 1:
        raise DataError(f"it has {len(answers)} answers, and it is unclear which one is the best; keep one of them")
    return _as_message(answers[0]) if answers else {}


def _as_message(answer: JsonObject) -> JsonObject:
    if isinstance(answer.get("message"), dict):
        return dict(answer["message"])
    if isinstance(answer.get("content"), dict):  # Google's candidate
        return {"role": "assistant", "content": answer["content"].get("parts")}
    if isinstance(answer.get("output"), list):
        return {"role": "assistant", "content": _parts_of_output(answer["output"])}
    if isinstance(answer.get("text"), str):
        return {"role": "assistant", "content": answer["text"]}
    return {**answer, "role": "assistant"} if "content" in answer or "tool_calls" in answer else {}


def _parts_of_output(items: list[Any]) -> list[Any]:
    """List the content parts of the Responses API; calls and other items stay, so that they are refused by name."""
    parts: list[Any] = []
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "message" and isinstance(item.get("content"), list):
            parts += item["content"]
        elif kind != "reasoning":
            parts.append(item)
    return parts

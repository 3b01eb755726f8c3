"""Parse values as Python and numpy print them, without running any code."""

from __future__ import annotations

import ast
import re
from typing import Any

from sft_app.data.tool_calls import parse_json

MAX_LITERAL_BYTES = 2_000_000
"""A parsed literal takes up to 200 times its size."""
# A complete string in one of the two quotes, or the text up to the next string.
_PART = re.compile(
    r"""(?P<string>[bBuUrR]{0,2}(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"))|(?P<other>[^'"]++)""", re.DOTALL
)
_BYTES = re.compile(r"[bBrR]")
_ALLOWED = re.compile(
    r"(?:[\s\[\]{}(),:]|-?\d[\d._]*(?:[eE][-+]?\d+)?|\b(?:None|True|False|nan|inf|array|dtype=\w+|np\.\w+|numpy\.\w+)\b)*"
)


def parsed_cell(value: Any) -> Any:
    """Parse a cell that holds a list or an object as JSON or as Python prints it; other cells stay."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    if isinstance(parsed := parse_json(value), (list, dict)):
        return parsed
    try:
        return parse_python_literal(value.strip())
    except ValueError:
        return value


def parse_python_literal(text: str) -> Any:
    """Parse a value printed by Python: dicts, lists, texts, numbers, and numpy arrays of these.

    numpy prints no commas between the items of an array; they are added.

    Tuples become lists.

    Raises:
        ValueError: the text is anything else, or longer than `MAX_LITERAL_BYTES`.
    """
    if len(text) > MAX_LITERAL_BYTES:
        raise ValueError("too long for a Python literal")
    parts, position = [], 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or (part["other"] is not None and not _ALLOWED.fullmatch(part["other"])):
            raise ValueError("not a Python literal")
        parts.append(part["string"] or _as_plain_python(part["other"]))
        if part["string"] and _BYTES.match(part["string"]):
            raise ValueError("bytes are not text")
        position = part.end()
    try:
        return _as_json(ast.literal_eval(_with_commas(parts)))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("not a Python literal") from error


def _as_json(value: Any) -> Any:
    """Turn tuples into lists and names into texts, as JSON has them."""
    if isinstance(value, dict):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    raise ValueError("not a Python literal")


def _as_plain_python(text: str) -> str:
    """Replace what numpy adds to lists and numbers by plain Python."""
    text = re.sub(r"\b(?:array|(?:np|numpy)\.\w+)(?=\()", "", text)
    text = re.sub(r",\s*dtype=\w+", "", text)
    text = re.sub(r"\b(?:nan|inf)\b", "None", text)
    text = re.sub(r"([}\]])(\s+)(?=[{\[])", r"\1,\2", text)
    return re.sub(r"(\d)(\s+)(?=[-\d])", r"\1,\2", text)


def _with_commas(parts: list[str]) -> str:
    """Join the parts; two texts with only space between them are two items, as numpy prints them, not one."""
    joined: list[str] = []
    for index, part in enumerate(parts):
        is_space = not part.strip()
        if is_space and 0 < index < len(parts) - 1:
            joined.append(",")
        joined.append(part)
    return "".join(joined).strip()

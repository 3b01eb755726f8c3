"""Numbers as they are written: `1.50` keeps its zero where a text is needed, and is a number in a JSON schema."""

from __future__ import annotations

from typing import Any


class WrittenNumber(str):
    """The text of a number that Python would write in another way, such as 1.50 or 1e3."""


def exact_number(text: str) -> float | WrittenNumber:
    """Return a decimal number, or the text itself if the number would be written in another way, such as 1.50."""
    number = float(text)
    return number if repr(number) == text else WrittenNumber(text)


def as_numbers(value: Any) -> Any:
    """Return plain values with each `WrittenNumber` as its number."""
    if isinstance(value, WrittenNumber):
        return int(value) if value.lstrip("-").isdecimal() else float(value)
    if isinstance(value, dict):
        return {key: as_numbers(inner) for key, inner in value.items()}
    return [as_numbers(inner) for inner in value] if isinstance(value, list) else value

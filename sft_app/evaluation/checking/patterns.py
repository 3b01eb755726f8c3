"""Regular expressions from files, which may take neither all memory nor more than a given time."""

from __future__ import annotations

import math

import regex

LONGEST_PATTERN = 1000
LARGEST_PATTERN = 100_000
"""In parts, when each repetition is written out, as the `regex` library does; a million take up to 800 MB."""
_COUNT = regex.compile(r"(?P<group>[\s)]\s*)?\{(?P<least>(?:[0-9\s]|#[^\n]*\n)+)")
"""The smallest count of a repetition. White space and comments are part of it in patterns with (?x)."""


def check_pattern(pattern: str) -> None:
    """Compile a pattern. Raises: ValueError if it is not one, or would take too much memory."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"it has more than {LONGEST_PATTERN:,} characters")
    if written_out(pattern) > LARGEST_PATTERN:
        raise ValueError("its repetitions multiply to too many; use smaller numbers, or * and + inside of repetitions")
    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or "it is too large") from error


def is_found(pattern: str, text: str, seconds: float) -> bool:
    """Search for a pattern. Raises: TimeoutError, MemoryError, or ValueError as `check_pattern`."""
    check_pattern(pattern)
    return regex.search(pattern, text, timeout=seconds, concurrent=True) is not None


def written_out(pattern: str) -> int:
    """Return at least the number of parts that a pattern has when each repetition is written out.

    Repetitions of groups are multiplied as if each contained the others, so that nothing has to be parsed.
    """
    parts, times = len(pattern), 1
    for count in _COUNT.finditer(pattern):
        least = int("".join(filter(str.isdecimal, count["least"]))[:9] or 0)
        if count["group"] is None:
            parts += least
        else:
            times *= max(least, 1)
    return min(parts * times, math.floor(1e18))

"""Put the messages of a conversation in order by their turns, ids or times, in the ways that programs write times."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import isfinite
from typing import Any

DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%b %d %Y")
MORE_DAYS = ("%d %b %Y", "%B %d %Y", "%d %B %Y", "%Y-%m-%d")
CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f")


def order_keys(values: Sequence[Any]) -> list[float] | None:
    """Return a number for each value by which to sort; None unless all have one, and they differ.

    All values are read in the same way. Where days and months could be swapped, the file's own order decides.
    """
    texts = [str(value).strip() for value in values]
    for read in (_number, _iso, _mail):
        keys = _all(texts, read)
        if keys is not None:
            return keys if len(set(keys)) > 1 else None
    texts = [re.sub(r"\s+", " ", text.replace(",", " ")) for text in texts]
    found = [keys for style in _styles(_shape(texts[0])) if (keys := _all(texts, _reader(style))) is not None]
    if not found:
        return _numbers_in(texts)
    if len(set(found[0])) < 2:
        return None
    in_file_order = (keys for keys in found if keys == sorted(keys))
    return next(in_file_order, found[0])


def _numbers_in(texts: Sequence[str]) -> list[float] | None:
    """Return the only number in each text, such as 10 in `turn 10`; None unless all else is the same, or all are."""
    found = [re.fullmatch(r"(\D*)(\d{1,15})(\D*)", text) for text in texts]
    numbers = [(int(one[2]), one[1], one[3]) for one in found if one]
    if len(numbers) < len(texts) or len({one[1:] for one in numbers}) > 1 or len(set(numbers)) < 2:
        return None
    return [float(one[0]) for one in numbers]


def _shape(text: str) -> str:
    """Return a text with other numbers, which every way to write times reads if it reads the text."""
    return re.sub(r"\d+", lambda found: "2001" if len(found[0]) == 4 else "01", text)


@lru_cache(maxsize=256)
def _styles(shape: str) -> list[str]:
    days = (*DAYS, *MORE_DAYS)
    styles = [f"{day} {clock}" for day in days for clock in CLOCKS] + [*CLOCKS, *days]
    return [style for style in styles if _all([shape], _reader(style)) is not None]


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _all(texts: Sequence[str], read: Callable[[str], float]) -> list[float] | None:
    try:
        return [read(text) for text in texts]
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _iso(text: str) -> float:
    return _seconds(datetime.fromisoformat(text))


def _mail(text: str) -> float:
    """Read a time as mails and browsers write it, such as `Mon, 5 May 2025 10:00:00 +0200`."""
    return _seconds(parsedate_to_datetime(text))


def _reader(style: str) -> Callable[[str], float]:
    return lambda text: _seconds(datetime.strptime(text, style))


def _seconds(moment: datetime) -> float:
    """Return seconds that compare well; `timestamp()` fails before 1970 on some systems."""
    zone = moment.utcoffset()
    return (moment.replace(tzinfo=None) - datetime(2000, 1, 1)).total_seconds() - (zone.total_seconds() if zone else 0)

"""Put the rows of a conversation in order: by turns, by times, or by row ids that count upwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from sft_app.data.formats.converters.message_cells import PLACE_COLUMNS, ROW_IDS, TIME_COLUMNS, TURN_COLUMNS
from sft_app.data.formats.converters.turn_order import order_keys
from sft_app.data.rows import JsonObject

HALF_A_DAY, DAY = 12 * 3600, 24 * 3600
ONLY_CLOCK = -99 * 365 * DAY
"""A time without a date is read as one of the year 1900, more than these seconds before 2000."""


def telling_ids(cells: Sequence[JsonObject]) -> str:
    """Find the column of ids that count upwards or downwards through a file, or with few gaps; "" if none does."""
    for name in ROW_IDS:
        keys = order_keys([values.get(name) for values in cells])
        if keys and (keys in (sorted(keys), sorted(keys, reverse=True)) or _are_close(keys)):
            return name
    return ""


def in_order(cells: Sequence[JsonObject], ids: str) -> list[int]:
    """Return the places of a conversation's rows in their order; what neither turns, times nor `ids` tell stays."""
    found = (turn_keys(cells), time_keys(cells), _first(cells, (ids,)) if ids else None)
    levels = [keys for keys in found if keys is not None]
    return sorted(range(len(cells)), key=lambda where: [keys[where] for keys in levels])


def turn_keys(cells: Sequence[JsonObject]) -> list[float] | None:
    """Return the numbers of the turns; None if no column has them."""
    keys = _first(cells, TURN_COLUMNS)
    places = (order_keys([values.get(name) for values in cells]) for name in PLACE_COLUMNS)
    return keys or next((keys for keys in places if keys and _are_close(keys)), None)


def time_keys(cells: Sequence[JsonObject]) -> list[float] | None:
    """Return the times of the messages in seconds; None if they cannot be read, or are all the same."""
    if all(values.get("date") and values.get("time") for values in cells):
        keys = order_keys([f"{values['date']} {values['time']}" for values in cells])
        if keys is not None:
            return keys
    keys = _first(cells, TIME_COLUMNS)
    return _past_midnight(keys) if keys and max(keys) < ONLY_CLOCK else keys


def unread_times(cells: Sequence[JsonObject]) -> str:
    """Return the column of a conversation's times if nothing could be read to put it in order; "" otherwise."""
    if turn_keys(cells) is not None or time_keys(cells) is not None:
        return ""
    columns = {name: [str(values.get(name) or "").strip() for values in cells] for name in TIME_COLUMNS}
    return next((name for name, texts in columns.items() if len(set(texts)) > 1), "")


def _first(cells: Sequence[JsonObject], names: Sequence[str]) -> list[float] | None:
    found = (order_keys([values.get(name) for values in cells]) for name in names)
    return next((keys for keys in found if keys is not None), None)


def _are_close(keys: list[float]) -> bool:
    return max(keys) - min(keys) <= 2 * len(keys) + 2


def _past_midnight(keys: list[float]) -> list[float]:
    """Add a day where a clock jumps back by more than half of one."""
    days = [0]
    for before, after in pairwise(keys):
        days.append(days[-1] + (before - after > HALF_A_DAY))
    return [key + DAY * day for key, day in zip(keys, days, strict=True)]

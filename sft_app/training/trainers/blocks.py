"""Running text for the classic trainer: conversations end to end, cut into blocks of equal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def cut_into_blocks(texts: Iterable[list[int]], block_size: int) -> Iterator[dict[str, list[int]]]:
    """Rows of `block_size` ids, each id its own label; what is left at the end is a shorter row.

    A single token is left out there, since nothing comes before it to predict it from.
    """
    rest: list[int] = []
    for ids in texts:
        rest += ids
        whole = len(rest) - len(rest) % block_size
        yield from (_row(rest[start : start + block_size]) for start in range(0, whole, block_size))
        rest = rest[whole:]
    if len(rest) > 1:
        yield _row(rest)


def _row(ids: list[int]) -> dict[str, list[int]]:
    return {"input_ids": ids, "labels": list(ids)}

"""Page through the conversations of a file, also beyond those that are kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from sft_app.data.reading import Example, LoadedData, Reading

PAGE_EXAMPLES = 20
PAGE_CHARACTERS = 200_000
"""A page ends early at this length: a browser cannot edit a million characters at once."""


@dataclass(frozen=True)
class ExamplePage:
    """Consecutive examples from the index `first` on, and the index that the next page begins with, if there is one."""

    first: int
    examples: list[Example]
    next: int | None


def read_page(loaded: LoadedData, first: int) -> ExamplePage:
    """Return the page that begins with the example of index `first`, or with the nearest one.

    Raises: DataError if the file cannot be read.
    """
    first = max(first, 0)
    if loaded.is_whole:
        first = min(first, len(loaded.examples) - 1)
    end = first + PAGE_EXAMPLES + 1  # one more tells whether there is a next page
    is_in_memory = loaded.is_whole or end <= len(loaded.examples)
    found = list(islice(loaded.examples if is_in_memory else Reading(loaded.file), first, end))
    if not found:  # the file has become shorter
        return read_page(loaded, 0)
    shown = list(_that_fit(found[:PAGE_EXAMPLES]))
    return ExamplePage(first, shown, first + len(shown) if len(shown) < len(found) else None)


def index_of_row(loaded: LoadedData, row: int) -> int:
    """Return the index of the example from this row of the file; of the next usable row, or the last, if it has none.

    Raises: DataError if the file cannot be read.
    """
    is_in_memory = loaded.is_whole or row <= loaded.examples[-1].row
    after, last = None, 0
    for index, example in enumerate(loaded.examples if is_in_memory else Reading(loaded.file)):
        last = index
        if example.row == row:
            return index
        if example.row > row and after is None:
            after = index
            if not loaded.file.joins_rows:  # joined conversations need not be in the order of their rows
                break
    return last if after is None else after


def _that_fit(examples: Iterable[Example]) -> Iterator[Example]:
    characters = 0
    for count, example in enumerate(examples):
        characters += sum(len(message.content) for message in example.conversation.messages)
        if count and characters > PAGE_CHARACTERS:
            return
        yield example

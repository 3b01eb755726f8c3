"""Define `Layout`, the record of everything the app knows about one layout of data files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sft_app.data.formats.converters import tables
from sft_app.data.formats.converters.tables import ColumnMap
from sft_app.data.messages import RawMessages
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.settings import DataSettings, Format

Converter = Callable[[JsonObject, DataSettings], list[RawMessages]]
"""Turns a row into message lists, several if the row has several answers. Raises `DataError` for a row that cannot be
used, and `NotChosen` for one that the settings exclude."""
RowsConverter = Callable[[Iterable[Row | Rejected], DataSettings], Iterator[tuple[Row, RawMessages] | Rejected]]
"""Joins rows that only together make conversations into message lists, and yields each with the row it ends with."""


def _all_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    return list(row)


@dataclass(frozen=True)
class Layout:
    """Everything the app knows about one layout of data files.

    A layout is recognised by the shape of its values (`recognise`, `evidence`), or as a table with the columns of one
    of its `column_maps`. If several layouts fit, the one with the highest `precedence` is used.

    name: the value of the setting `format`.
    label: the layout in the page's list of choices and in the README.
    documentation: its columns, in a Markdown phrase for the README.
    examples: its files in `examples/formats`, with three conversations each.
    convert: turns a row into message lists.
    columns_read: lists the columns of a row that `convert` reads; the others are reported as not used.
    recognise: returns the column of a row that identifies the layout, "" if the row has another layout.
    evidence: why the rows have this layout, with `{}` for that column.
    column_maps: the known columns of a table of texts.
    columns_are: the end of the sentence "the columns … are …".
    has_answers: False if no column can mark an answer as bad.
    notes: says what `convert` leaves out of the first rows.
    is_exchange: each row is one question and its answer, so that rows may continue each other (`row_chains`).
    is_part: returns whether a row is only part of a conversation; `convert_rows` then converts all rows together.
    """

    name: Format
    label: str
    documentation: str
    examples: tuple[str, ...]
    convert: Converter
    columns_read: Callable[[JsonObject, DataSettings], list[str]] = _all_columns
    recognise: Callable[[JsonObject], str] | None = None
    evidence: str = ""
    column_maps: tuple[ColumnMap, ...] = ()
    columns_are: str = ""
    precedence: int = 0
    has_answers: bool = True
    is_exchange: bool = False
    notes: Callable[[list[JsonObject], DataSettings], list[str]] | None = None
    is_part: Callable[[JsonObject], bool] | None = None
    convert_rows: RowsConverter | None = None


def _convert_table(maps: Sequence[ColumnMap], row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    return tables.from_columns(row, tables.fitting_map(maps, row))


def _table_columns(maps: Sequence[ColumnMap], row: JsonObject, settings: DataSettings) -> list[str]:
    map = tables.fitting_map(maps, row)
    return [*map.used(), *tables.extra_columns(row, map)]


def table_layout(
    name: Format, label: str, documentation: str, example: str, columns_are: str, *maps: ColumnMap
) -> Layout:
    """Build the record of a well-known table of texts; if a row fits several of `maps`, the first is used."""
    return Layout(
        name,
        label,
        documentation,
        (example,),
        partial(_convert_table, maps),
        partial(_table_columns, maps),
        column_maps=maps,
        columns_are=columns_are,
        is_exchange=True,
    )

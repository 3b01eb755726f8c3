"""Rows of parquet files, as values that JSON could hold."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.data.rows import Progress, Rejected, Row
from sft_app.data.sources.csv_files import unique_names
from sft_app.data.sources.lines import (
    BOMB_BYTES,
    BOMB_RATIO,
    MAX_ROW_BYTES,
    Fault,
    TooLong,
    at_most_20_a_second,
)

if TYPE_CHECKING:
    import pyarrow

BATCH_BYTES = 2**24
# Of a value that stands in the file once and in every row, a batch has this many.
MAX_BATCH_ROWS = 64
BINARY_LEFT_OUT = "read without their binary values"


def read_parquet(path: Path, on_progress: Progress | None = None) -> Iterator[Row | Rejected]:
    """Every row; bytes that are no UTF-8 text (a picture, say) become None, which the row's note tells.

    Raises:
        Fault: the file is not parquet, or is damaged from here on.
        OSError: the disk fails.
    """
    import pyarrow.parquet

    tell = at_most_20_a_second(on_progress)
    with path.open("rb") as file:
        try:
            source = pyarrow.parquet.ParquetFile(file)
            number, total, unpacked = 0, source.metadata.num_rows, 0
            most = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
            for batch in _batches(source):
                unpacked += batch.nbytes
                if unpacked > most:
                    raise Fault(f"it unpacks to more than {most / 1e6:.0f} MB, which no text file does")
                yield from _read_batch(number, batch)
                number += batch.num_rows
                tell(number / max(1, total))
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # the disk; pyarrow's own have no number
                raise
            raise Fault("the file is not Parquet, or is damaged or cut off; save or download it again") from error


def _batches(source: pyarrow.parquet.ParquetFile) -> Iterator[pyarrow.RecordBatch]:
    """None of them has rows of two row groups, so that what is damaged in one leaves those before it whole."""
    for group in range(source.metadata.num_row_groups):
        for batch in source.iter_batches(batch_size=_rows_a_batch(source.metadata), row_groups=[group]):
            yield _in_full(batch)


def _in_full(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """A value that is shared by rows stands in each of them, so that `nbytes` counts what Python will hold."""
    import pyarrow

    shared = [pyarrow.types.is_dictionary(column.type) for column in batch.columns]
    if not any(shared):
        return batch
    columns = [
        column.dictionary_decode() if is_shared else column
        for column, is_shared in zip(batch.columns, shared, strict=True)
    ]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _rows_a_batch(metadata: pyarrow.parquet.FileMetaData) -> int:
    """As many rows as take about `BATCH_BYTES`."""
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    return max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))


def _read_batch(before: int, batch: pyarrow.RecordBatch) -> Iterator[Row | Rejected]:
    """The rows of a batch that `before` rows stand before. One by one if pyarrow cannot make values of all."""
    names = unique_names(batch.schema.names)
    if batch.num_rows == 1 and batch.nbytes > MAX_ROW_BYTES:
        yield Rejected(before + 1, TooLong(batch.nbytes).reason)
        return
    if batch.nbytes > MAX_ROW_BYTES:
        for place in range(batch.num_rows):
            yield from _read_batch(before + place, batch.slice(place, 1))
        return
    try:
        columns = [column.to_pylist() for column in batch.columns]
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield Rejected(before + 1, f"a value that cannot be stored: {error}")
            return
        for place in range(batch.num_rows):
            yield from _read_batch(before + place, batch.slice(place, 1))
        return
    for place in range(batch.num_rows):
        yield _as_row(before + place + 1, {name: column[place] for name, column in zip(names, columns, strict=True)})


def _as_row(number: int, values: dict[str, Any]) -> Row:
    left_out: list[bytes] = []
    plain = {name: _as_plain(value, left_out) for name, value in values.items()}
    return Row(number, plain, BINARY_LEFT_OUT if left_out else "")


def _as_plain(value: Any, left_out: list[bytes]) -> Any:
    """The value as JSON has it: dates in ISO 8601, decimals as text. Bytes that are no text go to `left_out`."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _as_plain(item, left_out) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(item, left_out) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return _as_text(value, left_out)
    return str(value)


def _as_text(value: bytes, left_out: list[bytes]) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        left_out.append(value)
        return None

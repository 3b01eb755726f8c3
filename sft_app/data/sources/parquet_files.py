"""Read the rows of Parquet files, as values that JSON can represent."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.data.sources.lines import (
    BOMB_BYTES,
    BOMB_RATIO,
    MAX_ROW_BYTES,
    TooLong,
    UnreadableFileError,
    limit_report_rate,
)
from sft_app.data.sources.tables import unique_names
from sft_app.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    import pyarrow

BATCH_BYTES = 2**24
# A value that is stored once but used in every row occurs this many times in a batch.
MAX_BATCH_ROWS = 64
BINARY_LEFT_OUT = "read without their binary values"


def read_parquet_rows(path: Path, on_progress: ProgressCallback | None = None) -> Iterator[Row | Rejected]:
    """Read every row; bytes that are not UTF-8 text, such as images, become None, and the row gets a note.

    Raises:
        UnreadableFileError: the file is not Parquet, or is damaged from here on.
        OSError: the disk fails.
    """
    import pyarrow.parquet

    report = limit_report_rate(on_progress)
    with path.open("rb") as file:
        try:
            source = pyarrow.parquet.ParquetFile(file)
            number, total, unpacked = 0, source.metadata.num_rows, 0
            most = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
            for batch in _batches(source):
                unpacked += batch.nbytes
                if unpacked > most:
                    raise UnreadableFileError(
                        f"it unpacks to more than {most / 1e6:.0f} MB, which is too large for text"
                    )
                yield from _read_batch(number, batch)
                number += batch.num_rows
                report(number / max(1, total))
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # from the disk; pyarrow's own errors have no errno
                raise
            raise UnreadableFileError(
                "the file is not Parquet, or is damaged or cut off; save or download it again"
            ) from error


def _batches(source: pyarrow.parquet.ParquetFile) -> Iterator[pyarrow.RecordBatch]:
    """Read batches that never span two row groups, so that a damaged group does not affect those before it."""
    for group in range(source.metadata.num_row_groups):
        for batch in source.iter_batches(batch_size=_rows_per_batch(source.metadata), row_groups=[group]):
            yield _without_dictionaries(batch)


def _without_dictionaries(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """Copy shared values into each row, so that `nbytes` is what the rows take in Python."""
    import pyarrow

    shared = [pyarrow.types.is_dictionary(column.type) for column in batch.columns]
    if not any(shared):
        return batch
    columns = [
        column.dictionary_decode() if is_shared else column
        for column, is_shared in zip(batch.columns, shared, strict=True)
    ]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _rows_per_batch(metadata: pyarrow.parquet.FileMetaData) -> int:
    """Return how many rows take about `BATCH_BYTES`."""
    groups = range(metadata.num_row_groups)
    size = sum(metadata.row_group(group).total_byte_size for group in groups)
    rows: int = BATCH_BYTES * metadata.num_rows // max(1, size)
    return max(1, min(MAX_BATCH_ROWS, rows))


def _read_batch(before: int, batch: pyarrow.RecordBatch) -> Iterator[Row | Rejected]:
    """Read the rows of a batch after `before` rows, one by one if pyarrow cannot convert them together."""
    names = unique_names(batch.schema.names)
    if batch.num_rows == 1 and batch.nbytes > MAX_ROW_BYTES:
        yield Rejected(before + 1, TooLong(batch.nbytes).reason)
        return
    if batch.nbytes > MAX_ROW_BYTES:
        for index in range(batch.num_rows):
            yield from _read_batch(before + index, batch.slice(index, 1))
        return
    try:
        columns = [column.to_pylist() for column in batch.columns]
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield Rejected(before + 1, f"a value that cannot be stored: {error}")
            return
        for index in range(batch.num_rows):
            yield from _read_batch(before + index, batch.slice(index, 1))
        return
    for index in range(batch.num_rows):
        yield _as_row(before + index + 1, {name: column[index] for name, column in zip(names, columns, strict=True)})


def _as_row(number: int, values: JsonObject) -> Row:
    left_out: list[bytes] = []
    plain = {name: _as_plain(value, left_out) for name, value in values.items()}
    return Row(number, plain, BINARY_LEFT_OUT if left_out else "")


def _as_plain(value: Any, left_out: list[bytes]) -> Any:
    """Convert a value to JSON: dates become ISO 8601, decimals text. Bytes that are not text go to `left_out`."""
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

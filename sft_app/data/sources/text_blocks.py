"""Read the text of a file in blocks of UTF-8, and recognise files that are not data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sft_app.data.sources.encodings import as_utf8
from sft_app.data.sources.lines import UnreadableFileError, take_head
from sft_app.data.sources.packed_files import unpacked_blocks
from sft_app.runtime.progress import ProgressCallback

_OTHER_FILE_TYPES = {
    b"PK\x03\x04": "a ZIP, Excel or Word file; save it as CSV, or give it the ending .xlsx or .zip",
    b"\x1f\x8b": "compressed with gzip; add .gz to its name",
    b"BZh": "compressed with bzip2; add .bz2 to its name",
    b"\xfd7zXZ\0": "compressed with xz; add .xz to its name",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; add .zst to its name",
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"%PDF-": "a PDF file; save its text as .txt",
    b"{\\rtf": "a Rich Text document; save its text as .txt",
    b"\xd0\xcf\x11\xe0": "an Excel or Word file in the old format; open it and save it as .xlsx or .csv",
    b"SQLite format 3": "an SQLite database; export its table as CSV",
}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_XML = re.compile(rb"\s*<\?xml\b")
_NOTEBOOK = re.compile(
    rb'\s*\{\s*"(?:cells"\s*:\s*\[\s*(?:\{\s*"(?:cell_type|attachments|execution_count)"|\])|nbformat")'
)
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1b")


def text_blocks(
    path: Path, on_progress: ProgressCallback | None = None, notes: list[str] | None = None
) -> Iterator[bytes]:
    """Read the text of a file in blocks: unpacked, converted to UTF-8, with LF or CRLF.

    The first block has at least `HEAD_BYTES` bytes if the text does. A note is added if its encoding was guessed.

    Raises:
        UnreadableFileError: the file is empty, is not data, is not text, or is damaged from here on.
        OSError: the disk fails.
    """
    head, blocks = take_head(unpacked_blocks(path, on_progress))
    _refuse_other_types(head)
    head, blocks = take_head(as_utf8(blocks, [] if notes is None else notes))
    _refuse_binary_data(head)
    refuse_other_texts(head)
    if b"\n" not in head and b"\r" in head[:-1]:  # line endings of classic Mac OS, which Excel still offers
        blocks = (block.replace(b"\r", b"\n") for block in blocks)
    yield from blocks


def _refuse_other_types(head: bytes) -> None:
    if not head:
        raise UnreadableFileError("the file is empty")
    for begin, kind in _OTHER_FILE_TYPES.items():
        if head.startswith(begin):
            raise UnreadableFileError(f"the file is {kind}")


def refuse_other_texts(head: bytes) -> None:
    """Refuse texts that people mistake for the data they stand for."""
    if head.startswith(_LFS_POINTER):
        raise UnreadableFileError(
            "this is a Git LFS pointer, not the data; run `git lfs pull`, or download the file itself"
        )
    if _WEB_PAGE.match(head):
        raise UnreadableFileError(
            "this is a saved web page (HTML), not the data; on the page, use the download link of the file"
        )
    if _XML.match(head):
        raise UnreadableFileError("this is an XML file; export the data as CSV or JSON Lines")
    if _NOTEBOOK.match(head):
        raise UnreadableFileError("this is a Jupyter notebook; save the data that it loads as CSV or JSON Lines")


def _refuse_binary_data(head: bytes) -> None:
    if not head:
        raise UnreadableFileError("the file is empty")
    sample = head[:1024]
    if len(sample) - len(sample.translate(None, _CONTROL)) > len(sample) / 20:
        raise UnreadableFileError("the file contains binary data or zero bytes, not text; save it again as UTF-8 text")

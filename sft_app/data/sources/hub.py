"""Download each dataset from the Hugging Face Hub once, as a JSONL file with a record of its source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sft_app.data.rows import JsonObject
from sft_app.data.sources.hub_rows import open_rows
from sft_app.errors import DataError
from sft_app.hub.client import repository_info
from sft_app.hub.errors import HubError
from sft_app.hub.ids import is_hub_id
from sft_app.runtime.files import appearing_whole, jsonl_line, read_json, write_json_atomically
from sft_app.runtime.progress import ProgressCallback

EXAMPLE_ID = "HuggingFaceH4/no_robots"
FORMATS = ("arrow", "csv", "hdf5", "json", "jsonl", "pandas", "parquet", "sql", "text", "webdataset", "xml")
FILE_ENDINGS = (".csv", ".git", ".json", ".jsonl", ".md", ".parquet", ".py", ".tsv", ".txt", ".zip")


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the Hub, and which part of it to read."""

    id: str
    config: str | None
    split: str
    revision: str | None
    max_rows: int | None


def is_dataset_id(text: str) -> bool:
    """Return whether a text can only be an id `owner/name`, rather than an old id without owner or a file name."""
    return is_hub_id(text) and not text.lower().endswith(FILE_ENDINGS)


def refuse_if_unsafe(text: str) -> None:
    """Refuse anything but an id, because `datasets` would also accept formats, web addresses and local folders.

    Raises:
        DataError: the text is not an id; the message says what it is instead.
    """
    checks = (
        (not text.strip(), "the name is empty"),
        ("://" in text, "that is a web address"),
        (re.match(r"[/\\~.]|[A-Za-z]:", text), "that is a path on this machine"),
        (".." in text, "a name cannot contain `..`"),
        (text.lower() in FORMATS, "that is the name of a file format"),
        (text.lower().endswith(".py"), "that is a script, and scripts are not run"),
        (text.lower().endswith(FILE_ENDINGS), "that is the name of a file"),
        (not is_dataset_id(text), "that is not an owner, a slash and a name"),
    )
    reason = next((reason for applies, reason in checks if applies), None)
    if reason:
        shown = "This" if "://" in text else repr(text[:80])  # an address may hold a password
        raise DataError(
            f"{shown} is not a dataset on the Hub: {reason}. Enter the id shown on its page, such as {EXAMPLE_ID}."
        )


def fetch_dataset(dataset: HubDataset, folder: Path, on_progress: ProgressCallback | None = None) -> Path:
    """Download the rows as a JSONL file to `folder`, unless it has the same rows of the same commit already.

    A `.source.json` file next to it records the source. If the Hub cannot be reached, the last copy is used.

    Raises:
        DataError: there are no such rows, the Hub refuses them, or they cannot be read or stored.
    """
    refuse_if_unsafe(dataset.id)
    if dataset.max_rows is not None and dataset.max_rows < 1:
        raise DataError(f"Max rows must be at least 1, got {dataset.max_rows}. Leave it empty to read all rows.")
    try:
        info = repository_info("dataset", dataset.id, dataset.revision)
    except HubError as error:
        if error.is_temporary and (kept := _last_copy(dataset, folder)):
            return kept
        raise DataError(str(error)) from error
    path = folder / f"{_file_stem(dataset, info.sha)}.jsonl"
    if not _is_copy(path, {**_request(dataset), "commit": info.sha}):
        _refuse_script(dataset, info)
        _store(dataset, info, path, on_progress)
    return path


def read_source(path: Path) -> JsonObject:
    """Read the source record next to a downloaded file; {} if it is missing or unreadable."""
    return read_json(_source_path(path), dict) or {}


def _refuse_script(dataset: HubDataset, info: Any) -> None:
    script = f"{dataset.id.partition('/')[2]}.py"
    if any(file.rfilename == script for file in info.siblings or ()):
        raise DataError(
            f"{dataset.id} can only be read with the loading script {script}, and scripts from the Hub are not run. "
            "Look for a copy in Parquet or JSONL, or download a file and use that."
        )


def _store(dataset: HubDataset, info: Any, path: Path, on_progress: ProgressCallback | None) -> None:
    source = open_rows(dataset.id, dataset.config, dataset.split, info.sha)
    total = min((number for number in (dataset.max_rows, source.total) if number), default=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing_whole(path) as file:
            count = _write_lines(file, islice(source.rows, dataset.max_rows), total, on_progress)
            if count == 0:
                raise DataError(f"The split {dataset.split!r} of {dataset.id} has no rows. Choose another split.")
        note = {**_request(dataset), "commit": info.sha, "rows": count, "columns_left_out": source.columns_left_out}
        write_json_atomically(_source_path(path), {**note, "licence": _licence(info)})
    except OSError as error:
        raise DataError(f"{path.name} cannot be written to {path.parent}: {error.strerror or error}.") from error


def _write_lines(file: TextIO, rows: Iterable[JsonObject], total: int, on_progress: ProgressCallback | None) -> int:
    count, step = 0, max(1, total // 100)
    for count, row in enumerate(rows, start=1):
        file.write(jsonl_line(row))
        if on_progress and total and count % step == 0:
            on_progress(min(1.0, count / total))
    return count


def _licence(info: Any) -> str | None:
    licence = (info.card_data or {}).get("license")
    return ", ".join(licence) if isinstance(licence, list) else licence


def _request(dataset: HubDataset) -> JsonObject:
    """Return what identifies a request, as stored in the source record."""
    return {
        "id": dataset.id,
        "config": dataset.config,
        "split": dataset.split,
        "revision": dataset.revision or "main",
        "max_rows": dataset.max_rows,
    }


def _last_copy(dataset: HubDataset, folder: Path) -> Path | None:
    copies = [path for path in folder.glob("*.jsonl") if _is_copy(path, _request(dataset))]
    return max(copies, key=lambda path: path.stat().st_mtime, default=None)


def _is_copy(path: Path, expected: JsonObject) -> bool:
    """Return whether a file's source record matches; if the commit is known, the requested revision is ignored."""
    source = read_source(path)
    compared = expected.keys() - ({"revision"} if "commit" in expected else set())
    return path.is_file() and all(source.get(key) == expected[key] for key in compared)


def _source_path(path: Path) -> Path:
    return path.with_suffix(".source.json")


def _file_stem(dataset: HubDataset, commit: str) -> str:
    """Return `owner-name--config--split--commit--rows`; the source record tells requests with equal stems apart."""
    rows = "all" if dataset.max_rows is None else str(dataset.max_rows)
    parts = (dataset.id[:96], (dataset.config or "")[:40], dataset.split[:40], commit[:12], rows)
    return "--".join(re.sub(r"[^A-Za-z0-9._-]", "-", part) for part in parts if part)

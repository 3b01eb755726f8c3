"""Read the rows of a Hub dataset while they are downloaded, as values that JSON can represent."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.hub.login import hub_token

NAMES_SHOWN = 8


@dataclass(frozen=True)
class HubRows:
    """The rows of a split.

    `total` is the number on the dataset's card, or None; `columns_left_out` contain images, audio or bytes.
    """

    rows: Iterator[JsonObject]
    total: int | None
    columns_left_out: list[str]


def open_rows(id: str, config: str | None, split: str, commit: str) -> HubRows:
    """Open the rows, in order. Only their schema is downloaded before the first row is read.

    Raises:
        DataError: there is no such config or split, or it cannot be read; the latter also while iterating.
    """
    stream = _open_stream(id, config, split, commit)
    features = stream.features or {}  # None for JSON and CSV, which contain no images
    left_out = [name for name, feature in features.items() if not _is_plain(feature)]
    if left_out and len(left_out) == len(features):
        raise DataError(f"{id} has no columns of text or numbers, only {_some_of(left_out)}. Use another dataset.")
    if left_out:  # select columns instead of removing some, which would decode the images first
        stream = stream.select_columns([name for name in features if name not in left_out])
    about_split = (stream.info.splits or {}).get(split)
    rows = _plain_rows(id, stream, features)
    return HubRows(rows, about_split.num_examples if about_split else None, left_out)


def plain_value(value: Any, feature: Any = None) -> Any:
    """Convert a value to JSON: dates become ISO text, class labels their names, NaN and infinity None."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel) and isinstance(value, int):
        return feature.names[value] if 0 <= value < len(feature.names) else None  # -1 means "no label"
    if isinstance(value, dict):
        inner = feature if isinstance(feature, dict) else {}
        return {str(key): plain_value(item, inner.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item, getattr(feature, "feature", None)) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    return plain_value(value.tolist()) if hasattr(value, "tolist") else str(value)


def short_reason(error: Exception) -> str:
    """Shorten an error's text and remove addresses, because a signed download address works for anyone."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"\w+://\S+", "its address", text)[:200].rstrip(".")


def _open_stream(id: str, config: str | None, split: str, commit: str) -> Any:
    """Open a split as a stream. `hf://` keeps `datasets` from reading a local folder of the same name."""
    from datasets import DownloadConfig, get_dataset_config_names, load_dataset_builder

    address = f"hf://datasets/{id}"
    with _as_data_errors(id):
        try:
            builder = load_dataset_builder(address, name=config, revision=commit, token=hub_token())
            _refuse_files_from_elsewhere(id, builder.config.data_files or {}, f"{address}@{commit}/")
            splits = builder.as_streaming_dataset()
        except (FileNotFoundError, StopIteration) as error:  # StopIteration if the first JSON file is empty
            hint = "it needs Parquet, JSON, JSONL, CSV or text files, and the first must not be empty"
            raise DataError(f"{id} has no readable rows: {hint}. Use another dataset.") from error
        except ValueError:
            asking = DownloadConfig(token=hub_token())
            known = get_dataset_config_names(address, revision=commit, download_config=asking)
            _refuse_unknown_config(id, config, known)
            raise
    if split not in splits:
        source = id if builder.config.name == "default" else f"{id}, config {builder.config.name}"
        raise DataError(f"{source} has no split {split!r}. Choose one of {_some_of(splits)}.")
    return splits[split]


def _refuse_unknown_config(id: str, config: str | None, known: list[str]) -> None:
    if config is None and len(known) > 1:
        raise DataError(f"{id} has several configs. Choose one of {_some_of(known)}.")
    if config is not None and config not in known:
        raise DataError(f"{id} has no config {config!r}. Choose one of {_some_of(known)}.")


def _refuse_files_from_elsewhere(id: str, files_of_splits: dict[str, list[str]], own: str) -> None:
    """Refuse cached files, which `datasets` reads silently, whatever their commit, if it cannot read the Hub's."""
    files = [file for files in files_of_splits.values() for file in files]
    if not files or not all(file.startswith(own) for file in files):
        raise DataError(f"{id} has no readable rows at this revision. Try another revision or dataset.")


def _is_plain(feature: Any) -> bool:
    """Return whether a column contains only text, numbers, dates, and lists and objects of these."""
    import datasets as ds

    if isinstance(feature, dict):
        return all(_is_plain(inner) for inner in feature.values())
    if isinstance(feature, ds.List | ds.LargeList):
        return _is_plain(feature.feature)
    if isinstance(feature, ds.Value):
        return "binary" not in feature.dtype
    arrays = (ds.Array2D, ds.Array3D, ds.Array4D, ds.Array5D)
    return isinstance(feature, (ds.ClassLabel, ds.Json, ds.Translation, ds.TranslationVariableLanguages, *arrays))


def _plain_rows(id: str, stream: Iterable[JsonObject], features: dict[str, Any]) -> Iterator[JsonObject]:
    with _as_data_errors(id):
        for row in stream:
            yield {name: plain_value(value, features.get(name)) for name, value in row.items()}


@contextmanager
def _as_data_errors(id: str) -> Iterator[None]:
    """Turn the errors of the readers of a dozen formats into a `DataError`."""
    import zlib

    import httpx2
    import pyarrow
    import yaml
    from datasets.exceptions import DatasetsError

    kinds = (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, EOFError, zlib.error)
    try:
        yield
    except (*kinds, httpx2.HTTPError, yaml.YAMLError, pyarrow.ArrowException, DatasetsError) as error:
        hint = "Try again, or download a file from its page and use that"
        raise DataError(f"{id} cannot be read ({short_reason(error)}). {hint}.") from error


def _some_of(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more

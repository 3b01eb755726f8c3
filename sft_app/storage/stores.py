"""Where copies are kept: a mounted folder, or a bucket on the Hub.

A store only puts, fetches, lists and deletes files. Neither kind can be trusted to rename or append, so nothing is
written twice under one name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sft_app.errors import SettingsError, StorageError, first_line
from sft_app.hub.login import hide_tokens
from sft_app.runtime.environment import HUB_TOKEN_VARIABLE, STORAGE_TOKEN_VARIABLE, STORAGE_VARIABLE
from sft_app.runtime.files import put_on_disk

BUCKETS = "hf://buckets/"
FOLDER = "runs"  # of the place; it may have other things in it


class Store(Protocol):
    """Keeps files by name, such as `RUN/3/settings.json`. All methods raise StorageError."""

    @property
    def place(self) -> str:
        """The place as the user named it."""

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder; "" for all files."""

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        """Stores each file under its name. Raises FileNotFoundError if one does not exist (any more)."""

    def fetch(self, files: Mapping[str, Path]) -> None:
        """Downloads each name into a file, whose folder exists already."""

    def delete(self, names: Sequence[str]) -> None:
        """Deletes the files with these names."""


def open_store(environment: Mapping[str, str] = os.environ) -> Store | None:
    """The store that `SFT_APP_STORAGE` names; None if it is not set. Raises: SettingsError."""
    place = environment.get(STORAGE_VARIABLE, "").strip()
    if not place:
        return None
    if not place.startswith("hf://"):
        if not Path(place).is_absolute():
            raise SettingsError(f"{STORAGE_VARIABLE}={place!r}: {_EXPECTED}")
        return FolderStore(Path(place))
    parts = place.removeprefix(BUCKETS).strip("/").split("/")
    if not place.startswith(BUCKETS) or len(parts) < 2 or not all(parts):
        raise SettingsError(f"{STORAGE_VARIABLE}={place!r}: {_EXPECTED}")
    return BucketStore("/".join(parts[:2]), "/".join(parts[2:]), storage_token(environment))


_EXPECTED = f"expected the path of a mounted folder (such as /data) or {BUCKETS}USER/NAME."


def storage_is_named(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether copies are wanted, whatever the place."""
    return bool(environment.get(STORAGE_VARIABLE, "").strip())


def storage_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """The token with which a bucket is used."""
    return environment.get(STORAGE_TOKEN_VARIABLE) or environment.get(HUB_TOKEN_VARIABLE) or None


def without_storage_token(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the token for the storage, for processes that do not use it."""
    used = storage_token(environment) if environment.get(STORAGE_VARIABLE, "").startswith("hf://") else None
    return {
        name: text
        for name, text in environment.items()
        if name != STORAGE_TOKEN_VARIABLE and (not used or text != used)
    }


@dataclass(frozen=True)
class FolderStore:
    """A folder on another disk or a mounted bucket. It has to exist: if created here, it would be on the wrong disk."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    def names(self, folder: str) -> list[str]:
        with self._storage_errors("read"):
            start = self._base() / folder
            return sorted(path.relative_to(self._base()).as_posix() for path in start.rglob("*") if path.is_file())

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        for name, source in files.items():
            content = source if isinstance(source, bytes) else None
            # Outside of the block: a file that is missing here is not an error of the storage.
            opened = None if isinstance(source, bytes) else source.open("rb")
            with self._storage_errors("written to"):
                path = self._base() / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    if opened is None:
                        file.write(content or b"")
                    else:
                        with opened:
                            shutil.copyfileobj(opened, file, 2**20)
                put_on_disk(path)

    def fetch(self, files: Mapping[str, Path]) -> None:
        for name, target in files.items():
            with self._storage_errors("read"):
                shutil.copyfile(self._base() / name, target)

    def delete(self, names: Sequence[str]) -> None:
        with self._storage_errors("cleared"):
            for name in names:
                (self._base() / name).unlink(missing_ok=True)
            for folder in sorted({self._base() / name for name in names}, key=lambda path: -len(path.parts)):
                _remove_empty(folder.parent, self._base())

    def _base(self) -> Path:
        if not self.root.is_dir():
            raise StorageError(f"There is no folder {self.root}. Is the storage mounted?")
        return self.root / FOLDER

    @contextmanager
    def _storage_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.root} cannot be {what}: {error.strerror or error}.") from error


def _remove_empty(folder: Path, base: Path) -> None:
    while folder != base and folder.is_relative_to(base):
        try:
            folder.rmdir()
        except OSError:  # something else is in it, or it is gone
            return
        folder = folder.parent


@dataclass(frozen=True)
class BucketStore:
    """A bucket on the Hub. Source: huggingface_hub 2.4, `HfApi.batch_bucket_files` and its neighbours."""

    bucket: str
    prefix: str = ""
    token: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        return BUCKETS + "/".join(filter(None, (self.bucket, self.prefix)))

    def names(self, folder: str) -> list[str]:
        from huggingface_hub.errors import EntryNotFoundError

        below = self._path(folder)
        with self._storage_errors():
            try:
                found = list(self._api().list_bucket_tree(self.bucket, prefix=below, recursive=True))
            except EntryNotFoundError:  # nothing has been put there yet
                found = []
        paths = [item.path for item in found if item.type == "file" and item.path.startswith(f"{below}/")]
        return sorted(path.removeprefix(f"{self._path('')}/") for path in paths)

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        for source in files.values():
            if isinstance(source, Path):
                source.stat()
        added: list[Any] = [(source, self._path(name)) for name, source in files.items()]
        with self._storage_errors():
            self._api().batch_bucket_files(self.bucket, add=added)

    def fetch(self, files: Mapping[str, Path]) -> None:
        wanted: list[Any] = [(self._path(name), target) for name, target in files.items()]
        with self._storage_errors():
            self._api().download_bucket_files(self.bucket, wanted, raise_on_missing_files=True)

    def delete(self, names: Sequence[str]) -> None:
        if names:
            with self._storage_errors():
                self._api().batch_bucket_files(self.bucket, delete=[self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return "/".join(filter(None, (self.prefix, FOLDER, name)))

    def _api(self) -> Any:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # they would fill the log
        return HfApi(token=self.token or False)

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turns the client's errors into StorageError: mostly OSErrors; transfers also raise other kinds."""
        from huggingface_hub.errors import EntryNotFoundError

        try:
            yield
        except (OSError, RuntimeError, ValueError, EntryNotFoundError) as error:
            text = hide_tokens(first_line(error), self.token)
            hint = f"Check {STORAGE_VARIABLE} and {STORAGE_TOKEN_VARIABLE}."
            raise StorageError(f"{self.place}: {text}. {hint}") from error

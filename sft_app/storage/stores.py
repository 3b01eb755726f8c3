"""Put, fetch, list and delete files in a mounted folder or a bucket on the Hub.

Neither reliably supports renaming or appending, so no file is written twice under one name.
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

BUCKET_PREFIX = "hf://buckets/"
RUNS_FOLDER = "runs"  # inside the location, which may contain other files


class Store(Protocol):
    """Stores files by name, such as `RUN/3/settings.json`. All methods raise StorageError."""

    @property
    def location(self) -> str:
        """Return the location as the user gave it."""

    def names(self, folder: str) -> list[str]:
        """List all files below a folder; "" lists everything."""

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        """Upload files by name.

        Raises: FileNotFoundError if a local file is missing.
        """

    def fetch(self, files: Mapping[str, Path]) -> None:
        """Download each name into a file whose folder exists."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete files by name."""


def open_store(environment: Mapping[str, str] = os.environ) -> Store | None:
    """Open the store that `SFT_APP_STORAGE` names, or return None if it is empty.

    Raises: SettingsError.
    """
    location = environment.get(STORAGE_VARIABLE, "").strip()
    if not location:
        return None
    if not location.startswith("hf://"):
        if not Path(location).is_absolute():
            raise SettingsError(f"{STORAGE_VARIABLE}={location!r}: {_EXPECTED_LOCATION}")
        return FolderStore(Path(location))
    parts = location.removeprefix(BUCKET_PREFIX).strip("/").split("/")
    if not location.startswith(BUCKET_PREFIX) or len(parts) < 2 or not all(parts):
        raise SettingsError(f"{STORAGE_VARIABLE}={location!r}: {_EXPECTED_LOCATION}")
    return BucketStore("/".join(parts[:2]), "/".join(parts[2:]), storage_token(environment))


_EXPECTED_LOCATION = f"expected the path of a mounted folder (such as /data) or {BUCKET_PREFIX}USER/NAME."


def storage_is_configured(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the user wants copies."""
    return bool(environment.get(STORAGE_VARIABLE, "").strip())


def storage_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the token for a bucket."""
    return environment.get(STORAGE_TOKEN_VARIABLE) or environment.get(HUB_TOKEN_VARIABLE) or None


def without_storage_token(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the token that opens the storage, for processes that do not use it."""
    used = storage_token(environment) if environment.get(STORAGE_VARIABLE, "").startswith("hf://") else None
    return {
        name: text
        for name, text in environment.items()
        if name != STORAGE_TOKEN_VARIABLE and (not used or text != used)
    }


@dataclass(frozen=True)
class FolderStore:
    """Stores files in a folder on another disk or a mounted bucket.

    The folder must exist: created here, it would be on the wrong disk.
    """

    root: Path

    @property
    def location(self) -> str:
        return str(self.root)

    def names(self, folder: str) -> list[str]:
        with self._translate_errors("read"):
            start = self._existing_root() / folder
            return sorted(
                path.relative_to(self._existing_root()).as_posix() for path in start.rglob("*") if path.is_file()
            )

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        for name, source in files.items():
            content = source if isinstance(source, bytes) else None
            # Opened here, since a missing local file is not the store's error.
            opened = None if isinstance(source, bytes) else source.open("rb")
            with self._translate_errors("written to"):
                path = self._existing_root() / name
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
            with self._translate_errors("read"):
                shutil.copyfile(self._existing_root() / name, target)

    def delete(self, names: Sequence[str]) -> None:
        with self._translate_errors("cleared"):
            for name in names:
                (self._existing_root() / name).unlink(missing_ok=True)
            for folder in sorted({self._existing_root() / name for name in names}, key=lambda path: -len(path.parts)):
                _remove_empty(folder.parent, self._existing_root())

    def _existing_root(self) -> Path:
        if not self.root.is_dir():
            raise StorageError(f"There is no folder {self.root}. Check that the storage is mounted.")
        return self.root / RUNS_FOLDER

    @contextmanager
    def _translate_errors(self, what: str) -> Iterator[None]:
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
    """Stores files in a bucket on the Hub.

    Source: huggingface_hub 2.4, `HfApi.batch_bucket_files` and related methods.
    """

    bucket: str
    prefix: str = ""
    token: str | None = field(default=None, repr=False)

    @property
    def location(self) -> str:
        return BUCKET_PREFIX + "/".join(filter(None, (self.bucket, self.prefix)))

    def names(self, folder: str) -> list[str]:
        from huggingface_hub.errors import EntryNotFoundError

        below = self._path(folder)
        with self._translate_errors():
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
        with self._translate_errors():
            self._api().batch_bucket_files(self.bucket, add=added)

    def fetch(self, files: Mapping[str, Path]) -> None:
        downloads: list[Any] = [(self._path(name), target) for name, target in files.items()]
        with self._translate_errors():
            self._api().download_bucket_files(self.bucket, downloads, raise_on_missing_files=True)

    def delete(self, names: Sequence[str]) -> None:
        if names:
            with self._translate_errors():
                self._api().batch_bucket_files(self.bucket, delete=[self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return "/".join(filter(None, (self.prefix, RUNS_FOLDER, name)))

    def _api(self) -> Any:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # they would fill the log
        return HfApi(token=self.token or False)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise StorageError for the client's errors: OSError mostly, RuntimeError and ValueError in transfers."""
        from huggingface_hub.errors import EntryNotFoundError

        try:
            yield
        except (OSError, RuntimeError, ValueError, EntryNotFoundError) as error:
            text = hide_tokens(first_line(error), self.token)
            hint = f"Check {STORAGE_VARIABLE} and {STORAGE_TOKEN_VARIABLE}."
            raise StorageError(f"{self.location}: {text}. {hint}") from error

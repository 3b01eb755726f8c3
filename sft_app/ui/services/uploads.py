"""Uploaded files: how large they may be, and where they and their cleaned copies are stored."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from sft_app.data.sources.data_files import SUFFIXES, data_suffix, file_sha256, holds_parquet
from sft_app.errors import AccessError, DataError
from sft_app.runtime.files import write_text_atomically
from sft_app.runtime.home import cleaned_dir, uploads_dir
from sft_app.ui.services.access import Access

MAX_UPLOAD_MB = 200


@dataclass(frozen=True)
class UploadService:
    """The uploads of one page."""

    home: Path
    access: Access

    def max_mb(self) -> int:
        """Return the largest file size in MB for this visitor."""
        return MAX_UPLOAD_MB if self.access.is_trusted() else self.access.hosting.limits.upload_mb

    def check(self, file: Path) -> None:
        """Refuse a file that is too large for this visitor, or could be after unpacking. Raises: AccessError."""
        if not self.access.is_trusted() and holds_parquet(file):
            raise AccessError(
                f"{file.name} is a Parquet file, which can expand to a thousand times its "
                f"size. Upload JSONL or CSV instead."
            )
        self._check_size(file.name, file.stat().st_size)

    def take(self, file: Path) -> Path:
        """Check an uploaded file and store a copy under its name. Raises: AccessError, DataError."""
        self.check(file)
        return self.keep(file.name, file)

    def keep_written(self, name: str, content: bytes) -> Path:
        """Store what was written on the page, as an upload. Raises: AccessError, DataError."""
        self._check_size(name, len(content))
        return self.keep(name, content)

    def _check_size(self, name: str, size_bytes: int) -> None:
        limit, size = self.max_mb(), size_bytes / 2**20
        if size > limit:
            raise AccessError(f"{name} is {size:.0f} MB, but files here can be at most {limit} MB.")

    def keep(self, name: str, content: Path | bytes) -> Path:
        """Store a copy of a file under this name. Raises: DataError."""
        return keep_upload(name, content, self.home)

    def recent(self, most: int) -> list[Path]:
        """Return the newest data files that were uploaded or cleaned; none on a Space, where they may be another's."""
        if self.access.hosting.is_hosted:
            return []
        uploads = uploads_dir(self.home).glob("*/*")
        copies = cleaned_dir(self.home).glob("*.jsonl")
        files = [file for file in (*uploads, *copies) if file.is_file() and data_suffix(file) in SUFFIXES]
        return sorted(files, key=lambda file: -file.stat().st_mtime)[:most]

    def cleaned_folder(self) -> Path:
        """Return the folder for a cleaned copy.

        On a Space it is a new folder with an unguessable name, because anyone who knows a copy's name may use it.
        """
        return cleaned_dir(self.home) / (secrets.token_hex(8) if self.access.hosting.is_hosted else "")


def keep_upload(name: str, content: Path | bytes, home: Path) -> Path:
    """Copy a file to a folder named after its contents, as Gradio deletes its own copy after a day. Raises: DataError.

    The folder's name also depends on a secret key. Model cards contain the hash of the data, and anyone who knows the
    folder's name may use the file.
    """
    sha = file_sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
    try:
        folder = hashlib.blake2b(sha.encode(), key=_upload_key(home), digest_size=8).hexdigest()
        kept = uploads_dir(home) / folder / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, kept)
        else:
            kept.write_bytes(content)
    except OSError as error:
        raise DataError(f"{name} could not be stored: {error.strerror or error}.") from error
    return kept


def _upload_key(home: Path) -> bytes:
    """Return the home's secret key, which is created on first use. Raises: OSError."""
    file = uploads_dir(home) / ".key"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(file, secrets.token_hex(16))
    return file.read_bytes()

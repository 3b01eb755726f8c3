"""Which checkpoints a run keeps, and which it can go on from. A process may be killed, or the power cut, at any moment
while one is written or deleted."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_app.runtime.files import put_on_disk

KEPT_CHECKPOINTS = 2
_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"
# One file or folder of each kind; several processes, or FSDP, write others beside the usual name.
_NEEDED = (_STATE, "scheduler.pt", "optimizer*", "rng_state*.pth")
_WEIGHTS = ("*.safetensors", "pytorch_model_fsdp*")
INCOMPLETE_MARK = "checkpoint-is-incomplete.txt"


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step that has all its files, each of them whole, or None."""
    return next(iter(complete_checkpoints(folder)), None)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Those that have all their files, each of them whole; the newest first."""
    return sorted(filter(_is_complete, _checkpoints(folder)), key=checkpoint_step, reverse=True)


def checkpoint_step(path: Path) -> int:
    """The step in the name of a checkpoint folder."""
    found = _NAME.fullmatch(path.name)
    return int(found.group(1)) if found else 0


@contextmanager
def writing_checkpoint(path: Path) -> Iterator[None]:
    """Mark a checkpoint as incomplete until all that was written to it is safe on the disk."""
    mark = path / INCOMPLETE_MARK
    path.mkdir(parents=True, exist_ok=True)
    mark.touch()
    put_on_disk(mark, path)
    yield
    put_on_disk(*path.rglob("*"), path)
    mark.unlink()
    put_on_disk(path, path.parent)


def prune_checkpoints(folder: Path, best_step: int) -> None:
    """Leave the newest two and that of `best_step`; what is incomplete goes too."""
    keep = [path.name for path in complete_checkpoints(folder)][:KEPT_CHECKPOINTS] + [f"checkpoint-{best_step}"]
    for path in _checkpoints(folder):
        if path.name not in keep:
            delete_checkpoint(path)


def delete_checkpoint(path: Path) -> None:
    """Beginning with the file without which nobody takes what is left for a checkpoint."""
    (path / _STATE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def discard_incomplete(folder: Path) -> None:
    """Clear away what a killed process left half written."""
    complete = complete_checkpoints(folder)
    for path in _checkpoints(folder):
        if path not in complete:
            delete_checkpoint(path)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]


def _is_complete(path: Path) -> bool:
    if (path / INCOMPLETE_MARK).exists() or not all(any(path.glob(name)) for name in _NEEDED):
        return False
    if not any(any(path.glob(name)) for name in _WEIGHTS):
        return False
    return all(map(_is_whole, path.iterdir()))


def _is_whole(file: Path) -> bool:
    """Whether a file has the length that it says it has; its contents are taken as they are."""
    try:
        match file.suffix:
            case ".safetensors":
                header, start = read_safetensors_header(file)
                ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
                return start + max(ends, default=0) == file.stat().st_size
            case ".pt" | ".pth":
                zipfile.ZipFile(file).close()
            case ".json":
                json.loads(file.read_bytes())
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile):
        return False
    return True


def read_safetensors_header(file: Path) -> tuple[dict[str, Any], int]:
    """The description of each tensor by name, and the byte at which the first one begins.

    Raises: ValueError when it is not the header of such a file; OSError.
    Source: the format's README, "Format": 8 bytes of length, then JSON.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError(f"{file.name} is shorter than its header says.")
        header = json.loads(opened.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{file.name} does not begin with a header.")
    return header, 8 + length

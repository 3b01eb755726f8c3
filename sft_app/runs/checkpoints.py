"""Find, keep and delete checkpoints, even if a process is killed or the power fails while one is written or deleted."""

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
# One file or folder of each kind; with several processes or FSDP, there are others next to the usual name.
_NEEDED = (_STATE, "scheduler.pt", "optimizer*", "rng_state*.pth")
_WEIGHTS = ("*.safetensors", "pytorch_model_fsdp*")
INCOMPLETE_MARK = "checkpoint-is-incomplete.txt"


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint with the highest step, or None."""
    return next(iter(complete_checkpoints(folder)), None)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints whose files are all present and complete, the newest first."""
    return sorted(filter(_is_complete, _checkpoints(folder)), key=checkpoint_step, reverse=True)


def checkpoint_step(path: Path) -> int:
    """Return the step in the name of a checkpoint folder."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else 0


@contextmanager
def writing_checkpoint(path: Path) -> Iterator[None]:
    """Mark a checkpoint as incomplete until everything in it has been flushed to disk."""
    mark = path / INCOMPLETE_MARK
    path.mkdir(parents=True, exist_ok=True)
    mark.touch()
    put_on_disk(mark, path)
    yield
    put_on_disk(*path.rglob("*"), path)
    mark.unlink()
    put_on_disk(path, path.parent)


def prune_checkpoints(folder: Path, best_step: int) -> None:
    """Delete all checkpoints except the newest two and that of `best_step`; incomplete ones are deleted too."""
    keep = [path.name for path in complete_checkpoints(folder)][:KEPT_CHECKPOINTS] + [f"checkpoint-{best_step}"]
    for path in _checkpoints(folder):
        if path.name not in keep:
            delete_checkpoint(path)


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint, starting with a file without which the rest is not mistaken for a checkpoint."""
    (path / _STATE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def discard_incomplete(folder: Path) -> None:
    """Delete the incomplete checkpoints that a killed process left."""
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
    """Return whether a file has the length given in its header; the contents are not checked."""
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
    """Return the description of each tensor by name, and the byte at which the first one starts.

    Raises: ValueError if the header is invalid; OSError.
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

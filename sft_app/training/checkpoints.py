"""Which checkpoint a run can go on from. A process may have been killed while it wrote the newest."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
_NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
_INCOMPLETE_MARK = "checkpoint-is-incomplete.txt"


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step that has all its files, or None."""
    if not folder.is_dir():
        return None
    complete = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and _is_complete(path)]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(path: Path) -> int:
    """The step in the name of a checkpoint folder."""
    found = _NAME.fullmatch(path.name)
    return int(found.group(1)) if found else 0


def _is_complete(path: Path) -> bool:
    has_weights = any(path.glob("*.safetensors"))
    return has_weights and not (path / _INCOMPLETE_MARK).exists() and all((path / name).is_file() for name in _NEEDED)

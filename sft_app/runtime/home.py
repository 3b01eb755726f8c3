"""Where things are below the app's home folder."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]


def app_home() -> Path:
    """`$SFT_APP_HOME`, or `workspace` in the current folder: where runs and the converted starter live."""
    return Path(os.environ.get("SFT_APP_HOME") or "workspace").resolve()


def runs_dir(home: Path) -> Path:
    return home / "runs"

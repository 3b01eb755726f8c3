"""The versions of the libraries that decide how a run turns out."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "gradio")
PROJECT_DIR = Path(__file__).resolve().parents[2]


def package_versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def app_home() -> Path:
    """`$SFT_APP_HOME`, or `workspace` in the current folder: where runs and the converted starter live."""
    return Path(os.environ.get("SFT_APP_HOME") or "workspace").resolve()


def runs_dir(home: Path) -> Path:
    return home / "runs"

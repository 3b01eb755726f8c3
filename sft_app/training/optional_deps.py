"""Check and configure optional dependencies: experiment trackers."""

from __future__ import annotations

import importlib.util
import netrc
import os
from pathlib import Path

from sft_app.errors import SettingsError
from sft_app.runs.folder import Run
from sft_app.settings import RunSettings

PROJECT_NAME = "fine-tune-and-compare"


def check_optional_deps(settings: RunSettings) -> None:
    """Check that everything the settings ask for is installed.

    Raises: SettingsError.
    """
    tracker = settings.report_to
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        raise SettingsError(f"report_to: {tracker} is not installed. Run `pip install {tracker}`, or set it to none.")


def configure_tracker(run: Run) -> None:
    """Make trackers write into the run's folder, and keep Weights & Biases from asking for a login."""
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.path / "tensorboard")
    os.environ["WANDB_DIR"] = str(run.path)
    os.environ.setdefault("WANDB_PROJECT", PROJECT_NAME)
    if not _has_wandb_login():
        os.environ.setdefault("WANDB_MODE", "offline")  # `wandb sync` sends it later


def _has_wandb_login() -> bool:
    """Return whether this user is logged in to Weights & Biases."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        file = os.environ.get("NETRC") or Path.home() / ".netrc"
        return netrc.netrc(str(file)).authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False

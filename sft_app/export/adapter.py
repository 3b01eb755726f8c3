"""A run's adapter as a zip."""

from __future__ import annotations

import shutil
from pathlib import Path

from sft_app.errors import RunError
from sft_app.runs import Run


def zip_adapter(run: Run, folder: Path) -> Path:
    """Writes `RUN-adapter.zip` into `folder`, with tokenizer and chat template.

    Raises: RunError when the run has no adapter, or there is no room.
    """
    if not run.has_adapter():
        raise RunError(f"Run {run.id} has no adapter to download.")
    try:
        return Path(shutil.make_archive(str(folder / f"{run.id}-adapter"), "zip", run.adapter_dir))
    except OSError as error:
        raise RunError(f"The adapter of {run.id} could not be packed: {error.strerror or error}.") from error

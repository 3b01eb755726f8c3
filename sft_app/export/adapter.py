"""Export a run's adapter, or the full model of a full fine-tune: weights, tokenizer, model card, settings."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sft_app.errors import ExportError
from sft_app.export.model_card import model_card, saved_kind
from sft_app.export.public_facts import public_model, public_values
from sft_app.runs.folder import Run
from sft_app.runs.scorecard import Scorecard
from sft_app.runtime.files import json_text

# Files of a folder, zip or repository: the name there, and a local file or its contents.
Files = Mapping[str, Path | bytes]
PACKAGE_ENDINGS = (".safetensors", ".json", ".jinja", ".model", ".txt")
BASE_NAME_KEYS = ("base_model_name_or_path", "_name_or_path", "name_or_path")
STORED_ENDINGS = (".safetensors",)  # weights do not compress


def adapter_files(run: Run, name: str, chosen: Sequence[str] | None = None) -> Files:
    """Collect all files of the package, without the run's data, logs, or paths on this machine.

    `name` and `chosen` are those of the model card.

    Raises:
        ExportError: the run has saved nothing yet.
        RunError: its settings cannot be read.
    """
    card, base = model_card(run, name, chosen=chosen), public_model(run.record())
    files: dict[str, Path | bytes] = {}
    for path in sorted(run.adapter_dir.rglob("*")):
        if path.is_file() and path.suffix in PACKAGE_ENDINGS:
            file = path.relative_to(run.adapter_dir).as_posix()
            files[file] = _public_config(path, base) if path.name.endswith("config.json") else path
    return {**files, **description_files(run, card)}


def description_files(run: Run, card: str) -> Files:
    """Build the files that describe the weights: the model card, the settings and the scores.

    Raises: RunError.
    """
    scorecard = run.scorecard()
    return {
        "README.md": card.encode(),
        "settings.json": _as_json(public_values(run.record())),
        **({"scorecard.json": _as_json(_without_rows(scorecard))} if scorecard else {}),
    }


def write_files(files: Files, folder: Path) -> None:
    """Write the files into a folder, creating it if necessary.

    Raises: ExportError if it is not writable.
    """
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                shutil.copyfile(content, folder / name)
    except OSError as error:
        raise ExportError(f"{folder} could not be written: {error.strerror or error}.") from error


def zip_adapter(run: Run, folder: Path) -> Path:
    """Write `RUN-adapter.zip`, or `RUN-model.zip` for a full fine-tune, into `folder` and return its path.

    The files are in a folder of that name, which the model card's code loads.

    Raises: as `adapter_files`.
    """
    if not run.has_adapter():
        raise ExportError(f"Run {run.id} has no adapter to download.")
    name = f"{run.id}-{'adapter' if saved_kind(run) == 'adapter' else 'model'}"
    files, path = adapter_files(run, name), folder / f"{name}.zip"
    draft = folder / f".{name}.zip"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _zip({f"{name}/{file}": content for file, content in files.items()}, draft)
        os.replace(draft, path)
    except OSError as error:
        raise ExportError(f"The adapter of run {run.id} could not be zipped: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return path


def _zip(files: Files, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            if isinstance(content, bytes):
                archive.writestr(name, content)
            else:
                archive.write(content, name, zipfile.ZIP_STORED if content.suffix in STORED_ENDINGS else None)


def _public_config(path: Path, base: str) -> bytes:
    """Return a config that names the base model as others know it."""
    config = json.loads(path.read_bytes())
    return _as_json({key: base if key in BASE_NAME_KEYS and value else value for key, value in config.items()})


def _without_rows(scorecard: Scorecard) -> dict[str, Any]:
    """Return the scorecard without its most changed rows, which are the run's data."""
    return {name: value for name, value in scorecard.as_record().items() if name != "most_changed"}


def _as_json(value: Any) -> bytes:
    return (json_text(value, indent=2) + "\n").encode()

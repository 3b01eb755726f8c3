"""A model's files onto this machine, before they are needed: by a lent GPU that must not wait, or by a run without the
login of who started it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.errors import ModelError
from sft_app.hub.client import download_repository, repository_info
from sft_app.hub.errors import told_as
from sft_app.models.starter import prepare_starter
from sft_app.runtime.files import write_json_atomically

if TYPE_CHECKING:
    from sft_app.models.catalog import ModelRef

WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
NOT_WANTED = ["original/*", "onnx/*"]


def fetch_base(ref: ModelRef, home: Path) -> int:
    """Fetches what is missing; the bytes of its weights. Raises: ModelError."""
    folder = prepare_starter(home) if ref.location == "starter" else Path(ref.location)
    if not folder.is_dir():
        folder = _fetch_from_hub(ref)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def fetch_if_restricted(ref: ModelRef, home: Path) -> None:
    """Fetches a private or gated model of the Hub; others can be fetched by anyone at any time.

    Raises: ModelError when the Hub does not give it.
    """
    if "/" not in ref.location or Path(ref.location).is_dir() or fetched_folder(ref, home):
        return
    if _is_restricted(ref):
        _note(ref, home).parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(_note(ref, home), {"folder": str(_fetch_from_hub(ref))})


def fetched_folder(ref: ModelRef, home: Path) -> Path | None:
    """Where it stands, if `fetch_if_restricted` has put it there."""
    try:
        folder = Path(json.loads(_note(ref, home).read_bytes())["folder"])
    except (OSError, ValueError, KeyError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _note(ref: ModelRef, home: Path) -> Path:
    return home / "models" / "fetched" / f"{ref.location.replace('/', '--')}@{ref.revision}.json"


def _is_restricted(ref: ModelRef) -> bool:
    with told_as(ModelError):
        info = repository_info("model", ref.location, ref.revision)
    return bool(info.private or info.gated)


def _fetch_from_hub(ref: ModelRef) -> Path:
    with told_as(ModelError):
        return download_repository("model", ref.location, ref.revision, WANTED, NOT_WANTED)

"""What a model's name means: the starter, a Hub repository, or a local folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.errors import ModelError
from sft_app.hub.client import download_repository, downloaded_before, repository_info
from sft_app.hub.errors import HubError, told_as
from sft_app.hub.ids import is_hub_id
from sft_app.hub.login import hub_token
from sft_app.models.starter import HUB_ID, SOURCE, prepare_starter, starter_is_ready
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.home import models_dir, starter_dir

HUB_TIMEOUT_SECONDS = 5.0
MOST_ADAPTER_GIB = 4
# What `ModelRef.source` says of where a model comes from.
HUB, LOCAL_FOLDER = "Hugging Face Hub", "local folder"
WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
NOT_WANTED = ["original/*", "onnx/*"]


@dataclass(frozen=True)
class ModelRef:
    """A model that exists. `location` is a folder, a Hub id, or `starter`; `source` says in words which one it was."""

    name: str
    location: str
    revision: str | None
    source: str

    @property
    def public_id(self) -> str:
        """What an adapter names as its base: a Hub id where there is one, never a folder of this machine."""
        if self.location == "starter":
            return HUB_ID
        return Path(self.location).name if Path(self.location).is_dir() else self.location

    def folder(self, home: Path) -> Path:
        """Where its files stand once they are on this machine; for a model of the Hub a path that does not exist."""
        return starter_dir(home) if self.location == "starter" else Path(self.location)


def resolve_model(name: str, revision: str | None, home: Path) -> ModelRef:
    """Finds the model without loading it.

    Raises:
        ModelError: the folder is not a model, or the Hub has no such model, wants a login, or cannot be reached.
    """
    if name == "starter":
        return _resolve_starter(home)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _resolve_folder(name, folder)
    if not is_hub_id(name):
        raise ModelError(f"Model {name!r}: expected starter, a Hub id such as {HUB_ID}, or a local folder.")
    revision = _hub_revision(name, revision)
    return ModelRef(name, name, revision, HUB)


def recorded_model(run: Run) -> ModelRef:
    """The very model that a run started from, at the revision it had then. Raises: RunError."""
    return ModelRef(**run.record().model.model_dump())


def model_files(ref: ModelRef, home: Path) -> dict[str, Any]:
    """The arguments of `from_pretrained` that load this model; makes the starter's folder on first use."""
    if ref.location == "starter":
        return {"pretrained_model_name_or_path": str(prepare_starter(home))}
    if folder := fetched_folder(ref, home):
        return {"pretrained_model_name_or_path": str(folder)}
    found = {"pretrained_model_name_or_path": ref.location, "revision": ref.revision or "main"}
    return {**found, "token": hub_token()}


def _resolve_starter(home: Path) -> ModelRef:
    if not starter_is_ready(home):
        try:
            return ModelRef("starter", HUB_ID, _hub_revision(HUB_ID, None), HUB)
        except ModelError:
            pass  # no Hub from here: the package index carries the same model
    return ModelRef("starter", "starter", None, SOURCE)


def _resolve_folder(name: str, folder: Path) -> ModelRef:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name} is not a model folder: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{name} has no .safetensors weights. Other kinds of weight files are not loaded.")
    return ModelRef(name, str(folder.resolve()), None, LOCAL_FOLDER)


def fetch_adapter(name: str, revision: str | None = None) -> Path:
    """The folder of a LoRA adapter of the Hub, fetched on first use: its config and its safetensors weights only.

    Raises:
        ModelError: the Hub has no such adapter, it is too large for one, or the Hub cannot be reached and it is not on
            this machine.
    """
    wanted = ["adapter_config.json", "adapter_model.safetensors"]
    try:
        info = repository_info("adapter", name, revision, with_sizes=True, timeout=HUB_TIMEOUT_SECONDS)
    except HubError as error:
        if error.is_temporary and (folder := downloaded_before(name, revision, wanted)):
            return folder
        raise ModelError(str(error)) from error
    missing = set(wanted) - {file.rfilename for file in info.siblings or ()}
    if missing:
        raise ModelError(f"{name} is not an adapter with safetensors weights: it has no {sorted(missing)[0]}.")
    size = sum(file.size or 0 for file in info.siblings or () if file.rfilename in wanted) / 2**30
    if size > MOST_ADAPTER_GIB:
        raise ModelError(f"{name} has {size:.1f} GiB, but an adapter can have at most {MOST_ADAPTER_GIB}.")
    with told_as(ModelError):
        return download_repository("adapter", name, info.sha, wanted)


def _hub_revision(name: str, revision: str | None) -> str:
    """The commit that `revision` is now, or was when it was last downloaded if the Hub cannot be reached."""
    try:
        info = repository_info("model", name, revision, timeout=HUB_TIMEOUT_SECONDS)
    except HubError as error:
        return _cached_revision(name, revision, error)
    if not any(file.rfilename == "config.json" for file in info.siblings or ()):
        raise ModelError(f"{name} is not a transformers model: it has no config.json.")
    return str(info.sha)


def _cached_revision(name: str, revision: str | None, error: HubError) -> str:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision) if error.is_temporary else None
    if not isinstance(config, str):
        raise ModelError(str(error)) from error
    return Path(config).parent.name


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
    return models_dir(home) / "fetched" / f"{ref.location.replace('/', '--')}@{ref.revision}.json"


def _is_restricted(ref: ModelRef) -> bool:
    with told_as(ModelError):
        info = repository_info("model", ref.location, ref.revision)
    return bool(info.private or info.gated)


def _fetch_from_hub(ref: ModelRef) -> Path:
    with told_as(ModelError):
        return download_repository("model", ref.location, ref.revision, WANTED, NOT_WANTED)

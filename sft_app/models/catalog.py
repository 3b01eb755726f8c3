"""Find the model that a name stands for: the starter, a repository on the Hub, or a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.errors import ModelError
from sft_app.hub.client import cached_repository, download_repository, repository_info
from sft_app.hub.errors import HubError, reraise_as
from sft_app.hub.ids import is_hub_id
from sft_app.hub.login import hub_token
from sft_app.models.starter import STARTER_HUB_ID, STARTER_SOURCE, prepare_starter, starter_is_ready
from sft_app.runs.folder import Run
from sft_app.runtime.files import read_json, write_json_atomically
from sft_app.runtime.home import models_dir, starter_dir

HUB_TIMEOUT_SECONDS = 5.0
MAX_ADAPTER_GIB = 4
# Values of `ModelRef.source`.
HUB, LOCAL_FOLDER = "Hugging Face Hub", "local folder"
DOWNLOADED_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
SKIPPED_PATTERNS = ["original/*", "onnx/*"]


@dataclass(frozen=True)
class ModelRef:
    """Identifies a model that exists.

    `location` is a folder, a Hub id, or `starter`; `source` says in words where the model comes from.
    """

    name: str
    location: str
    revision: str | None
    source: str

    @property
    def public_id(self) -> str:
        """Return the name an adapter gives its base: a Hub id if there is one, never a path on this machine."""
        if self.location == "starter":
            return STARTER_HUB_ID
        return Path(self.location).name if Path(self.location).is_dir() else self.location

    def folder(self, home: Path) -> Path:
        """Return the folder its files are in once downloaded. For a model on the Hub, the path does not exist."""
        return starter_dir(home) if self.location == "starter" else Path(self.location)


def resolve_model(name: str, revision: str | None, home: Path) -> ModelRef:
    """Find a model by name without loading it.

    Raises:
        ModelError: the folder is not a model, or the Hub has no such model, requires a login, or cannot be reached.
    """
    if name == "starter":
        return _resolve_starter(home)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _resolve_folder(name, folder)
    if not is_hub_id(name):
        raise ModelError(f"Model {name!r}: expected starter, a Hub id such as {STARTER_HUB_ID}, or a local folder.")
    revision = _hub_revision(name, revision)
    return ModelRef(name, name, revision, HUB)


def recorded_model(run: Run) -> ModelRef:
    """Return the model a run started from, at the revision it had then.

    Raises: RunError.
    """
    return ModelRef(**run.record().model.model_dump())


def model_files(ref: ModelRef, home: Path) -> dict[str, Any]:
    """Return the `from_pretrained` arguments that load this model. Creates the starter's folder on first use."""
    if ref.location == "starter":
        return {"pretrained_model_name_or_path": str(prepare_starter(home))}
    if folder := fetched_folder(ref, home):
        return {"pretrained_model_name_or_path": str(folder)}
    arguments = {"pretrained_model_name_or_path": ref.location, "revision": ref.revision or "main"}
    return {**arguments, "token": hub_token()}


def _resolve_starter(home: Path) -> ModelRef:
    if not starter_is_ready(home):
        try:
            return ModelRef("starter", STARTER_HUB_ID, _hub_revision(STARTER_HUB_ID, None), HUB)
        except ModelError:
            pass  # without the Hub, the package index has the same model
    return ModelRef("starter", "starter", None, STARTER_SOURCE)


def _resolve_folder(name: str, folder: Path) -> ModelRef:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name} is not a model folder: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{name} has no .safetensors weights. Other kinds of weight files are not loaded.")
    return ModelRef(name, str(folder.resolve()), None, LOCAL_FOLDER)


def fetch_adapter(name: str, revision: str | None = None) -> Path:
    """Return the folder of a LoRA adapter on the Hub, downloading its config and safetensors weights on first use.

    Its chat template comes along, if it has one.

    Raises:
        ModelError: the Hub has no such adapter, it is too large, or the Hub cannot be reached and the adapter is not
            cached.
    """
    needed = ["adapter_config.json", "adapter_model.safetensors"]
    file_names = [*needed, "chat_template.jinja", "tokenizer_config.json"]
    try:
        info = repository_info("adapter", name, revision, with_sizes=True, timeout=HUB_TIMEOUT_SECONDS)
    except HubError as error:
        if error.is_temporary and (folder := cached_repository(name, revision, file_names)):
            return folder
        raise ModelError(str(error)) from error
    missing = set(needed) - {file.rfilename for file in info.siblings or ()}
    if missing:
        raise ModelError(f"{name} is not an adapter with safetensors weights: it has no {sorted(missing)[0]}.")
    size = sum(file.size or 0 for file in info.siblings or () if file.rfilename in file_names) / 2**30
    if size > MAX_ADAPTER_GIB:
        raise ModelError(f"{name} is {size:.1f} GiB, but an adapter can be at most {MAX_ADAPTER_GIB} GiB.")
    with reraise_as(ModelError):
        return download_repository("adapter", name, info.sha, file_names)


def _hub_revision(name: str, revision: str | None) -> str:
    """Return the commit that `revision` points to now, or the cached one if the Hub cannot be reached."""
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
    """Download the model's missing files and return the size of its weights in bytes.

    Raises: ModelError.
    """
    folder = prepare_starter(home) if ref.location == "starter" else Path(ref.location)
    if not folder.is_dir():
        folder = _fetch_from_hub(ref)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def fetch_if_restricted(ref: ModelRef, home: Path) -> None:
    """Download a private or gated model while its user is logged in. Public models can be downloaded later by anyone.

    Raises: ModelError if the Hub refuses.
    """
    if "/" not in ref.location or Path(ref.location).is_dir() or fetched_folder(ref, home):
        return
    if _is_restricted(ref):
        _download_record(ref, home).parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(_download_record(ref, home), {"folder": str(_fetch_from_hub(ref))})


def fetched_folder(ref: ModelRef, home: Path) -> Path | None:
    """Return the folder `fetch_if_restricted` downloaded the model to, or None."""
    record = read_json(_download_record(ref, home), dict[str, str])
    if record is None or "folder" not in record:
        return None
    folder = Path(record["folder"])
    return folder if (folder / "config.json").is_file() else None


def _download_record(ref: ModelRef, home: Path) -> Path:
    return models_dir(home) / "fetched" / f"{ref.location.replace('/', '--')}@{ref.revision}.json"


def _is_restricted(ref: ModelRef) -> bool:
    with reraise_as(ModelError):
        info = repository_info("model", ref.location, ref.revision)
    return bool(info.private or info.gated)


def _fetch_from_hub(ref: ModelRef) -> Path:
    with reraise_as(ModelError):
        return download_repository("model", ref.location, ref.revision, DOWNLOADED_PATTERNS, SKIPPED_PATTERNS)

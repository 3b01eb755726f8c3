"""What a model's name means: the starter, a Hub repository, or a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.errors import ModelError, first_line
from sft_app.hub_login import hub_token
from sft_app.models.fetching import fetched_folder
from sft_app.models.starter import HUB_ID, SOURCE, prepare_starter, starter_dir, starter_is_ready
from sft_app.runs import Run

HUB_TIMEOUT_SECONDS = 5.0
MOST_ADAPTER_GIB = 4
# What `ModelRef.source` says of where a model comes from.
HUB, LOCAL_FOLDER = "Hugging Face Hub", "local folder"


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


def is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and name.isascii()


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["adapter_config.json", "adapter_model.safetensors"]
    try:
        info = _ask_hub(name, revision, with_sizes=True)
    except NotReached as error:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))
        except LocalEntryNotFoundError:
            raise ModelError(f"{name} is not on this machine and the Hugging Face Hub cannot be reached.") from error
    missing = set(wanted) - {file.rfilename for file in info.siblings or ()}
    if missing:
        raise ModelError(f"{name} is not an adapter with safetensors weights: it has no {sorted(missing)[0]}.")
    size = sum(file.size or 0 for file in info.siblings or () if file.rfilename in wanted) / 2**30
    if size > MOST_ADAPTER_GIB:
        raise ModelError(f"{name} has {size:.1f} GiB, but an adapter can have at most {MOST_ADAPTER_GIB}.")
    return Path(snapshot_download(name, revision=info.sha, allow_patterns=wanted, token=hub_token()))


class NotReached(Exception):
    """The Hub did not answer."""


def _hub_revision(name: str, revision: str | None) -> str:
    """The commit that `revision` is now, or was when it was last downloaded if the Hub cannot be reached."""
    try:
        info = _ask_hub(name, revision)
    except NotReached as error:
        return _cached_revision(name, revision, error)
    if not any(file.rfilename == "config.json" for file in info.siblings or ()):
        raise ModelError(f"{name} is not a transformers model: it has no config.json.")
    return str(info.sha)


def _ask_hub(name: str, revision: str | None, with_sizes: bool = False) -> Any:
    """What the Hub says of a model repository. Raises: ModelError when it refuses; NotReached."""
    import httpx2
    from huggingface_hub import HfApi, errors

    api = HfApi(token=hub_token())
    try:
        info = api.model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS, files_metadata=with_sizes)
        if info.gated:
            api.auth_check(name)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{name} needs a login. Accept its licence at huggingface.co/{name}, then run `hf auth login` "
            f"or set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"The Hub has no model {name}, or it is private and you are not logged in. Check the name or log in."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {revision!r}. Check its page for branches, tags and commits."
        ) from error
    except errors.HfHubHTTPError as error:
        raise ModelError(f"The Hub refused {name}: {first_line(error)}.") from error
    except (httpx2.HTTPError, OSError) as error:  # no network, or offline by choice
        raise NotReached from error
    return info


def _cached_revision(name: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        raise ModelError(
            f"{name} is not on this machine and the Hugging Face Hub cannot be reached. Connect, or use `starter`."
        ) from error
    return Path(config).parent.name

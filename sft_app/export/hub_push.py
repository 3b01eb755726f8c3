"""Push a run to the Hugging Face Hub: its adapter or model as a repository, in one commit that can be retried."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sft_app.errors import AccessError, ExportError
from sft_app.export.adapter import PACKAGE_ENDINGS, Files, adapter_files
from sft_app.export.fidelity import fidelity_sentence, is_warning
from sft_app.export.merged import MergedModel, describe_merged
from sft_app.export.model_card import saved_kind
from sft_app.hub.errors import PUSH_MESSAGES, reraise_as, translate_hub_errors
from sft_app.hub.ids import is_repository_name
from sft_app.hub.login import Token, use_token
from sft_app.runs.folder import Run
from sft_app.runtime.progress import ProgressCallback

LARGE_BYTES = 4_000_000
PUSH_LOGIN_HINT = (
    "log in with `hf auth login`, or set HF_TOKEN to a token with write access (huggingface.co/settings/tokens)"
)
# Files any repository may have.
PUSHED_FILES = re.compile(r"(data/.+|scorecard|fidelity|.*model.*\.index)\.jsonl?|.*model.*\.safetensors")
REPOSITORY_FILES = {".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md"}


@dataclass(frozen=True)
class PushTarget:
    """Says where to push.

    `repo` is USER/NAME, or NAME for one's own; `token` is as in `hub.login` and never printed.
    """

    repo: str
    private: bool = True
    token: Token = field(default=None, repr=False)
    kind: Literal["model", "space"] = "model"


@dataclass(frozen=True)
class Repository:
    """Describes a repository that a user can read and write; it need not exist yet."""

    api: Any
    id: str
    kind: str
    private: bool

    @property
    def url(self) -> str:
        """Return the address of the repository's page."""
        return f"{self.api.endpoint}/{'spaces/' if self.kind == 'space' else ''}{self.id}"


@dataclass(frozen=True)
class PushResult:
    """Describes what is on the Hub now. `notes` are sentences the user must know."""

    repo: str
    url: str
    commit: str
    private: bool
    files: int
    notes: tuple[str, ...] = ()


def push_run(
    run: Run,
    target: PushTarget,
    include_data: bool = False,
    chosen: Sequence[str] | None = None,
    on_progress: ProgressCallback | None = None,
    merged: MergedModel | None = None,
) -> PushResult:
    """Push what the run saved, or the model `merged` from it, with tokenizer, model card and settings.

    Conversations, held-out ones included, are pushed only with `include_data`. `chosen` are the ids of the answer pairs
    that the model card shows.

    Raises:
        ExportError: there is nothing to push, or the Hub or the network refused.
        AccessError: no one is logged in.
        RunError: the run's settings cannot be read.
    """
    if not run.has_adapter():
        raise ExportError(f"Run {run.id} has no adapter to push.")
    with open_repository(target) as repository:
        if merged is None:
            files = adapter_files(run, repository.id, chosen)
        else:
            files = {**_files_in(merged.folder), **describe_merged(run, repository.id, merged.fidelity, chosen)}
        marker = "adapter_config.json" if merged is None and saved_kind(run) == "adapter" else "config.json"
        data = _data_files(run) if include_data else {}
        pushed = push_files(repository, {**files, **data}, marker, f"Run {run.id}", on_progress)
    if merged is not None and is_warning(merged.fidelity):
        return replace(pushed, notes=(*pushed.notes, fidelity_sentence(merged.fidelity)))
    return pushed


def push_files(
    repository: Repository, files: Files, marker: str, message: str, on_progress: ProgressCallback | None = None
) -> PushResult:
    """Create the repository if necessary, and push the files in one commit.

    `marker` is a file that shows it already holds such contents. Files of an earlier push of another run are deleted.

    Raises: as `ensure_repository`.
    """
    is_private, existing = ensure_repository(repository, marker)
    dropped = sorted(name for name in existing - files.keys() if PUSHED_FILES.fullmatch(name))
    oid = commit_files(repository, files, message, dropped, on_progress)
    return push_result(repository, oid, is_private, len(files))


def push_result(
    repository: Repository, oid: str, is_private: bool, files: int, notes: tuple[str, ...] = ()
) -> PushResult:
    """Describe a push, with a note if the repository stays private although public was asked for."""
    if is_private and not repository.private:
        notes = (*notes, f"{repository.id} was already private and stays private. You can make it public on its page.")
    return PushResult(repository.id, repository.url, oid, is_private, files, notes)


def ensure_repository(repository: Repository, marker: str) -> tuple[bool, set[str]]:
    """Create the repository if necessary; return whether it is private, and the files it has.

    Raises: ExportError if it holds something else, or is public although private was asked for.
    """
    name, kind = repository.id, repository.kind
    sdk = "gradio" if kind == "space" else None
    repository.api.create_repo(name, repo_type=kind, private=repository.private, exist_ok=True, space_sdk=sdk)
    info = repository.api.repo_info(name, repo_type=kind)
    existing = {file.rfilename for file in info.siblings or ()}
    if repository.private and not info.private:
        raise ExportError(
            f"{name} already exists and is public. Choose public if everyone may read this, or choose another name."
        )
    if existing - REPOSITORY_FILES and marker not in existing:
        shown = sorted(existing - REPOSITORY_FILES)[0]
        raise ExportError(f"{name} already exists and contains something else ({shown}). Choose another name.")
    return bool(info.private), existing


def commit_files(
    repository: Repository,
    files: Files,
    message: str,
    dropped: Sequence[str] = (),
    on_progress: ProgressCallback | None = None,
) -> str:
    """Add and delete files in one commit, and return its id. Files the Hub already has are not sent."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    deleted = [CommitOperationDelete(path_in_repo=name) for name in dropped]
    with _without_progress_bars():
        _upload_large_files(repository, added, on_progress or (lambda share: None))
        done = repository.api.create_commit(
            repository.id, [*added, *deleted], commit_message=message, repo_type=repository.kind
        )
    return str(done.oid)


@contextmanager
def open_repository(target: PushTarget) -> Iterator[Repository]:
    """Yield the repository that `target` names under its full name, and translate the Hub's errors within the block.

    Raises:
        ExportError: the name is invalid, or the Hub or the network refused.
        AccessError: no one is logged in.
    """
    from huggingface_hub import HfApi

    name, token = check_target(target)
    with use_token(token), reraise_as(ExportError), translate_hub_errors(PUSH_MESSAGES, name, token):
        api = HfApi(token=token)
        full = name if "/" in name else f"{api.whoami()['name']}/{name}"
        yield Repository(api, full, target.kind, target.private)


def check_target(target: PushTarget) -> tuple[str, str]:
    """Check name and token as far as possible without a request, and return them.

    Raises: as `open_repository`.
    """
    return check_name(target.repo), resolve_token(target.token)


def check_name(repo: str) -> str:
    """Check a repository name without a request, and return it.

    Raises: ExportError if it is invalid.
    """
    name = repo.strip()
    expected = "USER/NAME, or NAME for your own account"
    if not name:
        raise ExportError(f"Enter a repository name: {expected}.")
    if "://" in name or name.startswith("hf_"):  # it may be a token, so it is not repeated
        raise ExportError(f"That is a web address or a token, not a repository name. Enter {expected}.")
    if not is_repository_name(name):
        rules = (
            "letters, digits, `-`, `_` and `.`, at most 96 characters, no `--` or `..`, and no "
            "punctuation at either end"
        )
        raise ExportError(f"{name[:120]!r} is not a valid repository name. Enter {expected}, with {rules}.")
    return name


def resolve_token(token: Token) -> str:
    """Return the given token, or that of this machine's login.

    Raises: AccessError if there is none.
    """
    from huggingface_hub import get_token

    resolved = get_token() if token is None else token
    if not resolved:
        how = "sign in on this page first" if token is False else PUSH_LOGIN_HINT
        raise AccessError(f"You are not logged in to the Hub. To push, {how}.")
    if not (resolved.isascii() and resolved.isprintable() and " " not in resolved):
        raise AccessError(f"The token contains invalid characters. To push, {PUSH_LOGIN_HINT}.")
    return resolved


def suggested_name(run: Run, kind: str = "adapter") -> str:
    """Suggest a repository name from the run's name; a merged model gets another one than the adapter."""
    words = re.sub(r"[^a-z0-9]+", "-", run.record().settings.name.lower()).strip("-")
    return (words[:60].strip("-") or f"run-{run.id}") + ("-merged" if kind == "merged" else "")


def has_hub_login() -> bool:
    """Return whether this machine has a token, without checking that it is still valid."""
    from huggingface_hub import get_token

    return bool(get_token())


def visibility_warning(private: bool, include_data: bool) -> str:
    """Return what the user should know before pushing; empty if there is nothing."""
    what = "the model, its card and the data it was trained on" if include_data else "the model and its card"
    if not private:
        return f"Everyone will be able to read {what}."
    return f"Everyone with access to the repository can read {what}." if include_data else ""


def _files_in(folder: Path) -> dict[str, Path]:
    """Return a merged model's files, without Modelfile and GGUF, which are for this machine only."""
    return {file.name: file for file in sorted(folder.iterdir()) if file.suffix in PACKAGE_ENDINGS}


def _data_files(run: Run) -> dict[str, Path]:
    return {f"data/{file.name}": file for file in run.data_files()}


def _upload_large_files(repository: Repository, added: Sequence[Any], on_progress: ProgressCallback) -> None:
    """Upload large files one by one to report progress; the commit then only refers to them."""
    total, sent = max(1, sum(one.upload_info.size for one in added)), 0
    for one in added:
        if one.upload_info.size > LARGE_BYTES:
            repository.api.preupload_lfs_files(repository.id, [one], repo_type=repository.kind, free_memory=False)
        sent += one.upload_info.size
        on_progress(sent / total)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Turn off huggingface_hub's own progress bars within the block."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()

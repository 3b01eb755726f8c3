"""A run to the Hugging Face Hub: its adapter or model as a repository, in one commit that can be tried again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sft_app.data.rows import Progress
from sft_app.errors import AccessError, ExportError
from sft_app.export.adapter import KEPT_ENDINGS, Files, adapter_files
from sft_app.export.fidelity import fidelity_sentence, is_warning
from sft_app.export.merged import MergedModel, describe
from sft_app.export.model_card import saved_kind
from sft_app.hub.errors import PUSH_MESSAGES, reraise_as, translate_hub_errors
from sft_app.hub.ids import is_repository_name
from sft_app.hub.login import Token, use_token
from sft_app.runs.folder import Run

LARGE_BYTES = 4_000_000
PUSH_LOGIN_HINT = (
    "log in with `hf auth login`, or set HF_TOKEN to a token with write access (huggingface.co/settings/tokens)"
)
# What every repository may have beside its contents.
OF_A_PUSH = re.compile(r"(data/.+|scorecard|fidelity|.*model.*\.index)\.jsonl?|.*model.*\.safetensors")
SURROUNDINGS = {".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md"}


@dataclass(frozen=True)
class Target:
    """Where to push. `repo` is USER/NAME, or NAME for one's own; `token` is as `hub_login` has it and never printed."""

    repo: str
    private: bool = True
    token: Token = field(default=None, repr=False)
    kind: Literal["model", "space"] = "model"


@dataclass(frozen=True)
class Repository:
    """One that can be asked for and written to in somebody's name; it need not be there yet."""

    api: Any
    id: str
    kind: str
    private: bool

    @property
    def url(self) -> str:
        return f"{self.api.endpoint}/{'spaces/' if self.kind == 'space' else ''}{self.id}"


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now. `notes` are sentences that the person has to know."""

    repo: str
    url: str
    commit: str
    private: bool
    files: int
    notes: tuple[str, ...] = ()


def push_run(
    run: Run,
    target: Target,
    include_data: bool = False,
    chosen: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    merged: MergedModel | None = None,
) -> Pushed:
    """What the run saved, or the model `merged` of it, with tokenizer, card and settings.

    The conversations, also the held-out ones, only if `include_data`. `chosen` are ids of the pairs of answers that
    the card shows.

    Raises:
        ExportError: there is nothing to push, or the Hub or the network refused.
        AccessError: nobody is logged in.
        RunError: the run's settings cannot be read.
    """
    if not run.has_adapter():
        raise ExportError(f"Run {run.id} has no adapter to push.")
    with reaching(target) as repository:
        if merged is None:
            files = adapter_files(run, repository.id, chosen)
        else:
            files = {**_files_in(merged.folder), **describe(run, repository.id, merged.fidelity, chosen)}
        mark = "adapter_config.json" if merged is None and saved_kind(run) == "adapter" else "config.json"
        data = _data_files(run) if include_data else {}
        pushed = send(repository, {**files, **data}, mark, f"Run {run.id}", on_progress)
    if merged is not None and is_warning(merged.fidelity):
        return replace(pushed, notes=(*pushed.notes, fidelity_sentence(merged.fidelity)))
    return pushed


def send(repository: Repository, files: Files, mark: str, message: str, on_progress: Progress | None = None) -> Pushed:
    """Makes the repository where it is missing, and puts the files into it in one commit.

    `mark` is the file by which one sees that it holds such contents already. What an earlier push left of another run
    goes. Raises: as `make_ready`.
    """
    is_private, held = make_ready(repository, mark)
    dropped = sorted(name for name in held - files.keys() if OF_A_PUSH.fullmatch(name))
    oid = commit(repository, files, message, dropped, on_progress)
    return told_of(repository, oid, is_private, len(files))


def told_of(repository: Repository, oid: str, is_private: bool, files: int, notes: tuple[str, ...] = ()) -> Pushed:
    """What was done, with a note where the repository is not as open as was asked for."""
    if is_private and not repository.private:
        notes = (*notes, f"{repository.id} was already private and stays private. You can make it public on its page.")
    return Pushed(repository.id, repository.url, oid, is_private, files, notes)


def make_ready(repository: Repository, mark: str) -> tuple[bool, set[str]]:
    """The repository exists after this; returns whether it is private, and the files that it has.

    Raises: ExportError when it holds something else, or everyone can read it and that was not asked for.
    """
    name, kind = repository.id, repository.kind
    sdk = "gradio" if kind == "space" else None
    repository.api.create_repo(name, repo_type=kind, private=repository.private, exist_ok=True, space_sdk=sdk)
    info = repository.api.repo_info(name, repo_type=kind)
    held = {file.rfilename for file in info.siblings or ()}
    if repository.private and not info.private:
        raise ExportError(
            f"{name} already exists and is public. Choose public if everyone may read this, or choose another name."
        )
    if held - SURROUNDINGS and mark not in held:
        shown = sorted(held - SURROUNDINGS)[0]
        raise ExportError(f"{name} already exists and contains something else ({shown}). Choose another name.")
    return bool(info.private), held


def commit(
    repository: Repository,
    files: Files,
    message: str,
    dropped: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> str:
    """Puts the files there and drops others, all at once; the commit's id. What the Hub has already is not sent."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    deleted = [CommitOperationDelete(path_in_repo=name) for name in dropped]
    with _without_bars():
        _send_large(repository, added, on_progress or (lambda share: None))
        done = repository.api.create_commit(
            repository.id, [*added, *deleted], commit_message=message, repo_type=repository.kind
        )
    return done.oid


@contextmanager
def reaching(target: Target) -> Iterator[Repository]:
    """The repository that `target` names, under its full name; whatever the Hub refuses in the block is told.

    Raises:
        ExportError: the name cannot be one, or the Hub or the network refused.
        AccessError: nobody is logged in.
    """
    from huggingface_hub import HfApi

    name, token = checked_target(target)
    with use_token(token), reraise_as(ExportError), translate_hub_errors(PUSH_MESSAGES, name, token):
        api = HfApi(token=token)
        full = name if "/" in name else f"{api.whoami()['name']}/{name}"
        yield Repository(api, full, target.kind, target.private)


def checked_target(target: Target) -> tuple[str, str]:
    """Name and token, as far as one can see without a request. Raises: as `reaching`."""
    return checked_name(target.repo), token_of(target.token)


def checked_name(repo: str) -> str:
    """Without a request. Raises: ExportError when it can be no repository's name."""
    name = repo.strip()
    expected = "Give USER/NAME, or NAME for your own account"
    if not name:
        raise ExportError(f"The repository has no name yet. {expected}.")
    if "://" in name or name.startswith("hf_"):  # what is no name may be a token; it is not repeated
        raise ExportError(f"That is a web address or a token, not a repository name. {expected}.")
    if not is_repository_name(name):
        rules = (
            "letters, digits, `-`, `_` and `.`, at most 96 characters, no `--` or `..`, and no "
            "punctuation at either end"
        )
        raise ExportError(f"{name[:120]!r} is not a valid repository name. {expected}, with {rules}.")
    return name


def token_of(token: Token) -> str:
    """The one given, or that of this machine's login. Raises: AccessError when there is none."""
    from huggingface_hub import get_token

    found = get_token() if token is None else token
    if not found:
        how = "sign in on this page first" if token is False else PUSH_LOGIN_HINT
        raise AccessError(f"The Hub needs to know who is pushing. To push, {how}.")
    if not (found.isascii() and found.isprintable() and " " not in found):
        raise AccessError(f"The token contains invalid characters. To push, {PUSH_LOGIN_HINT}.")
    return found


def suggested_name(run: Run, kind: str = "adapter") -> str:
    """One's own repository, named as the run is; a merged model has another one than the adapter."""
    words = re.sub(r"[^a-z0-9]+", "-", run.record().settings.name.lower()).strip("-")
    return (words[:60].strip("-") or f"run-{run.id}") + ("-merged" if kind == "merged" else "")


def is_logged_in() -> bool:
    """Whether this machine has a token; nobody is asked whether it is still good."""
    from huggingface_hub import get_token

    return bool(get_token())


def warning_for(private: bool, include_data: bool) -> str:
    """What the person should know before they push; empty when there is nothing."""
    what = "the model, its card and the data it was trained on" if include_data else "the model and its card"
    if not private:
        return f"Everyone will be able to read {what}."
    return f"Everyone with access to the repository can read {what}." if include_data else ""


def _files_in(folder: Path) -> dict[str, Path]:
    """A Modelfile and a GGUF file beside the model are for the machine that they are on."""
    return {file.name: file for file in sorted(folder.iterdir()) if file.suffix in KEPT_ENDINGS}


def _data_files(run: Run) -> dict[str, Path]:
    return {f"data/{file.name}": file for file in (run.train_file, run.heldout_file)}


def _send_large(repository: Repository, added: Sequence[Any], tell: Progress) -> None:
    """One large file after the other, so that there is something to tell; the commit then only names them."""
    total, sent = max(1, sum(one.upload_info.size for one in added)), 0
    for one in added:
        if one.upload_info.size > LARGE_BYTES:
            repository.api.preupload_lfs_files(repository.id, [one], repo_type=repository.kind, free_memory=False)
        sent += one.upload_info.size
        tell(sent / total)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The library draws none of its own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()

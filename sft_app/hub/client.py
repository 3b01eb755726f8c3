"""Read and download repositories from the Hub with the current login."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from sft_app.hub.errors import READ_MESSAGES, translate_hub_errors
from sft_app.hub.login import hub_token

RepositoryKind = Literal["model", "adapter", "dataset"]
TIMEOUT_SECONDS = 10.0
ALTERNATIVES: dict[RepositoryKind, str] = {
    "model": "`starter`",
    "adapter": "an adapter on this machine",
    "dataset": "a file",
}


def repository_info(
    what: RepositoryKind,
    id: str,
    revision: str | None = None,
    with_sizes: bool = False,
    timeout: float = TIMEOUT_SECONDS,
) -> Any:
    """Return the Hub's information about a readable repository; its `sha` is the commit `revision` points to.

    Raises: HubError.
    """
    from huggingface_hub import HfApi

    kind = "model" if what == "adapter" else what
    api = HfApi(token=hub_token())
    with hub_read_errors(what, id, revision):
        info = api.repo_info(id, repo_type=kind, revision=revision, timeout=timeout, files_metadata=with_sizes)
        if info.gated:
            api.auth_check(id, repo_type=kind)
    return info


def download_repository(
    what: RepositoryKind,
    id: str,
    revision: str | None,
    allow_patterns: Sequence[str],
    ignore_patterns: Sequence[str] = (),
) -> Path:
    """Download the files that match `allow_patterns`, unless they are cached, and return their folder.

    Raises: HubError.
    """
    from huggingface_hub import snapshot_download

    with hub_read_errors(what, id, revision):
        folder = snapshot_download(
            id,
            revision=revision,
            allow_patterns=[*allow_patterns],
            ignore_patterns=[*ignore_patterns],
            token=hub_token(),
        )
    return Path(folder)


def cached_repository(id: str, revision: str | None, allow_patterns: Sequence[str]) -> Path | None:
    """Return the folder of an earlier `download_repository` without a request, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(id, revision=revision, allow_patterns=[*allow_patterns], local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def hub_read_errors(what: RepositoryKind, id: str, revision: str | None = None) -> AbstractContextManager[None]:
    """Turn huggingface_hub's errors within the block into a HubError about reading this repository."""
    page = f"huggingface.co/{'datasets/' if what == 'dataset' else ''}{id}"
    return translate_hub_errors(READ_MESSAGES, id, what=what, page=page, revision=revision, instead=ALTERNATIVES[what])

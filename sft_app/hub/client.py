"""Requests for repositories of the Hub, with the login that is in use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from sft_app.hub.errors import READING, hub_errors
from sft_app.hub.login import hub_token

What = Literal["model", "adapter", "data set"]
TIMEOUT_SECONDS = 10.0
INSTEAD: dict[What, str] = {"model": "`starter`", "adapter": "an adapter on this machine", "data set": "a file"}


def repository_info(
    what: What, id: str, revision: str | None = None, with_sizes: bool = False, timeout: float = TIMEOUT_SECONDS
) -> Any:
    """What the Hub says of a repository that may be read; its `sha` is the commit that `revision` is now.

    Raises: HubError.
    """
    from huggingface_hub import HfApi

    kind = "dataset" if what == "data set" else "model"
    api = HfApi(token=hub_token())
    with reading(what, id, revision):
        info = api.repo_info(id, repo_type=kind, revision=revision, timeout=timeout, files_metadata=with_sizes)
        if info.gated:
            api.auth_check(id, repo_type=kind)
    return info


def download_repository(
    what: What, id: str, revision: str | None, wanted: Sequence[str], not_wanted: Sequence[str] = ()
) -> Path:
    """A folder with the files whose names match `wanted`; what is on this machine already is not fetched again.

    Raises: HubError.
    """
    from huggingface_hub import snapshot_download

    with reading(what, id, revision):
        folder = snapshot_download(
            id, revision=revision, allow_patterns=[*wanted], ignore_patterns=[*not_wanted], token=hub_token()
        )
    return Path(folder)


def downloaded_before(id: str, revision: str | None, wanted: Sequence[str]) -> Path | None:
    """The folder that `download_repository` made earlier, without a request; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(id, revision=revision, allow_patterns=[*wanted], local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def reading(what: What, id: str, revision: str | None = None) -> AbstractContextManager[None]:
    """Raises: HubError for whatever huggingface_hub raises within the block, as one that was asked to read this."""
    page = f"huggingface.co/{'datasets/' if what == 'data set' else ''}{id}"
    return hub_errors(READING, id, what=what, page=page, revision=revision, instead=INSTEAD[what])

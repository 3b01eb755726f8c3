"""Turn errors of the Hub or the network into one sentence: what happened and what to do, without tokens.

`classify` sorts what huggingface_hub raises; a table for each kind of request has the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, Literal

from sft_app.errors import AppError
from sft_app.hub.login import Token, hide_tokens

HubErrorKind = Literal[
    "gated", "missing", "hidden", "no revision", "login", "forbidden", "no room", "conflict", "busy", "offline",
    "unreachable", "local file", "refused", "failed",
]  # fmt: skip
NO_ROOM_STATUSES = (402, 413, 507)
MAX_REASON_CHARACTERS = 300
LOGIN_HINT = "log in with `hf auth login` or set HF_TOKEN"
RETRY_HINT = "Files that already arrived are not sent again."


class HubError(AppError):
    """Reports that the Hub refused a request. Its text is for the user, its `kind` for the caller."""

    def __init__(self, message: str, kind: HubErrorKind) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def is_temporary(self) -> bool:
        """Return whether the Hub cannot be reached now: no network, it is down, or HF_HUB_OFFLINE turns it off."""
        return self.kind in ("busy", "offline", "unreachable")


@dataclass(frozen=True)
class HubRefusal:
    """Describes a refusal: its kind, the HTTP status if there is one, and the reason on one line."""

    kind: HubErrorKind
    status: int = 0
    reason: str = ""


READ_MESSAGES: dict[HubErrorKind, str] = {
    "gated": "{id} is gated. Accept its terms at {page}, then {login}.",
    "missing": "The Hub has no {what} {id}. Check the spelling; if it is private, {login}.",
    "no revision": "{id} has no revision {revision!r}. "
    "Enter a branch, tag or commit from its page, or leave it empty for the latest.",
    "login": "The Hub rejected your login when asked for {id}. To fix this, {login}.",
    "busy": "The Hub is too busy to serve {id} (status {status}). Try again in a few minutes.",
    "offline": "{id} cannot be fetched because HF_HUB_OFFLINE is set. Unset it and try again, or use {instead}.",
    "unreachable": "The Hugging Face Hub could not be reached, so {id} was not fetched. "
    "Connect to the internet and try again, or use {instead}.",
    "failed": "{id} could not be fetched: {reason}.",
    "refused": "The Hub refused {id} (status {status}){because}. Check its page for the reason.",
}
READ_MESSAGES["hidden"] = READ_MESSAGES["missing"]  # the Hub does not say which
PUSH_MESSAGES: dict[HubErrorKind, str] = {
    "missing": "The Hub cannot find {id}{because}. "
    "Check the spelling of its owner, or log in as someone with access to it.",
    "login": "The Hub rejected your login for {id}{because}. "
    "Log in again with `hf auth login`, or set HF_TOKEN to a token with write access.",
    "forbidden": "Your login has no write access to {id}{because}. "
    "Use a token with write access, or push to your own account.",
    "no room": "The Hub has no room for {id}, or requires a paid plan for it{because}. "
    "Free up space at huggingface.co/settings/storage, or choose another owner.",
    "conflict": "{id} was changed at the same time{because}. Push again. {again}",
    "busy": "The Hub is too busy or has a problem of its own (status {status}). Push again in a few minutes. {again}",
    "offline": "HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it and push again.",
    "unreachable": "The Hugging Face Hub could not be reached, so {id} was not pushed. "
    "Check the connection and push again. {again}",
    "local file": "{reason}.",
    "failed": "{id} was not pushed: {reason}. Push again, or check its page.",
    "refused": "The Hub refused {id} with status {status}{because}.",
}
# If a table has no message for a kind, the message of this kind is used.
FALLBACK_KINDS: dict[HubErrorKind, HubErrorKind] = {
    "gated": "missing", "hidden": "login", "no revision": "missing", "offline": "unreachable",
    "local file": "failed", "failed": "refused",
}  # fmt: skip


@contextmanager
def translate_hub_errors(
    sentences: dict[HubErrorKind, str], id: str, token: Token = None, **fields: Any
) -> Iterator[None]:
    """Turn huggingface_hub's errors within the block into a HubError with a message from the table.

    `fields` fill in the messages: `what`, `page`, `revision`, `instead`.

    Raises: HubError.
    """
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        refusal = classify(error)
        message = _sentence(refusal, sentences, id, **fields)
        # without its cause, whose text may quote the header with the token
        raise HubError(hide_tokens(message, token), refusal.kind) from None


@contextmanager
def reraise_as(kind: type[AppError]) -> Iterator[None]:
    """Raise a HubError within the block as an error of this kind with the same text."""
    try:
        yield
    except HubError as error:
        raise kind(str(error)) from error


def classify(error: Exception) -> HubRefusal:
    """Sort an error of huggingface_hub into a kind of refusal.

    Source: huggingface_hub 2.4, `utils/_http.hf_raise_for_status` and `errors`.
    """
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        return classify(error.__cause__)  # the reason why a file could not be uploaded
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return _of_status(error, error.response.status_code)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubRefusal("offline")
    if isinstance(error, OSError) and error.filename:
        return HubRefusal(
            "local file", reason=_one_line(f"{error.filename} could not be read: {error.strerror or error}")
        )
    if isinstance(error, httpx2.TransportError | OSError | JSONDecodeError):  # JSONDecodeError: a network's login page
        return HubRefusal("unreachable")
    return HubRefusal("failed", reason=_one_line(str(error) or type(error).__name__))


def _of_status(error: Any, status: int) -> HubRefusal:
    from huggingface_hub import errors

    reason = _one_line(error.server_message or "")
    named: dict[type[Exception], HubErrorKind] = {  # GatedRepoError is a RepositoryNotFoundError
        errors.GatedRepoError: "gated",
        errors.RevisionNotFoundError: "no revision",
        errors.RepositoryNotFoundError: "missing",
    }
    kind = next((kind for type_, kind in named.items() if isinstance(error, type_)), _kind_of_status(status, reason))
    return HubRefusal("hidden" if (kind, status) == ("missing", 401) else kind, status, reason)


def _kind_of_status(status: int, reason: str) -> HubErrorKind:
    if status in NO_ROOM_STATUSES or (status in (400, 403) and _is_about_room(reason)):
        return "no room"
    if status == 429 or status >= 500:
        return "busy"
    kinds: dict[int, HubErrorKind] = {401: "login", 403: "forbidden", 404: "missing", 409: "conflict", 412: "conflict"}
    return kinds.get(status, "refused")


def _sentence(refusal: HubRefusal, sentences: dict[HubErrorKind, str], id: str, **fields: Any) -> str:
    kind = refusal.kind
    while kind not in sentences:
        kind = FALLBACK_KINDS.get(kind, "refused")
    because = f" ({refusal.reason})" if refusal.reason else ""
    known = {
        "login": LOGIN_HINT,
        "again": RETRY_HINT,
        "because": because,
        "status": refusal.status,
        "reason": refusal.reason,
    }
    return sentences[kind].format(id=id, **{**known, **fields})


def _is_about_room(reason: str) -> bool:
    return any(word in reason.lower() for word in ("storage", "quota", "payment", "billing", "subscribe", "pro "))


def _one_line(text: str) -> str:
    """Return the text on one line without its full stop and without URLs, since signed download URLs open to anyone."""
    line = re.sub(r"\w+://\S+", "its address", " ".join(text.split())).rstrip(".")
    return line if len(line) <= MAX_REASON_CHARACTERS else f"{line[:MAX_REASON_CHARACTERS]}…"

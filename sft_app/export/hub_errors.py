"""What the Hub or the network refused, as one sentence: what it was, and what to do. A token is in none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

from sft_app.errors import ExportError

AGAIN = "Files that already arrived are not sent again."
NO_ROOM = (402, 413, 507)
LONGEST_REASON = 300
_TOKEN = re.compile(r"\b(hf|api_org|hf_oauth)_[A-Za-z0-9._-]{6,}")


@contextmanager
def telling_errors(repo: str, token: str) -> Iterator[None]:
    """Raises: ExportError for whatever huggingface_hub raises within the block about this repository."""
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        # without its cause, whose text may quote the header with the token
        raise ExportError(redact(sentence_for(error, repo), token)) from None


def sentence_for(error: Exception, repo: str) -> str:
    """What happened and what to do, for the reader; it may still have a token in it."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        return sentence_for(error.__cause__, repo)  # a file that could not be uploaded, and why
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _refusal(error.response.status_code, _reason(error), repo)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE turns off the Hub here. Unset it and push again."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} could not be read: {error.strerror or error}."
    if isinstance(error, httpx2.TransportError | OSError | JSONDecodeError):  # the last: a network's login page
        return f"The Hugging Face Hub cannot be reached to push {repo}. Check the connection and push again. {AGAIN}"
    return f"{repo} was not pushed: {_one_line(str(error) or type(error).__name__)}. Push again, or check its page."


def redact(text: str, token: str) -> str:
    """The text without this token, and without what looks like one."""
    return _TOKEN.sub(r"\1_…", text.replace(token, "hf_…") if token else text)


def _refusal(status: int, reason: str, repo: str) -> str:
    because = f" ({reason})" if reason else ""
    if status in NO_ROOM or (status in (400, 403) and _is_about_room(reason)):
        told = f"The Hub has no room for {repo}, or requires a paid plan for it{because}"
        return f"{told}. Free up space at huggingface.co/settings/storage, or choose another owner."
    if status == 401:
        return (
            f"The Hub rejected your login for {repo}{because}. "
            "Log in again with `hf auth login`, or set HF_TOKEN to a token with write access."
        )
    if status == 403:
        return (
            f"Your login has no write access to {repo}{because}. Use a token with write access, or push "
            f"to your own account."
        )
    if status == 404:
        return (
            f"The Hub cannot find {repo}{because}. Check the spelling of its owner, or log in as someone "
            f"with access to it."
        )
    if status in (409, 412):
        return f"{repo} was changed at the same time{because}. Push again. {AGAIN}"
    if status == 429 or status >= 500:
        return (
            f"The Hub is too busy or has a problem of its own (status {status}). Push again in a few minutes. {AGAIN}"
        )
    return f"The Hub refused {repo} with status {status}{because}."


def _is_about_room(reason: str) -> bool:
    return any(word in reason.lower() for word in ("storage", "quota", "payment", "billing", "subscribe", "pro "))


def _reason(error: Any) -> str:
    """What the server says of it, without its own full stop."""
    return _one_line(error.server_message or "").rstrip(".")


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"

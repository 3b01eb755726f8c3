"""Who sent a request: the person who signed in, or the owner of the token that came with it."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import gradio as gr

from sft_app.errors import AccessError
from sft_app.hosting import Hosting, Visitor

# Not `Authorization`, which the Hub's proxy consumes for private Spaces. gradio_client sends this header.
TOKEN_HEADER = "x-hf-authorization"
NAME_CACHE_SECONDS = 300.0
_names: dict[str, tuple[float, str]] = {}


def visitor_of(hosting: Hosting, request: gr.Request | None) -> Visitor:
    """Return who sent the request: an anonymous visitor on your own computer, or without a login or token.

    Raises: AccessError if the Hub does not recognise the token.
    """
    if not hosting.is_hosted or request is None or request.request is None:
        return Visitor()
    scope = request.request.scope
    login = scope.get("session", {}).get("oauth_info") or {}
    if login and login.get("expires_at", time.time() + 1) > time.time():
        return Visitor(login.get("userinfo", {}).get("preferred_username"), login.get("access_token"))
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}
    kind, _, token = headers.get(TOKEN_HEADER, "").partition(" ")
    return Visitor(_name_of(token), token) if kind.lower() == "bearer" and token else Visitor()


def _name_of(token: str) -> str:
    """Ask the Hub for the token's owner, and cache the answer for some minutes by the token's hash."""
    key, now = hashlib.sha256(token.encode()).hexdigest(), time.monotonic()
    known = _names.get(key)
    if known is None or now - known[0] > NAME_CACHE_SECONDS:
        known = _names[key] = (now, _ask_hub(token))
        for old in [other for other, (cached_at, _) in _names.items() if now - cached_at > NAME_CACHE_SECONDS]:
            del _names[old]
    return known[1]


def _ask_hub(token: str) -> str:
    import httpx2
    from huggingface_hub import HfApi

    try:
        found: dict[str, Any] = HfApi(token=token).whoami()
    except (httpx2.HTTPError, OSError, ValueError):
        raise AccessError(
            "The Hub does not recognise this token, or cannot be reached right now. Sign in again, or try again later."
        ) from None
    return str(found["name"])

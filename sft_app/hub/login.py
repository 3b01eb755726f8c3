"""Choose the login for requests to the Hub: this machine's at home, the visitor's or none on a Space.

A Space's own token is never used for what a visitor names, or they could read the owner's private models with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

# None is this machine's login, False is no login.
Token = str | Literal[False] | None
_TOKEN = re.compile(r"\b(hf|api_org|hf_oauth)_[A-Za-z0-9._-]{6,}")
_chosen: ContextVar[str | None] = ContextVar("hub_token", default=None)
_source: Callable[[], Token] | None = None


def hub_token() -> Token:
    """Return the `token` argument for every request to the Hub."""
    if chosen := _chosen.get():
        return chosen
    return None if _source is None else _source()


@contextmanager
def use_token(token: str) -> Iterator[None]:
    """Use this token for requests to the Hub within the block, in this thread."""
    before = _chosen.set(token)
    try:
        yield
    finally:
        _chosen.reset(before)


def hide_tokens(text: str, token: Token = None) -> str:
    """Return the text without this token or anything that looks like a Hub token, for messages and logs."""
    return _TOKEN.sub(r"\1_…", text.replace(token, "hf_…") if token else text)


def set_token_source(source: Callable[[], Token] | None) -> None:
    """Get tokens from `source` from now on; None restores this machine's login."""
    global _source
    _source = source

"""With whose rights the Hub is asked: at home those of this machine's login, on a Space the visitor's or nobody's.

A Space's own secret is never used for what a visitor names, or they could read the owner's private models with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

# None: what this machine is logged in as. False: nobody.
Token = str | Literal[False] | None
_TOKEN = re.compile(r"\b(hf|api_org|hf_oauth)_[A-Za-z0-9._-]{6,}")
_chosen: ContextVar[str | None] = ContextVar("hub_token", default=None)
_source: Callable[[], Token] | None = None


def hub_token() -> Token:
    """For the `token` of everything that asks the Hub."""
    if chosen := _chosen.get():
        return chosen
    return None if _source is None else _source()


@contextmanager
def asking_with(token: str) -> Iterator[None]:
    """The Hub is asked with this token until the end of the block, in this thread."""
    before = _chosen.set(token)
    try:
        yield
    finally:
        _chosen.reset(before)


def hide_tokens(text: str, token: Token = None) -> str:
    """The text without this token, and without anything that looks like a token of the Hub: for messages and logs."""
    return _TOKEN.sub(r"\1_…", text.replace(token, "hf_…") if token else text)


def take_tokens_from(source: Callable[[], Token] | None) -> None:
    """From now on `source` is asked who asks; None: this machine's login again."""
    global _source
    _source = source

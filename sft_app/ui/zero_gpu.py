"""Spaces on which a GPU is lent for one call at a time (ZeroGPU), through the `spaces` package that is there then."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any


def lends_gpu() -> bool:
    """Whether this is such a Space, as the `spaces` package itself finds out."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def import_spaces() -> None:
    """To be called before gradio and torch are imported for the first time; elsewhere it does nothing."""
    if lends_gpu():
        importlib.import_module("spaces")


def on_gpu(function: Callable[..., Any], seconds: Callable[..., int]) -> Callable[..., Any]:
    """The function with a GPU for about so many seconds, where GPUs are lent; elsewhere itself."""
    if not lends_gpu():
        return function
    return importlib.import_module("spaces").GPU(duration=seconds)(function)

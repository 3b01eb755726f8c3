"""Decide where the app runs and for whom: at home for one user, or as a Hugging Face Space for visitors.

Decided once, from the environment. Imports no torch, so it does not use torch to look for a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from sft_app.errors import AccessError, SettingsError
from sft_app.runtime.environment import (
    ADAPTER_VARIABLE,
    ALLOWED_VARIABLE,
    AUTH_VARIABLE,
    HUB_TOKEN_VARIABLES,
    MCP_VARIABLE,
    MODE_VARIABLE,
    SPACE_AUTHOR_VARIABLE,
    SPACE_ID_VARIABLE,
    STORAGE_TOKEN_VARIABLE,
    STORAGE_VARIABLE,
    is_zero_gpu,
)

Mode = Literal["full", "demo", "zerogpu"]
GPU_DEVICES = ("/dev/nvidia0", "/dev/kfd")
NO_TRAINING_REASONS: dict[Mode, str] = {
    "demo": "Training is off in this demo because it has no GPU of its own. "
    "Duplicate the Space and give it its own GPU, or run the app on your own computer.",
    "zerogpu": "Training is off on ZeroGPU because a run takes longer than ZeroGPU provides a GPU for. "
    "Duplicate the Space and give it its own GPU, or run the app on your own computer.",
}


@dataclass(frozen=True)
class Visitor:
    """Identifies who sent a request. `token` is what they let the app use on the Hub; it is never printed."""

    name: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Limits:
    """Limits what a visitor who does not own the Space may ask for."""

    prompt_characters: int = 4_000
    max_new_tokens: int = 256
    answer_seconds: float = 60.0
    prompts: int = 20
    upload_mb: int = 20


@dataclass(frozen=True)
class Hosting:
    """Describes the installation. `space` is the Space's id, None at home; a comparison Space shows only `adapter`."""

    mode: Mode = "full"
    space: str | None = None
    owner: str | None = None
    allowed: frozenset[str] = frozenset()
    adapter: str | None = None
    limits: Limits = Limits()

    @property
    def is_hosted(self) -> bool:
        """Return whether people who do not own the machine use the app."""
        return self.space is not None

    @property
    def allows_training(self) -> bool:
        """Return whether anyone can train here."""
        return self.mode == "full"

    def trusts(self, visitor: Visitor) -> bool:
        """Return whether a visitor may train, push and delete.

        At home everyone may, on a Space its owner and those they allow.
        """
        return not self.is_hosted or (visitor.name is not None and visitor.name.lower() in self.trusted_names())

    def trusted_names(self) -> frozenset[str]:
        """Return the trusted account names in lower case; the Hub ignores case."""
        return self.allowed | ({self.owner.lower()} if self.owner else frozenset())

    def refuse_unless_trusted(self, visitor: Visitor, what: str) -> None:
        """Raise AccessError unless the visitor is trusted. `what` completes "Only the owner … can …"."""
        if not self.trusts(visitor):
            hint = "Sign in first" if visitor.name is None else "Duplicate the Space to get your own"
            raise AccessError(f"Only the owner of this Space and people they allow can {what}. {hint}.")

    def refuse_unless_trains(self, visitor: Visitor) -> None:
        """Raise AccessError if no one can train here, or this visitor may not."""
        if not self.allows_training:
            raise AccessError(NO_TRAINING_REASONS[self.mode])
        self.refuse_unless_trusted(visitor, "train")


def detect_hosting(environment: Mapping[str, str] = os.environ) -> Hosting:
    """Detect where the app runs; `SFT_APP_MODE` overrides the mode.

    Raises: SettingsError if the mode is unknown.
    """
    space = environment.get(SPACE_ID_VARIABLE) or None
    mode = environment.get(MODE_VARIABLE) or _mode_of(environment, space)
    if mode not in get_args(Mode):
        raise SettingsError(f"{MODE_VARIABLE} must be one of {', '.join(get_args(Mode))}, got {mode!r}.")
    owner = environment.get(SPACE_AUTHOR_VARIABLE) or (space or "").partition("/")[0] or None
    names = environment.get(ALLOWED_VARIABLE, "").split(",")
    return Hosting(
        mode=mode,  # type: ignore[arg-type]
        space=space,
        owner=owner if space else None,
        allowed=frozenset(name.strip().lower() for name in names if name.strip()),
        adapter=environment.get(ADAPTER_VARIABLE) or None,
    )


def self_hosting_logins(environment: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """Return the logins of a page reachable from elsewhere: `SFT_APP_AUTH=name:password,other:password`.

    Raises: SettingsError if the format is wrong; the message does not repeat the value.
    """
    logins_text = environment.get(AUTH_VARIABLE, "")
    logins = []
    for login in logins_text.split(",") if logins_text else []:
        name, _, password = login.strip().partition(":")
        logins.append((name, password))
    if any(not name or not password for name, password in logins):
        raise SettingsError(f"{AUTH_VARIABLE} must be name:password; separate several with commas.")
    return logins or None


def wants_mcp(environment: Mapping[str, str]) -> bool:
    """Return whether language models may call the API as tools of the Model Context Protocol.

    Raises: SettingsError.
    """
    if environment.get(MCP_VARIABLE, "0") in ("", "0"):
        return False
    if find_spec("mcp") is None:
        raise SettingsError(
            f'{MCP_VARIABLE} is set, but the library for it is missing. Run: pip install "gradio[mcp]".'
        )
    return True


def isolate_space_tokens(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove a Space's tokens from the environment, so that they never load what visitors name.

    Call this before any library reads them. A token is kept only for the Space's own storage, under a name that no Hub
    library knows.
    """
    if not environment.get(SPACE_ID_VARIABLE):
        return
    tokens = [token for name in HUB_TOKEN_VARIABLES if (token := environment.pop(name, ""))]
    if tokens and environment.get(STORAGE_VARIABLE):
        environment.setdefault(STORAGE_TOKEN_VARIABLE, tokens[0])
    environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"


def _mode_of(environment: Mapping[str, str], space: str | None) -> Mode:
    if is_zero_gpu(environment):
        return "zerogpu"
    has_gpu = any(Path(device).exists() for device in GPU_DEVICES)
    return "full" if space is None or has_gpu else "demo"

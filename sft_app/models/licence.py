"""Find a model's licence in its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_app.hub.client import repository_info
from sft_app.hub.errors import HubError
from sft_app.hub.ids import is_hub_id
from sft_app.models.catalog import HUB_TIMEOUT_SECONDS, ModelRef
from sft_app.models.starter import STARTER_HUB_ID

LICENCE_KEYS = ("license", "license_name", "license_link")
STARTER_LICENCE = {"license": "apache-2.0"}


def read_licence(ref: ModelRef) -> dict[str, str]:
    """Return the known `LICENCE_KEYS`, spelled as in a card's metadata; empty if none is known.

    Looks in the model's folder, in the cached card, then on the Hub.
    """
    if ref.public_id == STARTER_HUB_ID:
        return STARTER_LICENCE
    if Path(ref.location).is_dir():
        return _licence_from_card(Path(ref.location) / "README.md")
    if not is_hub_id(ref.location):  # a folder that no longer exists
        return {}
    return _licence_from_card(_cached_card(ref)) or _licence_from_hub(ref)


def _licence_from_card(card: Path | None) -> dict[str, str]:
    from huggingface_hub import ModelCard

    if card is None or not card.is_file():
        return {}
    try:
        return _licence_fields(ModelCard.load(card, ignore_metadata_errors=True).data)
    except (OSError, ValueError):  # missing or invalid metadata
        return {}


def _cached_card(ref: ModelRef) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(ref.location, "README.md", revision=ref.revision)
    return Path(path) if isinstance(path, str) else None


def _licence_from_hub(ref: ModelRef) -> dict[str, str]:
    try:
        info = repository_info("model", ref.location, ref.revision, timeout=HUB_TIMEOUT_SECONDS)
    except HubError:  # the Hub cannot be reached, or this user may not read the model
        return {}
    return _licence_fields(info.card_data) if info.card_data else {}


def _licence_fields(card_data: Any) -> dict[str, str]:
    fields = {key: card_data.get(key) for key in LICENCE_KEYS}
    return {key: value for key, value in fields.items() if isinstance(value, str) and value}

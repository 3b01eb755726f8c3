"""The licence of a model, as its own card tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_app.hub.client import repository_info
from sft_app.hub.errors import HubError
from sft_app.hub.ids import is_hub_id
from sft_app.models.catalog import HUB_TIMEOUT_SECONDS, ModelRef
from sft_app.models.starter import HUB_ID

LICENCE_KEYS = ("license", "license_name", "license_link")
STARTER_LICENCE = {"license": "apache-2.0"}


def licence_of(ref: ModelRef) -> dict[str, str]:
    """Those of `LICENCE_KEYS` that are known, spelled as in a card's metadata; {} where nothing is.

    From the model's folder, or what was downloaded with it, or the Hub if it answers.
    """
    if ref.public_id == HUB_ID:
        return STARTER_LICENCE
    if Path(ref.location).is_dir():
        return _told_by_file(Path(ref.location) / "README.md")
    if not is_hub_id(ref.location):  # a folder that is not there any more
        return {}
    return _told_by_file(_cached_card(ref)) or _told_by_hub(ref)


def _told_by_file(card: Path | None) -> dict[str, str]:
    from huggingface_hub import ModelCard

    if card is None or not card.is_file():
        return {}
    try:
        return _told(ModelCard.load(card, ignore_metadata_errors=True).data)
    except (OSError, ValueError):  # it has no metadata, or none that can be read
        return {}


def _cached_card(ref: ModelRef) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(ref.location, "README.md", revision=ref.revision)
    return Path(found) if isinstance(found, str) else None


def _told_by_hub(ref: ModelRef) -> dict[str, str]:
    try:
        info = repository_info("model", ref.location, ref.revision, timeout=HUB_TIMEOUT_SECONDS)
    except HubError:  # the Hub is not reached, or does not tell this person
        return {}
    return _told(info.card_data) if info.card_data else {}


def _told(card_data: Any) -> dict[str, str]:
    found = {key: card_data.get(key) for key in LICENCE_KEYS}
    return {key: value for key, value in found.items() if isinstance(value, str) and value}

"""Check whether a text can be the id of a repository on the Hub, without a request."""

from __future__ import annotations

import re

# The Hub uses these in its own URLs, so no account has them.
RESERVED_OWNERS = ("buckets", "datasets", "models", "spaces")
MAX_PART_CHARACTERS = 96
_PART = r"\w(?:[\w.-]*\w)?"
_ID = re.compile(rf"(?:(?P<owner>{_PART})/)?(?P<name>{_PART})", re.ASCII)


def is_repository_name(text: str) -> bool:
    """Return whether the text can be `owner/name`, or `name` alone.

    Source: `validate_repo_id` of huggingface_hub, which imports much more than this; the tests compare the two.
    """
    match = _ID.fullmatch(text)
    if match is None or "--" in text or ".." in text or text.endswith(".git"):
        return False
    owner, name = match["owner"] or "", match["name"]
    return max(len(owner), len(name)) <= MAX_PART_CHARACTERS and owner not in RESERVED_OWNERS


def is_hub_id(text: str) -> bool:
    """Return whether the text can be `owner/name`. A path such as `models/mine` cannot."""
    return "/" in text and is_repository_name(text)

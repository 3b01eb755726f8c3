"""Find what cannot be trained on: pictures, sound and videos in a row, and files attached to its messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sft_app.data.messages import CONTENT_KEYS, ROLE_KEYS, role_name, role_named
from sft_app.data.rows import JsonObject
from sft_app.data.sources.python_literals import parsed_cell

MEDIA = {
    "picture": ("image", "images", "img", "picture", "pictures", "photo", "photos", "image_path", "image_url"),
    "sound": ("audio", "audios", "speech", "audio_path", "audio_url"),
    "video": ("video", "videos", "video_path", "video_url"),
}
_WORDS = {"picture": "a picture (image)", "sound": "sound", "video": "a video", "file": "a picture (image) or sound"}
MEDIA_NAMES = {name: kind for kind, names in MEDIA.items() for name in names}
MEDIA_FILE = re.compile(
    r"\Adata:|\A\S+\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|mp3|wav|flac|ogg|m4a|mp4|avi|mov|webm|mkv)(?:\?\S*)?\s*\Z",
    re.I,
)
_ADDRESS = re.compile(r"\s*(?:https?|file|s3|gs)://\S+\s*")
MEDIA_MARKS = re.compile(r"<\|?(image)(?:_placeholder)?\|?>|<\|?(audio|video)\|?>(?!.*</(?:audio|video)>)", re.DOTALL)
ATTACHMENT_NAMES = frozenset(
    ("attachment", "attachments", "file", "files", "files_v2", "media", "document", "documents", "file_ids", "uploads")
)
_KINDS = {"image": "picture", "photo": "picture", "picture": "picture", "audio": "sound", "video": "video"}
_KIND_KEYS = ("type", "kind", "file_kind", "mime_type", "mimetype", "mimeType", "content_type", "contentType")
_SPEAKER_KEYS = {*ROLE_KEYS, "author_id", "incoming", "is_inbound", "is_user", "isCreatedByUser", "human", "user"}
_SPEAKER_KEYS |= {"question", "query", "prompt", "input"}
_TEXTS_OF_TOOLS = {"tools", "functions", "tool_calls", "function_call", "arguments", "parameters", "structure"}
_NAMES = MEDIA_NAMES.keys() | ATTACHMENT_NAMES
_NAMED_IN_JSON = re.compile(rf"""["'](?:{"|".join(sorted(_NAMES))})["']\s*:""")
_DEEPEST = 6


class Attached(NamedTuple):
    """Something that is attached to a message: in which column, under which key of the message."""

    column: str
    key: str
    value: Any


def attached_to_messages(row: JsonObject) -> list[Attached]:
    """List what the messages in a row hold besides text under names such as `attachments` and `image_url`."""
    found: list[Attached] = []
    for name, value in row.items():
        if isinstance(value, str):
            if value[:1] not in ("[", "{") or not _NAMED_IN_JSON.search(value):
                continue
            value = parsed_cell(value)
            if not _holds_turns(value):  # an answer may be JSON too
                continue
        if isinstance(value, (list, dict)) and name not in _TEXTS_OF_TOOLS:
            found += (Attached(name, key, inner) for key, inner in _attached(value, False, 0))
    return found


def _holds_turns(value: Any) -> bool:
    lists = [value] if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else []
    turns = [turn for one in lists if isinstance(one, list) for turn in one]
    return any(role_named(role_name(turn)) for turn in turns)


def _attached(value: Any, is_inside: bool, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of what is attached to messages, at any depth; `is_inside` is true within one."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)) and depth < _DEEPEST:
                yield from _attached(item, is_inside, depth + 1)
        return
    telling = [(key, inner) for key, inner in value.items() if inner and (type(inner) is not str or key in _NAMES)]
    if not telling:
        return
    is_message = _is_message(value)
    is_inside = is_inside or is_message
    for key, inner in telling:
        if key in _TEXTS_OF_TOOLS or is_message and key in CONTENT_KEYS and not _holds_message(inner):
            continue
        if is_inside and key in _NAMES:
            yield key, inner
        elif isinstance(inner, (dict, list)) and depth < _DEEPEST:
            yield from _attached(inner, is_inside, depth + 1)


def _is_message(value: JsonObject) -> bool:
    return bool(value.keys() & _SPEAKER_KEYS) or "type" in value and role_named(value["type"]) is not None


def _holds_message(value: Any) -> bool:
    return isinstance(value, dict) and _is_message(value)


def attached_note(attached: Sequence[Attached]) -> str:
    """Say that what is attached to messages is not read; "" if nothing is."""
    names = ", ".join(f"`{key}`" for key in dict.fromkeys(one.key for one in attached if _is_telling(one)))
    return f"read without what is attached to the messages ({names})" if names else ""


def _is_telling(attached: Attached) -> bool:
    return attached.key in ATTACHMENT_NAMES and not isinstance(attached.value, (int, float))


def media_reason(row: JsonObject, attached: Sequence[Attached] = ()) -> str:
    """Explain what contains a picture, sound or a video: a column, or something `attached`; "" if nothing does."""
    for name, value in row.items():
        kind = MEDIA_NAMES.get(str(name).strip().lower())
        if kind and _is_media(value) or _is_file_struct(value):
            return f"`{name}` contains {_WORDS[kind or 'file']}, and only text can be trained on"
    for one in attached:
        if kind := _kind_of(one):
            where = f"`{one.key}` of a message in `{one.column}`"
            return f"{where} contains {_WORDS[kind]}, and only text can be trained on"
    for name, text in _texts(row):
        if "<" in text and (found := MEDIA_MARKS.search(text)):
            return f"`{name}` refers to a picture or sound ({found[0]}), and only text can be trained on"
    return ""


def _kind_of(attached: Attached) -> str:
    """Return the kind of medium that is attached to a message; "" if it is none, or it is unknown."""
    kind = MEDIA_NAMES.get(attached.key, "")
    return (kind if _is_media(attached.value) else "") if kind else _kind_of_file(attached.value)


def _kind_of_file(value: Any) -> str:
    if isinstance(value, list):
        return next((kind for item in value if (kind := _kind_of_file(item))), "")
    if isinstance(value, str):
        return "file" if MEDIA_FILE.search(value.strip()) else ""
    if not isinstance(value, dict):
        return ""
    said = (str(value.get(key, "")).partition("/")[0].partition("_")[0].lower() for key in _KIND_KEYS)
    by_kind = next((_KINDS[word] for word in said if word in _KINDS), "")
    by_name = (MEDIA_NAMES[key] for key, inner in value.items() if key in MEDIA_NAMES and inner)
    return by_kind or next(by_name, "") or next((kind for item in value.values() if (kind := _kind_of_file(item))), "")


def _is_media(value: Any) -> bool:
    if isinstance(value, str):
        return bool(MEDIA_FILE.search(value) or _ADDRESS.fullmatch(value))
    return bool(value) and not isinstance(value, (int, float))


def _is_file_struct(value: Any) -> bool:
    """Return whether a value is a file as the Hub's Parquet files hold it, or a list of them."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and {"bytes", "path"} <= first.keys()


def _texts(row: JsonObject) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, list):
            for item in value:
                said = item.get("content", item.get("value")) if isinstance(item, dict) else item
                if isinstance(said, str):
                    yield name, said

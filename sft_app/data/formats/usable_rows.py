"""Refuse rows with pictures or sound, and drop what Parquet adds to rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sft_app.data.rows import JsonObject, Rejected, Row

MEDIA = {
    "picture": ("image", "images", "img", "picture", "pictures", "photo", "photos", "image_path", "image_url"),
    "sound": ("audio", "audios", "speech", "audio_path"),
    "video": ("video", "videos", "video_path"),
}
_WORDS = {"picture": "a picture (image)", "sound": "sound", "video": "a video", "file": "a picture (image) or sound"}
MEDIA_NAMES = {name: kind for kind, names in MEDIA.items() for name in names}
MEDIA_FILE = re.compile(
    r"\Adata:|\A\S+\.(?:jpe?g|png|gif|webp|bmp|tiff?|mp3|wav|flac|ogg|m4a|mp4|avi|mov|webm|mkv)(?:\?\S*)?\s*\Z", re.I
)
MEDIA_MARKS = re.compile(r"<\|?(image)(?:_placeholder)?\|?>|<\|?(audio|video)\|?>(?!.*</(?:audio|video)>)", re.DOTALL)
SENTENCE_WORDS = 4
PADDED = ("tools", "functions", "tool_calls", "function_call", "arguments", "parameters")
"""Parquet gives every object under these names the keys of all others, as nulls."""


def usable_rows(rows: Iterable[Row | Rejected], is_parquet: bool) -> Iterator[Row | Rejected]:
    """Yield rows, those with media as `Rejected`; from Parquet, without nulls in the definitions and calls of tools."""
    for row in rows:
        if isinstance(row, Row) and (reason := media_reason(row.values)):
            yield Rejected(row.number, reason)
        elif isinstance(row, Row) and is_parquet:
            yield Row(row.number, without_padding(row.values), row.note)
        else:
            yield row


def media_reason(row: JsonObject) -> str:
    """Explain which column contains a picture, sound or a video; "" if none does."""
    for name, value in row.items():
        kind = MEDIA_NAMES.get(str(name).strip().lower())
        if kind and _is_media(value) or _is_file_struct(value):
            return f"`{name}` contains {_WORDS[kind or 'file']}, and only text can be trained on"
    for name, text in _texts(row):
        if "<" in text and (found := MEDIA_MARKS.search(text)):
            return f"`{name}` refers to a picture or sound ({found[0]}), and only text can be trained on"
    return ""


def _is_media(value: Any) -> bool:
    if isinstance(value, str):
        return MEDIA_FILE.search(value) is not None
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


def without_padding(value: Any, is_inside: bool = False) -> Any:
    """Drop nulls inside the definitions, calls and arguments of tools."""
    if isinstance(value, list):
        return [without_padding(item, is_inside) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: inner for name, inner in value.items() if inner is not None or not is_inside}
    return {name: without_padding(inner, is_inside or name in PADDED) for name, inner in kept.items()}


def unread_texts(row: JsonObject, read: Collection[str]) -> int:
    """Return a hash of the sentences and lists in columns that are not read; 0 if there are none."""
    others = [(name, value) for name, value in row.items() if name not in read]
    telling = [(name, repr(value)) for name, value in others if _tells_something(value)]
    return hash(tuple(telling)) if telling else 0


def _tells_something(value: Any) -> bool:
    if isinstance(value, str):
        return len(value.split(maxsplit=SENTENCE_WORDS)) >= SENTENCE_WORDS
    return isinstance(value, (list, dict)) and bool(value)

"""Find chat template markers in a text, and remove those that leaked at its beginning and end.

A marker inside a text may be what the text is about, or two turns in one; it stays, to be looked at.
"""

from __future__ import annotations

import re

_ROLES = "system|user|assistant|model|tool|ipython|human"
# Others may be the author's own, such as <|begin_of_thought|>, and stay.
_KNOWN_MARKS = (
    "im_start|im_end|im_sep|endoftext|end_of_text|begin_of_text|start_header_id|end_header_id|eot_id|eom_id|python_tag"
    "|user|assistant|system|end|pad|bos|eos|endofprompt|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN"
    "|USER_TOKEN|CHATBOT_TOKEN|SYSTEM_TOKEN|start|message|channel|return|call"
)
_MARKER = re.compile(
    rf"""<\|im_start\|>(?:(?:{_ROLES})\b)?\n?|<\|start_header_id\|>(?:{_ROLES})?<\|end_header_id\|>\n*
    |<start_of_turn>(?:(?:{_ROLES})\b)?\n?|<end_of_turn>|<\|(?:{_KNOWN_MARKS})\|>
    |</?s>|\[/?INST\]|<</?SYS>>|^[^\S\n]*(?:\#\#\#[ ](?:Instruction|Input|Response|Human|Assistant):[^\S\n]*)+\n?""",
    re.MULTILINE | re.VERBOSE,
)
_ASKING = re.compile(r"^[^\S\n]*(?:User|Human):[^\S\n]*", re.MULTILINE)
_ANSWERING = re.compile(r"^[^\S\n]*Assistant:[^\S\n]*", re.MULTILINE)
_SENTENCE_ENDS = '.!?…。！？)”»"'
_STRUCK = {"<s>", "</s>"}
"""Inside a text these are a price or a word that is struck through."""


def remove_markers(text: str) -> str:
    """Remove the markers at both ends of a text, with the role they name, unless there are more inside."""
    while (removed := _without_ends(text)) != text:
        text = removed
    return text


def has_inner_marker(text: str) -> bool:
    """Return whether markers, or the names of both sides of a chat, stand inside a text."""
    if not _may_have_one(text):
        return False
    leading, inner, trailing = _markers(text)
    found = {marker.group() for marker in inner}
    if found:
        return not found <= _STRUCK or not all(mark in text for mark in _STRUCK)
    if leading or trailing:
        return remove_markers(text) == text
    return bool(_ASKING.search(text) and _ANSWERING.search(text))


def _may_have_one(text: str) -> bool:
    return "<" in text or "#" in text or "]" in text or "Assistant:" in text


def _without_ends(text: str) -> str:
    if not _may_have_one(text):
        return text
    leading, inner, trailing = _markers(text)
    start = leading[-1].end() if leading else 0
    end = trailing[0].start() if trailing else len(text)
    if inner or not (leading or trailing):
        return text
    is_wrapped = bool(leading and trailing)
    is_leaked = is_wrapped or (_leaks_before(text, start) if leading else _leaks_after(text, end))
    return text[start:end].strip() if is_leaked else text


def _markers(text: str) -> tuple[list[re.Match[str]], list[re.Match[str]], list[re.Match[str]]]:
    """Return the markers at the beginning, inside, and at the end of a text."""
    found = list(_MARKER.finditer(text))
    leading, trailing, start, end = 0, len(found), 0, len(text)
    while leading < len(found) and not text[start : found[leading].start()].strip():
        start, leading = found[leading].end(), leading + 1
    while trailing > leading and not text[found[trailing - 1].end() : end].strip():
        end, trailing = found[trailing - 1].start(), trailing - 1
    return found[:leading], found[leading:trailing], found[trailing:]


def _leaks_before(text: str, start: int) -> bool:
    """Return whether the markers before `start` open a turn, and are not the first words of a sentence."""
    is_heading = text[:start].lstrip().startswith("#")
    return text[start - 1] == "\n" or start == len(text) or not (is_heading or text[start] in " \t")


def _leaks_after(text: str, end: int) -> bool:
    """Return whether the markers from `end` on close a turn, and are not the last words of a sentence."""
    before = text[:end].rstrip(" \t")
    return len(before) == end or before[-1:] in _SENTENCE_ENDS

"""Find suspicious parts of a text and repair them; a repair never changes a text without that fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from html.entities import html5

from ftfy import TextFixerConfig, fix_encoding
from ftfy.badness import is_bad

from sft_app.data.checkup.markers import has_inner_marker, remove_markers

# A check runs on every message of a million rows, so a cheap test for a necessary condition comes first.

_KEEP_LOST_CHARACTERS = TextFixerConfig(replace_lossy_sequences=False)
_WORD = re.compile(r"[^ \n]+")
_C1 = re.compile("[\x80-\x9f]")
# `is_bad` takes 0.3 ms for 1 kB, so it is called only if a character that the first byte of a UTF-8 sequence becomes
# in some 8-bit code page is followed by one that a later byte becomes. Plain Russian or Greek letters do not match.
_MAYBE_BAD = re.compile(
    "[ÂÃ] |[\x80-\u036fΒΓΞΟβ\u0400-\u040fВГРСв\u0450-\u045f‚√\u2500-\u257f]"
    "[\x80-\u038f\u03cf-\u040f\u0450-\u045f\u0490\u0491\u2010-\u25ff\ufb01\ufb02]"
)

# Joiners carry meaning after Arabic and Indic letters and between the parts of an emoji; elsewhere they are noise.
# So do direction marks in a text with letters that are written from right to left.
_JOINING_SCRIPTS = "\u0620-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u17ff\u1800-\u180d"
_EMOJI = "\u2190-\u2bff\ufe0f\u20e3\U0001f000-\U0001faff"
_ASCII_CONTROL = bytes([*range(9), 11, 12, *range(14, 32), 127])
_TERMINAL_COLOUR = r"\x1b\[[0-9;]*[A-Za-z]"
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile(
    f"{_TERMINAL_COLOUR}|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    f"\u2066-\u2069\ufeff]|(?<![{_JOINING_SCRIPTS}])[\u200c\u200d](?!(?<=[{_EMOJI}]\u200d)[{_EMOJI}])"
)

# A whole HTML page is an intended answer, like code in a fence.
_CODE = re.compile(
    r"(```.*?(?:```|\Z)|`[^`\n]+`|(?:<!doctype[ ]html|<html)\b.*?(?:</html\s*>|\Z))", re.DOTALL | re.IGNORECASE
)
# Each pattern stops where the next one of its kind begins; otherwise a text full of openings would take hours.
_TAG = re.compile(
    r"""<!--(?:(?!<!--).)*?-->|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>|<(?P<break>br)\s*/?>[^\S\n]*\n?
    |<(?P<closing>/?)(?P<name>p|div|span|h[1-6]|ul|ol|li|dl|dt|dd|table|thead|tbody|tr|td|th|hr|pre|blockquote|img|strong
    |em|a|b|i|u|q|del|ins|sub|sup|small|big|font|center|code|kbd|tt|head|body|meta|link|form|input|button|select
    |textarea|figure|figcaption|script|style|iframe|svg|video|audio)(?P<attributes>\s+[\w:-]+\s*=[^<>]*)?\s*/?>""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# These are HTML even on their own; <b>, <code> or <link> may be type parameters or placeholders.
_SURELY_HTML = re.compile("p|div|span|h[1-6]|ul|ol|li|table|tr|td|th|hr|img|strong|em|blockquote", re.IGNORECASE)
_BLOCK = re.compile("p|div|h[1-6]|ul|ol|dl|dt|dd|table|tr|hr|pre|blockquote|center|form|figure", re.IGNORECASE)
_CLOSED = re.compile(r"</([a-z]+[1-6]?)\s*>", re.IGNORECASE)
_EMPTY_LINES = re.compile(r"(?<![^\S\n])[^\S\n]*\n(?:[^\S\n]*\n)+")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,30}));")


def suspicious(text: str) -> tuple[str, ...]:
    """List the kinds of fault found, in order: encoding, replacement, control, html, marker, inner_marker.

    If wrong decoding has lost characters, it cannot be undone, so `repair_encoding` leaves the fault visible.
    """
    faults = {
        "encoding": _has_bad_encoding(text),
        "replacement": "\ufffd" in text,
        "control": _has_control(text),
        "html": _strip_html_once(text) != text,
        "marker": remove_markers(text) != text,
        "inner_marker": has_inner_marker(text),
    }
    return tuple(kind for kind, is_found in faults.items() if is_found)


def repair_encoding(text: str) -> str:
    """Repair wrongly decoded text, and remove control and zero-width characters that carry no meaning."""
    return _repeat(_repair_encoding_once, text)


def strip_html(text: str) -> str:
    """Remove tags and decode entities, except in code; line breaks and blocks become newlines.

    Escaped markup (`&lt;p&gt;`) is treated as HTML that was escaped twice, and is removed too.
    """
    return _repeat(_strip_html_once, text)


def _repeat(repair: Callable[[str], str], text: str) -> str:
    """Repair until nothing changes, because a removed part may have separated the halves of another fault."""
    while (repaired := repair(text)) != text:
        text = repaired
    return text


def _has_bad_encoding(text: str) -> bool:
    return not text.isascii() and bool(_C1.search(text) or (_MAYBE_BAD.search(text) and is_bad(text)))


def _has_control(text: str) -> bool:
    if text.isascii():
        return len(text.encode().translate(None, _ASCII_CONTROL)) < len(text)
    return not text.replace("\n", "").isprintable() and _without_controls(text) != text


def _repair_encoding_once(text: str) -> str:
    if _has_bad_encoding(text):
        text = _decode(text)
        if is_bad(text):  # good and bad characters are mixed, so the text cannot be decoded as a whole
            text = _WORD.sub(lambda word: _decode(word.group()), text)
        text = _C1.sub("", text)
    return _without_controls(text) if _has_control(text) else text


def _without_controls(text: str) -> str:
    keeps_direction = _RIGHT_TO_LEFT.search(text) is not None

    def replaced(control: re.Match[str]) -> str:
        is_kept = keeps_direction and _DIRECTION.fullmatch(control.group())
        return control.group() if is_kept else _line_end_or_nothing(control)

    return _CONTROL.sub(replaced, text)


def _decode(text: str) -> str:
    decoded: str = fix_encoding(text, _KEEP_LOST_CHARACTERS)
    return decoded


def _line_end_or_nothing(control: re.Match[str]) -> str:
    """Replace form feeds and vertical tabs, which separated lines, with newlines, and remove other characters."""
    return "\n" if control.group() in "\f\v" else ""


def _strip_html_once(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    pieces = _CODE.split(text)  # code is at the odd indexes
    closed = {name.lower() for piece in pieces[::2] for name in _CLOSED.findall(piece)}
    plain = [_strip_piece(piece, closed) for piece in pieces[::2]]
    if plain == pieces[::2]:
        return text
    pieces[::2] = [_EMPTY_LINES.sub("\n\n", piece) for piece in plain]
    return "".join(pieces).strip()


def _strip_piece(text: str, closed: set[str]) -> str:
    return _ENTITY.sub(_decode_entity, _TAG.sub(lambda tag: _replace_tag(tag, closed), text))


def _replace_tag(tag: re.Match[str], closed: set[str]) -> str:
    if tag["break"]:
        return "\n"
    name = (tag["name"] or "").lower()
    if name and not (tag["attributes"] or name in closed or _SURELY_HTML.fullmatch(name)):
        return tag.group()
    if _BLOCK.fullmatch(name) or (name == "li" and not tag["closing"]):
        return "\n"
    return " " if name in ("td", "th") and tag["closing"] else ""


def _decode_entity(entity: re.Match[str]) -> str:
    if entity[1] and f"{entity[1]};" not in html5:
        return entity.group()
    return unescape(entity.group()).replace("\xa0", " ")

"""Find e-mail addresses, phone numbers, card numbers and access keys in a text, and mask them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_EMAIL = re.compile(
    r"(?<![\w.+@-])[\w.+-]{1,64}@(?!example\.(?:com|net|org)\b)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"
)
_KEY_SIGNS = ("_", "sk-", "AKIA", "xox", "KEY-", "earer ")
# `Bearer` may precede anything, so only long values count; the other patterns identify themselves.
_KEY = re.compile(
    r"""-----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----|\Z)
    |(?<![\w-])(?:sk-(?=[A-Za-z_-]*\d)[\w-]{20,}|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|hf_[A-Za-z0-9]{30,}
    |AKIA[0-9A-Z]{16}|xox[abeoprs]-[A-Za-z0-9-]{10,})
    |(?<=[Bb]earer[ ])(?=[A-Za-z._~+/-]*\d)[\w.~+/-]{24,}=*""",
    re.DOTALL | re.VERBOSE,
)
_DIGITS_AS_ZERO = bytes(ord("0" if 48 <= byte <= 57 else "x") for byte in range(256))
_CARD = re.compile(r"(?<![\w.,-])(?:(?:\d{4}[ -]?){3}\d{1,7}|3\d{3}[ -]?\d{6}[ -]?\d{4,5})(?!\w|[.,-]\d)")
# International numbers; North American ones with brackets, hyphens or dots; European ones with a leading 0, in groups.
# Other long numbers are mostly order numbers, so they are left alone.
_PHONE = re.compile(
    r"""(?<![\w.,\#/=$€£+-])(?<!\d[ ])(?:
    \+[1-9]\d{0,2}(?:[ -]?\(0\))?[ -]?\(?\d{1,5}\)?(?:[ /-]?\d{2,8}){1,5}
    |(?:1[ .-])?\(\d{3}\)[ ]?\d{3}[ .-]\d{4}|(?:1-)?\d{3}-\d{3}-\d{4}|(?:1\.)?\d{3}\.\d{3}\.\d{4}
    |\(0[1-9]\d{1,3}\)[ ]?\d{2,4}(?:[ -]?\d{2,5}){1,2}
    |(?:0[1-9]\d{1,4}[ /-]\d{5,8}|0[1-9]\d{1,3}[ -]\d{3,4}[ -]\d{3,4}|0[1-9](?:[ ]\d\d){4})(?![ ]?\d)
    )(?!\w|[.,/-]\d)""",
    re.VERBOSE,
)

KINDS = {
    "personal_email": "[email]",
    "personal_phone": "[phone]",
    "personal_card": "[card number]",
    "personal_key": "[key]",
}
"""The kinds of personal data, and what replaces each."""
_Keeps = Callable[[str, str], bool]
"""Tells whether a value of a kind stays as it is."""


def personal_kinds(text: str) -> tuple[str, ...]:
    """List the kinds of personal data that are found."""
    kinds = {kind for kind, _ in personal_values(text)}
    return tuple(kind for kind in KINDS if kind in kinds)


def personal_values(text: str) -> list[tuple[str, str]]:
    """List what looks like personal data as (kind, value); a value is the same however it is capitalised or spaced."""
    found: list[tuple[str, str]] = []

    def note(kind: str, value: str) -> bool:
        found.append((kind, value))
        return False

    _mask(text, note)
    return found


def mask_personal_data(text: str, kept: Collection[str] = ()) -> str:
    """Replace what looks like personal data, apart from the kinds and values (of `personal_values`) in `kept`."""

    def keeps(kind: str, value: str) -> bool:
        return kind in kept or value in kept

    while (masked := _mask(text, keeps)) != text:  # a mask may separate the halves of something else
        text = masked
    return text


def _mask(text: str, keeps: _Keeps) -> str:
    if any(sign in text for sign in _KEY_SIGNS):
        text = _KEY.sub(lambda match: _masked("personal_key", match.group(), keeps), text)
    if "@" in text:
        text = _EMAIL.sub(lambda match: _masked("personal_email", match.group(), keeps), text)
    if _has_long_number(text):
        text = _CARD.sub(lambda match: _mask_card(match.group(), keeps), text)
        text = _PHONE.sub(lambda match: _mask_phone(match.group(), keeps), text)
    return text


def _masked(kind: str, text: str, keeps: _Keeps) -> str:
    is_number = kind in ("personal_phone", "personal_card")
    value = re.sub(r"\D", "", text) if is_number else text.lower() if kind == "personal_email" else text
    return text if keeps(kind, value) else KINDS[kind]


def _has_long_number(text: str) -> bool:
    """Return whether the text has nine digits with only separators between them; ten times as fast as a regex."""
    return b"000000000" in text.encode(errors="ignore").translate(_DIGITS_AS_ZERO, b" ()./-")


def _mask_phone(text: str, keeps: _Keeps) -> str:
    digits = sum(character.isdigit() for character in text)
    return _masked("personal_phone", text, keeps) if 9 <= digits <= 15 else text


def _mask_card(text: str, keeps: _Keeps) -> str:
    digits = [int(character) for character in text if character.isdigit()]
    is_card = digits[0] in (2, 3, 4, 5, 6) and _passes_luhn(digits)
    return _masked("personal_card", text, keeps) if is_card else text


def _passes_luhn(digits: list[int]) -> bool:
    """Check the Luhn digit of a card number. Source: ISO/IEC 7812-1, annex B."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0

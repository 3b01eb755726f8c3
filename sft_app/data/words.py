"""Split texts into words in any script: one way for metrics, checks, differences and what is memorised.

Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces between words. Each of their characters, with its marks,
counts as a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

CHARACTERS_PER_WORD = 2
"""About as many characters of a script without spaces say as much as a word."""
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ"
_CHARACTER = rf"[[{_SCRIPTS}]&&\w&&\P{{M}}]"
_WORD = regex.compile(rf"(?V1){_CHARACTER}\p{{M}}*|[\w--{_CHARACTER}--\p{{M}}][\w--{_CHARACTER}]*")
_PIECE = regex.compile(rf"(?V1)\s*(?:{_CHARACTER}\p{{M}}*|[^\s{_CHARACTER}]+)|\s+$")
_UNSPACED = regex.compile(rf"(?V1){_CHARACTER}")
_SPOKEN = regex.compile(r"[\w--\p{M}]", regex.V1)


def words_of(text: str) -> list[str]:
    """Return the words without case and punctuation, such as `don` and `t` in “Don’t”."""
    found: list[str] = _WORD.findall(text.lower())
    return found


def pieces_of(text: str) -> list[str]:
    """Split a text into words as they are written, with punctuation and the white space before; joined, they are it."""
    found: list[str] = _PIECE.findall(text)
    return found


def count_words(text: str) -> int:
    """Count words as a word processor does: what white space separates, and each character of scripts without it."""
    parts = (sum(_SPOKEN.search(piece) is not None for piece in pieces_of(part)) for part in text.split())
    return sum(max(1, count) for count in parts)


def is_unspaced(words: Sequence[str]) -> bool:
    """Return whether most of these words are characters of scripts without spaces."""
    return 2 * sum(_UNSPACED.match(word) is not None for word in words) > len(words)


def as_long_as(count: int, words: Sequence[str]) -> int:
    """Return how many of such words say as much as `count` words of a script with spaces."""
    return count * CHARACTERS_PER_WORD if is_unspaced(words) else count

"""Describe what the columns of a table hold, from their cells alone, never from their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sft_app.data.rows import JsonObject

Rows = Sequence[JsonObject]
ColumnKind = Literal["nested", "sparse", "constant", "identifier", "category", "name", "label", "phrase", "prose"]
"""In order: lists or objects; mostly empty or not text; the same text in all rows; ids, numbers, dates or addresses;
a few repeated texts; names of people; a word or two; a few words; sentences. Only the last four can be a question or
an answer, and later kinds are more likely."""


def word_set(words: str) -> frozenset[str]:
    """Split a list of words at its spaces."""
    return frozenset(words.split())


ENOUGH_ROWS = 5
"""With at least this many rows, a column whose cells are all the same counts as constant."""
FILLED = 0.6
MOST = 0.8
"""The share of cells that decides what a column holds."""
ID_LENGTH = 64
"""Longer texts count as text, whatever they look like."""
PHRASE_WORDS = 3
PROSE_WORDS = 8
NAME_WORDS = 4
ID = re.compile(r"[\d\W_]*|[!-~]*\d[!-~]*|\S+@\S+|\w+://\S+")
"""Numbers and dates; single words with a digit; e-mail and web addresses."""
SENTENCE = re.compile(r"[.!?…;:](?=\s|[\"'”’»)]|$)|[。！？؟।]|,\s|\n")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Scripts without spaces between words, in which a word has about two characters."""
WORD = re.compile(r"[^\W\d_]+")
TIME_WORDS = word_set(
    "jan feb mar mae apr avr abr may mai mag maj mei jun jui giu jul lug aug aou ago sep set okt oct ott out nov "
    "dec dez dic mon tue wed thu fri sat sun mo di mi do fr sa so die mit don fre sam son lun mer jeu ven dim mie "
    "jue vie sab dom seg ter qua qui sex am pm utc gmt est cet uhr de of um at le el um t z"
)
"""The first three letters of months and days in several languages, and other words found in dates."""
PARTICLES = {"von", "van", "de", "der", "den", "la", "le", "di", "da", "del", "al", "el", "bin", "y", "und", "and"}


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds in the first rows.

    `filled` is the share of rows with text; `words` and `length` (in characters) are means per text; `distinct` is
    the number of different texts; `asking` is the share of texts that end in a question mark.
    """

    name: str
    kind: ColumnKind
    filled: float
    length: float
    words: float
    distinct: int
    asking: float

    def is_text(self) -> bool:
        """Return whether the column could be a question or an answer."""
        return self.kind in ("name", "label", "phrase", "prose")

    def is_short(self) -> bool:
        """Return whether the column could hold short answers: words, numbers, or a few words that are repeated."""
        return self.is_text() or self.kind == "identifier" or self.kind == "category" and self.words < PHRASE_WORDS

    def is_prose(self) -> bool:
        """Return whether the column holds sentences or phrases."""
        return self.kind in ("phrase", "prose")


def profile_columns(rows: Rows) -> list[ColumnProfile]:
    """Profile each column, in the order of the file."""
    names = list_columns(rows)
    cells = {name: _texts(name, rows) for name in names}
    telling = [name for name in names if cells[name] and not _are_identifiers(cells[name])]
    different = len({tuple(str(row.get(name)) for name in telling) for row in rows})
    return [_profile(name, rows, cells[name], different) for name in names]


def profile_joined(names: Sequence[str], rows: Rows) -> ColumnProfile:
    """Profile columns that together make up one text, such as an instruction and its input."""
    joined = " ".join(names)
    texts = [" ".join(row[name] for name in names if isinstance(row.get(name), str)) for row in rows]
    others = list_columns(rows)
    return next(
        column
        for column in profile_columns(
            [{**{name: row.get(name) for name in others}, joined: text} for row, text in zip(rows, texts, strict=True)]
        )
        if column.name == joined
    )


def spell_numbers(rows: Rows, names: Sequence[str]) -> Rows:
    """Return the rows with the numbers in some columns as text, as the layout of chosen columns reads them."""
    return [{**row, **{name: str(row[name]) for name in names if is_number(row.get(name))}} for row in rows]


def is_number(value: object) -> bool:
    """Return whether a value is a number, and neither true, false nor NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def list_columns(rows: Rows) -> list[str]:
    """List the columns that occur in any row, each once, in the order of the file."""
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def _texts(name: str, rows: Rows) -> list[str]:
    return [row[name].strip() for row in rows if isinstance(row.get(name), str) and row[name].strip()]


def _profile(name: str, rows: Rows, texts: list[str], different: int) -> ColumnProfile:
    count = max(len(texts), 1)
    return ColumnProfile(
        name=name,
        kind=_kind(name, rows, texts, different),
        filled=len(texts) / len(rows),
        length=sum(map(len, texts)) / count,
        words=sum(map(_count_words, texts)) / count,
        distinct=len(set(texts)),
        asking=_share(texts, lambda text: text.endswith(("?", "？", "؟"))),
    )


def _kind(name: str, rows: Rows, texts: list[str], different: int) -> ColumnKind:
    if sum(isinstance(row.get(name), (list, dict)) for row in rows) >= 0.5 * len(rows):
        return "nested"
    if len(texts) == len(rows) >= ENOUGH_ROWS and len(set(texts)) == 1:
        return "constant"
    if len(texts) < FILLED * len(rows):
        return "sparse"
    if _are_identifiers(texts):
        return "identifier"
    words = sum(map(_count_words, texts)) / len(texts)
    sentences = _share(texts, lambda text: bool(SENTENCE.search(text)))
    if _are_few(len(set(texts)), different, is_short=words < PHRASE_WORDS or sentences < 0.3):
        return "category"
    if _share(texts, looks_like_a_name) >= MOST:
        return "name"
    if words >= PROSE_WORDS or sentences >= 0.3:
        return "prose"
    return "phrase" if words >= PHRASE_WORDS else "label"


def _are_few(distinct: int, different: int, is_short: bool) -> bool:
    """Return whether a column repeats a few texts; False for few rows. `different` is the number of distinct rows."""
    if different < ENOUGH_ROWS:
        return False
    return distinct <= (0.5 * different if is_short else max(2.0, 0.1 * different))


def _are_identifiers(texts: list[str]) -> bool:
    return bool(texts) and _share(texts, _looks_like_an_identifier) >= 0.95


def _looks_like_an_identifier(text: str) -> bool:
    return len(text) <= ID_LENGTH and (ID.fullmatch(text) is not None or looks_like_a_date(text))


def looks_like_a_date(text: str) -> bool:
    """Return whether a text consists of digits and words for months, days and times."""
    words = WORD.findall(normalize(text))
    return any(map(str.isdigit, text)) and len(words) <= 6 and all(word[:3] in TIME_WORDS for word in words)


def looks_like_a_name(text: str) -> bool:
    """Return whether a text may be a person's name, such as `Orla`, `Dr. A. van Dyke` or `ORLA S.`, but not `Yes.`"""
    words = [word for word in re.split(r"[\s,/&]+", text) if word]
    if not words or len(words) > NAME_WORDS or re.search(r"[!?:;\d]|[^\W\d_]{3,}[.]$", text):
        return False
    return words[0][0].isupper() and all(word[0].isupper() or word in PARTICLES for word in words)


def _count_words(text: str) -> int:
    return len(text.split()) + len(UNSPACED.findall(text)) // 2


def _share(texts: Sequence[str], fits: Callable[[str], bool]) -> float:
    return sum(map(fits, texts)) / max(len(texts), 1)


def normalize(name: str) -> str:
    """Return a name or text in lower case and without accents."""
    spelt_out = unicodedata.normalize("NFKD", name.strip().lower())
    return "".join(letter for letter in spelt_out if not unicodedata.combining(letter))

"""Find out the encoding of text, and pass it on as UTF-8; text whose encoding is uncertain is refused by name."""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sft_app.data.sources.lines import UnreadableFileError, take_head

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

_BOMS = {  # UTF-32 first, because its little-endian mark starts with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_NAMES = {
    "gb18030": "GB18030 (GBK)",
    "big5": "Big5",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "cp949": "CP949 (EUC-KR)",
    "cp1251": "Windows-1251",
    "koi8_r": "KOI8-R",
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
}
_WESTERN = "cp1252"
_OLD_WESTERN = {"mac_roman": "Mac Roman, which Excel for Mac writes", "cp850": "CP850, which DOS programs write"}
LEAST_FIT = 0.93
"""How much of the letters must fit one language for text to be called one of the old encodings."""
_CERTAIN = {"gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1251", "koi8_r", "cp1253", "cp1256"}
"""Those that are read if no other comes close; the rest differ from Windows-1252 in a few letters only."""
SAMPLE_BYTES = 2**14
MOST_DISORDER, LEAST_LEAD = 0.05, 0.05
"""Shares of implausible characters, as charset-normalizer measures them (`chaos`)."""
LEAST_COHERENCE_LEAD = 0.2
_SAVE = "save the file again as UTF-8 (in Excel: “CSV UTF-8”)"


def as_utf8(blocks: Iterator[bytes], notes: list[str]) -> Iterator[bytes]:
    """Convert text to UTF-8 without a byte order mark, and add a note if its encoding had to be guessed.

    UTF-8 and Windows-1252 are passed on unchanged, because they are decoded line by line (`lines.decode_line`).

    Raises:
        UnreadableFileError: the text is not in the encoding that its mark names, or its encoding is uncertain.
    """
    head, blocks = take_head(blocks)
    for bom, encoding in _BOMS.items():
        if head.startswith(bom):
            first = next(blocks)[len(bom) :]
            blocks = itertools.chain([first], blocks)
            return blocks if encoding == "utf-8" else _convert(blocks, encoding)
    if encoding := _utf16_without_mark(head):
        notes.append("The file is read as UTF-16; it has no byte order mark.")
        return _convert(blocks, encoding)
    return _as_guessed(blocks, notes)


def _as_guessed(blocks: Iterator[bytes], notes: list[str]) -> Iterator[bytes]:
    """Pass on UTF-8. At the first block with anything else, decide on the encoding of the whole file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_first, has_letters = True, False
    for block in blocks:
        try:
            has_letters = not decoder.decode(block).isascii() or has_letters
        except UnicodeDecodeError:
            encoding = "" if has_letters or _is_damaged_utf8(block) else guess_encoding(block)
            if encoding and not is_first:
                raise UnreadableFileError(
                    f"the text from here on looks like {_NAMES[encoding]}, not UTF-8; {_SAVE}"
                ) from None
            rest: Iterator[bytes] = itertools.chain([block], blocks)
            if encoding:
                notes.append(f"The file is not UTF-8; it is read as {_NAMES[encoding]}. Check the letters.")
                rest = _convert(rest, encoding)
            yield from rest
            return
        yield block
        is_first = False


def guess_encoding(text: bytes) -> str:
    """Return the encoding of text that is not UTF-8; "" for Windows-1252, which is decoded line by line.

    Raises:
        UnreadableFileError: several encodings are plausible, or it would be read as one that is easily confused.
    """
    from charset_normalizer import from_bytes

    lines = [line for line in text.split(b"\n") if not line.isascii()]
    sample = _whole_lines(lines)
    if old := next((name for name in _OLD_WESTERN if _is_old_western(sample, name)), ""):
        raise UnreadableFileError(f"the text is not UTF-8; it is probably {_OLD_WESTERN[old]}; {_SAVE}")
    if by_letters := next((name for name in _LETTERS_OF if name != _WESTERN and _is_written_in(sample, name)), ""):
        return by_letters
    if _is_western(sample):
        return ""
    if japanese := next((name for name in ("cp932", "euc_jp") if _is_japanese(sample, name)), ""):
        return japanese
    found = [
        match
        for match in from_bytes(sample, cp_isolation=list(_NAMES), preemptive_behaviour=False, enable_fallback=False)
        if match.encoding in _NAMES
    ]
    if not found:
        return ""
    best, others = found[0], [match for match in found[1:] if _is_close(match, found[0])]
    if best.encoding == _WESTERN or any(match.encoding == _WESTERN for match in others if match.chaos <= best.chaos):
        return ""
    if sample.decode(best.encoding, "replace") == sample.decode(_WESTERN, "replace"):
        return ""
    if best.encoding in _CERTAIN and not others and best.chaos < (MOST_DISORDER if found[1:] else 2 * MOST_DISORDER):
        return best.encoding
    names = " or ".join(_NAMES[match.encoding] for match in [best, *others][:2])
    raise UnreadableFileError(f"the text is not UTF-8; it is probably {names}; {_SAVE}")


def _is_close(match: CharsetMatch, best: CharsetMatch) -> bool:
    """Return whether a match is nearly as plausible as the best one, in its characters and its language."""
    lead = LEAST_COHERENCE_LEAD if best.encoding in _CERTAIN else LEAST_COHERENCE_LEAD / 4
    return match.chaos < best.chaos + LEAST_LEAD and match.coherence > best.coherence - lead


def _is_japanese(sample: bytes, encoding: str) -> bool:
    """Return whether much of the text would be hiragana and katakana, which other texts decode to only by chance."""
    if not _decodes(sample, encoding):
        return False
    letters = [character for character in sample.decode(encoding) if not character.isascii()]
    return sum("\u3041" <= character <= "\u30ff" for character in letters) > len(letters) / 4


def _whole_lines(lines: list[bytes]) -> bytes:
    """Join whole lines, because a cut character would make every multi-byte encoding implausible."""
    sizes = list(itertools.accumulate(len(line) + 1 for line in lines))
    return b"\n".join(line for line, size in zip(lines, sizes, strict=True) if size <= SAMPLE_BYTES) or lines[0]


_LONG_RUN = re.compile(rb"[\xc0-\xff]{3}|[\x80-\xff]{6}")
_RUN = re.compile(rb"[\x80-\xff]+")
_SYMBOL_IN_WORD = re.compile(rb"[A-Za-z][\x81-\x91\x93-\x9b\x9d-\xac\xae-\xb6\xb8-\xbf][A-Za-z]")
_EASTERN_LETTERS = set(b"\xf0\xfe\xfd\xdd\xde\xd0")


def _is_western(sample: bytes) -> bool:
    """Return whether accented letters stand alone among plain ones, as they do in western European languages."""
    return (
        not _LONG_RUN.search(sample)
        and len(_RUN.findall(sample)) <= sum(byte < 128 for byte in sample) / 4
        and not _SYMBOL_IN_WORD.search(sample)
        and not _EASTERN_LETTERS & set(sample)
        and _decodes(sample, _WESTERN)
    )


_PUNCTUATION = "„“”’‘–—…€«»°¿¡\u00a0"
_CAPITAL_IN_WORD = re.compile(r"[a-z][ÀÂÆÇÈÉÊËÎÏÔŒÙÛÜŸÌÍÒÓÚÑÃÁÕÄÖÅØÝŠŽÐÞ]")
_LETTERS_OF = {
    _WESTERN: (
        *("àâæçéèêëîïôœùûüÿ", "àèéìíîòóùú", "áéíñóúüªº", "ãáâàçéêíóôõúüªº", "äöüß", "åäöæøéèêóòôáíúýü", "éèëïöüáóíúê"),
        *("äöõüšž", "àçèéíïòóúü·", "áéíóúýðþæö"),
    ),
    "cp1250": ("áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ąćęłńóśźż", "ăâîşţ"),
    "cp1254": ("çğıöşüâîû\u0307",),  # the lower case of İ is i with a dot above
}
"""The letters beyond ASCII of the languages that are written in each encoding."""


def _is_written_in(sample: bytes, encoding: str) -> bool:
    """Return whether the letters are those of one language of this encoding, and of no western one."""
    return _best_share(sample, encoding) >= 0.97 and _best_share(sample, _WESTERN) < 0.9


def _best_share(sample: bytes, encoding: str) -> float:
    """Return the largest share of the letters beyond ASCII that belong to one of the encoding's languages."""
    letters = [
        one for one in sample.decode(encoding, "replace").lower() if not one.isascii() and one not in _PUNCTUATION
    ]
    return max(sum(one in known for one in letters) for known in _LETTERS_OF[encoding]) / max(1, len(letters))


def _is_old_western(sample: bytes, encoding: str) -> bool:
    """Return whether the letters fit a western language in this encoding, and do not in any similar one."""
    others = [_fit(sample, name) for name in (_WESTERN, *_OLD_WESTERN) if name != encoding]
    return _fit(sample, encoding) >= max(LEAST_FIT, *(other + 0.1 for other in others))


def _fit(sample: bytes, encoding: str) -> float:
    """Return the share of the letters beyond ASCII that fit one western language, without capitals inside of words."""
    text = sample.decode(encoding, "replace")
    letters = [one for one in text if not one.isascii() and one not in _PUNCTUATION]
    odd = len(_CAPITAL_IN_WORD.findall(text)) / max(1, len(letters))
    known = max(sum(one in group for one in map(str.lower, letters)) for group in _LETTERS_OF[_WESTERN])
    return known / max(1, len(letters)) - odd


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_damaged_utf8(block: bytes) -> bool:
    """Return whether most bytes beyond ASCII are part of UTF-8 characters."""
    beyond = sum(byte >= 128 for byte in block)
    valid = len(re.sub(r"[\0-\x7f]", "", block.decode(errors="ignore")).encode())
    return valid > beyond / 2


def _utf16_without_mark(head: bytes) -> str:
    """Return the byte order of UTF-16: that in which spaces, line ends, digits and commas are common."""
    sample = head[:4096]
    if b"\0" not in sample or len(sample) < 8:
        return ""
    common = {encoding: _count_common(sample, encoding) for encoding in ("utf-16-le", "utf-16-be")}
    best = max(common, key=lambda encoding: common[encoding])
    other = min(common.values())
    return best if common[best] >= max(2, len(sample) / 100) and common[best] > 10 * other else ""


def _count_common(sample: bytes, encoding: str) -> int:
    text = sample[: len(sample) // 2 * 2].decode(encoding, "replace")
    return 0 if "\0" in text else sum(text.count(character) for character in ' \r\n\t,;:"0123456789')


def _convert(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Decode blocks; text before a fault is passed on first."""
    decoder = codecs.getincrementaldecoder(encoding)()
    name = _NAMES.get(encoding, encoding[:6].upper())
    claim = "it claims to be" if encoding.startswith("utf") else "it seemed to be"
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        yield error.object[: error.start].decode(encoding).encode()
        raise UnreadableFileError(f"the text is not the {name} {claim}; save the file again as UTF-8") from error

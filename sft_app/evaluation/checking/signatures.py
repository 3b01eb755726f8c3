"""Find out whether a text is signed with a name: the name ends it, and is neither greeted nor part of a sentence.

Texts and names are compared as they come; `answer_checks.plain` gives the form without case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sft_app.data.words import as_long_as, count_words, words_of

LINES = 3
"""A signature is in the last lines: a name, and below it a role or company."""
TITLE_WORDS = 6
_GAP = "{0,40}"
"""How much may be between the parts of a pattern: without a limit, a line of 30,000 dots takes minutes."""
_CLOSINGS = (
    "regards wishes sincerely faithfully truly respectfully cordially yours signed grüsse grüssen gruss gruessen "
    "hochachtungsvoll cordialement amicalement salutations saludos saludo atentamente cordialmente saluti cumprimentos "
    "atenciosamente abraços groeten groet pozdrawiam pozdrowieniami hälsningar hälsning hilsen terveisin pozdravem "
    "pozdravom уважением пожеланиями saygılarımla saygılar trọng"
)
_UNSPACED_CLOSINGS = (
    "お願いします お願いいたします お願い致します ありがとうございます ありがとうございました 敬具 此致 敬礼 祝好"
)
_BEFORE_COMMA = (
    "thanks|many thanks|thanks again|cheers|best|all the best|love|warmly|kindly|take care|merci|gracias|danke"
)
_NOT_BEFORE_COMMA = "hello|hi|hey|dear|welcome|good|yes|no|sure|sorry|okay|ok|please|well|right|of course"
_SENTENCE_END = r"(?:(?<!\bmr)(?<!\bmrs)(?<!\bms)(?<!\bdr)(?<!\bst)\.|[!?…。！？])"
_FULL_STOP = re.compile(rf"[.!?…。！？]\W{_GAP}$")
_POSTSCRIPT = re.compile(r"p\.? ?s\b")


def is_signed(name: str, lines: Sequence[str]) -> bool:
    """Return whether the last lines end with the name. `name` and `lines` are in lower case.

    It counts after a sentence, a dash or a closing such as "regards", and on a line of its own below other text.
    """
    said = [bare for line in lines if (bare := _unmarked(line))]
    alone, after = _patterns(re.escape(_unmarked(name).strip(" ,.-")))
    for place in range(max(0, len(said) - LINES), len(said)):
        line, below = said[place], said[place + 1 :]
        is_alone = place > 0 and alone.search(line) is not None and not (below and line.endswith((",", "，")))
        if (is_alone or after.search(line)) and all(map(_is_title, below)):
            return True
    return False


def _patterns(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the pattern of a line of its own below other text, and of a signature after other words."""
    ended = rf"{name}(?![\w-])[^\w?？]{_GAP}$"
    titled = rf"{name}(?:\s*[,，|(（–—/]|\s+-\s)[^.!?。！？]{{1,60}}$"
    closings = rf"(?:\b(?:{_CLOSINGS.replace(' ', '|')})|{_UNSPACED_CLOSINGS.replace(' ', '|')})\W{{0,3}}"
    before_comma = rf"(?:^|{_SENTENCE_END}\W{_GAP})(?:{_BEFORE_COMMA})\s*[,，、–—-]\s*"
    word = rf"[\w'][\w']{_GAP}"
    short_clause = rf"{_SENTENCE_END}\W\W{_GAP}(?!(?:{_NOT_BEFORE_COMMA})\b)(?:{word}\s\s{_GAP}){{0,2}}{word}[,，、]\s*"
    after = (
        rf"{_SENTENCE_END}\W{_GAP}{ended}|\w\W{_GAP}\s[–—~-]+\s*{ended}|{closings}(?:{ended}|{titled})|"
        rf"{before_comma}{ended}"
    )
    return (
        re.compile(rf"^\W*(?:{ended}|{titled})"),
        re.compile(rf"{after}|{short_clause}{name}(?![\w-])[^\w?？!！]{_GAP}$"),
    )


def _unmarked(line: str) -> str:
    return re.sub(r"[*_`]", "", line).strip()


def _is_title(line: str) -> bool:
    """Return whether a line may follow a name: a role, company or address, but not a sentence; or a postscript."""
    longest = TITLE_WORDS if not _FULL_STOP.search(line) else TITLE_WORDS // 3
    return count_words(line) <= as_long_as(longest, words_of(line)) or _POSTSCRIPT.match(line) is not None

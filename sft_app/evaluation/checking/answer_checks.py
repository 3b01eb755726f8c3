"""Judge an answer by rules that need no other model: each function returns a sentence if it fails, "" if it passes.

Comparisons of words ignore case, the form of quotation marks, and how the text is broken into lines.
"""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from typing import Any

from sft_app.data.checkup.finding import count_of
from sft_app.data.checkup.language_words import LANGUAGE_NAMES
from sft_app.data.words import as_long_as, count_words, is_unspaced, words_of
from sft_app.evaluation.answer_metrics import REPEATED_WORDS, repetition
from sft_app.evaluation.checking.patterns import is_found
from sft_app.evaluation.checking.signatures import is_signed

REGEX_SECONDS = 1.0
REPETITION_LIMIT = 0.2
"""The largest share of repeated 4-grams of an answer that does not repeat itself."""
SENTENCE_WORDS = 3
"""Shorter sentences, such as "Thank you.", may occur twice."""
LANGUAGE_MARGIN = 10.0
"""How far the log-likelihood of a language must be ahead of any other."""
CLEAR_LETTERS = 40
"""From this number of letters on, the most likely language counts even if a related one is close."""
UNSPACED_NOTE = " (each character of a script without spaces counts as one)"
SHOWN = 60

_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})
_QUOTE_MARKS = " \"'‚‹›「」『』"
_PAIRS = ("()", "[]", "{}", "（）", "【】", "《》", "**", "__", "``")
_ENDS = ".!。！．｡"
_QUESTION = re.compile(r"[？؟‽⁇⁈⁉՞፧\u037e]|\?(?![A-Za-z0-9_%&=#/]|\.[A-Za-z0-9])|(?<=[\u0370-\u03ff\u1f00-\u1fff]{2});")
"""A question mark of any script, but not one inside an address. A semicolon is one only after Greek letters."""
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|(?<=[。！？])|\n+")
_DIALECTS = {"nb": "no", "nn": "no", "wuu": "zh", "yue": "zh", "ary": "ar", "arz": "ar"}


def contains(wanted: str, text: str, finished: bool) -> str:
    return "" if plain(wanted) in plain(text) else f"The answer does not contain {quoted(wanted)}."


def contains_any(wanted: tuple[str, ...], text: str, finished: bool) -> str:
    if any(plain(one) in plain(text) for one in wanted):
        return ""
    return f"The answer contains none of {', '.join(map(quoted, wanted))}."


def contains_none(unwanted: tuple[str, ...], text: str, finished: bool) -> str:
    found = [quoted(one) for one in unwanted if plain(one) in plain(text)]
    return f"The answer contains {' and '.join(found)}, which it must not." if found else ""


def matches(pattern: str, text: str, finished: bool) -> str:
    """Search for a pattern. It is stopped after a second, as some patterns take years on an unlucky text."""
    try:
        found = is_found(pattern, text, REGEX_SECONDS)
    except TimeoutError:
        return (
            f"The regular expression {quoted(pattern)} took more than {REGEX_SECONDS:.0f} s on this answer and was "
            "stopped. Simplify it: repetitions inside repetitions, such as (a|aa)+, are the usual cause."
        )
    except MemoryError:
        return f"The regular expression {quoted(pattern)} ran out of memory on this answer. Simplify it."
    return "" if found else f"The answer does not match the regular expression {quoted(pattern)}."


def has_words(limits: tuple[int, int | None], text: str, finished: bool) -> str:
    note = UNSPACED_NOTE if is_unspaced(words_of(text)) else ""
    return _in_range(count_words(text), limits, "word", note)


def has_characters(limits: tuple[int, int | None], text: str, finished: bool) -> str:
    return _in_range(len(text.strip()), limits, "character")


def has_ended(_: bool, text: str, finished: bool) -> str:
    return "" if finished else "The answer was cut off at the length limit: the model did not end it."


def asks_question(wanted: bool, text: str, finished: bool) -> str:
    asks = _QUESTION.search(text) is not None
    if asks == wanted:
        return ""
    missing = "The answer asks no question: nothing in it ends with a question mark."
    return missing if wanted else "The answer asks a question, which it must not."


def is_in_language(wanted: str, text: str, finished: bool) -> str:
    """Identify the language; a text that is too short or could be in either of two fails, with that reason."""
    from py3langid import rank

    found = [(_DIALECTS.get(language, language), float(likelihood)) for language, likelihood in rank(text)]
    (first, likelihood), wanted = found[0], _DIALECTS.get(wanted, wanted)
    margin = likelihood - next(other for language, other in found if language != first)
    letters = sum(map(str.isalpha, text))
    if margin > LANGUAGE_MARGIN or (first == wanted and letters >= CLEAR_LETTERS and margin > 0):
        name = language_name(wanted)
        return "" if first == wanted else f"The answer is in {language_name(first)}, not in {name}."
    reason = "is too short to tell its language" if letters < CLEAR_LETTERS else "could be in one of several languages"
    return f"The answer {reason}, so it is not certain that it is in {language_name(wanted)}."


def equals(wanted: str, text: str, finished: bool) -> str:
    if _bare(wanted) == _bare(text):
        return ""
    return f"The answer is {quoted(text)}, not {quoted(wanted)}."


def has_no_repetition(limit: float, text: str, finished: bool) -> str:
    seen: set[str] = set()
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text))):
        if (same := _bare(sentence)) in seen:
            return f"The answer contains a sentence twice: {quoted(sentence)}."
        if len(said := words_of(same)) >= as_long_as(SENTENCE_WORDS, said):
            seen.add(same)
    words = words_of(text)
    if (share := repetition(words)) <= limit:
        return ""
    unit = "character" if is_unspaced(words) else "word"
    length = as_long_as(REPEATED_WORDS, words)
    return f"The answer repeats itself: {share:.0%} of its {length}-{unit} sequences occur earlier in it."


def signs_as(name: str, text: str, finished: bool) -> str:
    """Look for the name at the end, where it is neither a greeting nor part of a sentence (`signatures`)."""
    if is_signed(plain(name), [plain(line) for line in text.splitlines()]):
        return ""
    end = text[-SHOWN:].strip().splitlines()[-1:]
    return f"The answer is not signed {quoted(name)}; " + (f"it ends with {quoted(end[0])}." if end else "it is empty.")


def language_name(code: str) -> str:
    return LANGUAGE_NAMES.get(code, (f"“{code}”",))[0]


def plain(text: str) -> str:
    """Return the text as it is compared: without case, with simple quotation marks and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_QUOTES).casefold().split())


def quoted(value: Any) -> str:
    """Quote a value in a sentence, on one line and not too long."""
    text = " ".join(str(value).split())
    return f"“{text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}”"


def _bare(text: str) -> str:
    """Return the text without case, final full stops and what wraps it, but with signs that tell labels apart."""
    whole = bare = plain(text)
    while (stripped := _unwrapped(bare.rstrip(_ENDS).strip(_QUOTE_MARKS))) != bare:
        bare = stripped
    return bare or whole


def _unwrapped(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] + text[-1] in _PAIRS else text


def _in_range(count: int, limits: tuple[int, int | None], unit: str, note: str = "") -> str:
    low, high = limits
    if low <= count and (high is None or count <= high):
        return ""
    least = partial(count_of, noun=unit)
    limit = f"at least {least(low)}" if count < low else f"at most {least(high or 0)}"
    return f"The answer has {count_of(count, unit)}{note}, expected {limit}."

"""Find answers in another language than the others.

Every answer gets a cheap guess from its script and its function words. Only what differs is identified thoroughly, and
counts if both agree; names, code and short texts get no guess.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sft_app.data.checkup.finding import Finding, RowsAt, count_of
from sft_app.data.checkup.language_words import (
    FUNCTION_WORDS,
    LANGUAGE_NAMES,
    LANGUAGE_OF_SCRIPT,
    MANY_LANGUAGES,
    SCRIPTS,
    TRANSLATING,
)
from sft_app.data.checkup.sampling import Sample

SAMPLE = 600
LETTERS = 40
"""The language of shorter texts cannot be identified reliably."""
MARGIN = 10.0
"""How far the log-likelihood of the best language must be ahead of the second."""
READ = 1000
GUESSED_FROM = 240
KEPT = 300
"""How many texts of each language, and of each pair of languages, are kept to be identified."""
SECOND_LANGUAGE = 0.02
"""A language with a larger share, and at least two answers, is one of several and no exception."""
NEARLY_ALL = 0.9
ENOUGH = 10
ENOUGH_PAIRS = 20
LISTED = 5

_WORD = re.compile(r"[^\W\d_]+")
_OTHER_SCRIPT = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff]")
_CODE_SIGN = re.compile(r"[`{};=<>\\(]")
"""Prose without any of these is not looked at for code, which takes ten times as long as the rest."""
_CODE = re.compile(
    r"```|[{};=<>\\]{2}|\w\(\)|</\w|\bdef \w+\(|\bSELECT\b|\bfunction \w*\(|\bclass \w+[(:]|[;{]\s*$"
    r"|^\s*(?:import|from|return|const|let|var)\s",
    re.MULTILINE,
)
_LANGUAGES_OF: dict[str, tuple[str, ...]] = defaultdict(tuple)
for _language, _words in FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF[_word] += (_language,)
_KNOWN = frozenset(_LANGUAGES_OF)


@dataclass
class Languages:
    """Collects a guess of each answer's language, and the texts to identify."""

    sample: Sample[tuple[int, str]] = field(default_factory=lambda: Sample(SAMPLE))
    counts: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept: dict[tuple[str, str], list[tuple[int, str, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, index: int, question: str, answer: str) -> None:
        """Add the first question and answer of a conversation."""
        self.sample.offer((index, answer[:READ]))
        answered = guess_language(answer)
        if not answered:
            return
        asked = guess_language(question)
        self.counts[answered] += 1
        self.pairs[asked, answered] += 1
        kept = self.kept[asked, answered]
        if len(kept) < KEPT:
            kept.append((index, question[:READ], answer[:READ]))


def find_languages(languages: Languages, rows_at: RowsAt) -> list[Finding]:
    """Find out whether the answers are in several languages, and which few are not in the language of the others."""
    return [*_several(languages, rows_at), *_exceptions(languages, rows_at), *_mismatches(languages, rows_at)]


def guess_language(text: str) -> str:
    """Guess the language from function words, or the script if it is not Latin; "" if neither is clear."""
    start = text[:GUESSED_FROM]
    if not start.isascii() and (script := _script(start)):
        return "" if script == "?" else script
    if len(start) < LETTERS or (_CODE_SIGN.search(start) and _CODE.search(start)):
        return ""
    found: Counter[str] = Counter()
    for word in _KNOWN.intersection(_WORD.findall(start.lower())):
        for language in _LANGUAGES_OF[word]:
            found[language] += 1
    if not found:
        return ""
    (best, hits), *others = found.most_common(2)
    return best if hits >= 3 and (not others or hits >= others[0][1] + 2) else ""


def identify_language(text: str) -> str:
    """Identify the language, such as "en"; "" for short texts, code, and texts that may well be in either of two."""
    if "```" in text or sum(map(str.isalpha, text)) < LETTERS:
        return ""
    from py3langid import rank

    (first, likelihood), (_, second), *_ = rank(text)
    return first if likelihood - second > MARGIN else ""


def _identified(text: str, guessed: str) -> str:
    """Identify a text's language, if that fits the guess; "" if not."""
    if guessed in LANGUAGE_OF_SCRIPT:
        return LANGUAGE_OF_SCRIPT[guessed]
    language = identify_language(text)
    return language if language == guessed or guessed in MANY_LANGUAGES and language not in FUNCTION_WORDS else ""


def _script(text: str) -> str:
    """Return the script of most letters; "" if it is Latin, "?" if there is no clear one or too little of it."""
    letters = _OTHER_SCRIPT.findall(text)
    all_letters = sum(map(str.isalpha, text))
    if len(letters) < 0.3 * all_letters:
        return ""
    counts = Counter(next((name for name, low, high in SCRIPTS if low <= letter <= high), "?") for letter in letters)
    if counts["kana"] >= 0.05 * len(letters):
        return "kana" if len(letters) >= 15 else "?"
    script, count = counts.most_common(1)[0]
    return script if count >= 15 and count >= 0.7 * all_letters else "?"


def _several(languages: Languages, rows_at: RowsAt) -> list[Finding]:
    by_language: dict[str, list[int]] = {}
    for index, answer in languages.sample.items:
        if language := identify_language(answer):
            by_language.setdefault(language, []).append(index)
    total = sum(map(len, by_language.values()))
    ordered = sorted(by_language.items(), key=lambda entry: -len(entry[1]))
    others = [(language, rows) for language, rows in ordered[1:] if len(rows) >= max(2, SECOND_LANGUAGE * total)]
    if not others:
        return []
    named = ", ".join(_name(language) for language, _ in [ordered[0], *others])  # not all are identified, so no shares
    rows = rows_at(index for _, indexes in others for index in indexes)
    sample = f" (from a sample of {total:,})" if not languages.sample.is_whole() else ""
    return [Finding("language", rows, f"The answers are in several languages: {named}{sample}.")]


def _exceptions(languages: Languages, rows_at: RowsAt) -> list[Finding]:
    """Find the answers in a language that hardly any other answer is in."""
    total = languages.counts.total()
    if not total:
        return []
    main, count = languages.counts.most_common(1)[0]
    if count < ENOUGH or count < NEARLY_ALL * total:
        return []
    usual = _usual(languages, main)
    found: dict[str, list[int]] = defaultdict(list)
    for (_, answered), texts in languages.kept.items():
        number = languages.counts[answered]
        if answered == main or (number > 1 and number > SECOND_LANGUAGE * total):
            continue
        for index, question, answer in texts:
            language = _identified(answer, answered)
            if language not in ("", usual) and not _asks_for(language, question):
                found[language].append(index)
    if not found:
        return []
    named = [f"{_name(language)} ({_rows(rows_at(indexes))})" for language, indexes in sorted(found.items())]
    rows = rows_at(index for indexes in found.values() for index in indexes)
    said = f"{count_of(len(rows), 'answer')} {'is' if len(rows) == 1 else 'are'} not in {_name(usual)} like the others"
    return [Finding("other_language", rows, f"{said}: {', '.join(named)}.")]


def _mismatches(languages: Languages, rows_at: RowsAt) -> list[Finding]:
    """Find questions that are answered in another language, where hardly any other is."""
    both = {pair: count for pair, count in languages.pairs.items() if pair[0]}
    same = sum(count for (asked, answered), count in both.items() if asked == answered)
    if same < ENOUGH_PAIRS or sum(both.values()) - same > max(2, SECOND_LANGUAGE * same):
        return []
    main = languages.counts.most_common(1)[0][0]
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for asked, answered in both:
        if asked == answered or answered != main:  # another language than that of the other answers is told already
            continue
        for index, question, answer in languages.kept[asked, answered]:
            pair = _identified(question, asked), _identified(answer, answered)
            if all(pair) and not _asks_for(pair[1], question):
                found[pair].append(index)
    if not found:
        return []
    named = [
        f"asked in {_name(asked)}, answered in {_name(answered)} ({_rows(rows_at(indexes))})"
        for (asked, answered), indexes in sorted(found.items())
    ]
    rows = rows_at(index for indexes in found.values() for index in indexes)
    said = f"{count_of(len(rows), 'question')} {'is' if len(rows) == 1 else 'are'} answered in another language"
    return [Finding("answered_in_another_language", rows, f"{said}: {'; '.join(named)}.")]


def _usual(languages: Languages, main: str) -> str:
    """Identify the language of most answers whose guess is `main`."""
    answers = [answer for (_, answered), texts in languages.kept.items() if answered == main for *_, answer in texts]
    identified = Counter(language for answer in answers[:ENOUGH_PAIRS] if (language := _identified(answer, main)))
    return identified.most_common(1)[0][0] if identified else main


def _asks_for(language: str, question: str) -> bool:
    """Return whether a question asks for a translation, or names the language in which it is answered."""
    lowered = question.lower()
    names = LANGUAGE_NAMES.get(language, (language,))
    return TRANSLATING.search(lowered) is not None or any(name.lower() in lowered for name in names)


def _name(language: str) -> str:
    return LANGUAGE_NAMES.get(language, (language,))[0]


def _rows(rows: Iterable[int]) -> str:
    numbers = list(rows)
    shown = ", ".join(f"{row:,}" for row in numbers[:LISTED])
    more = f" and {len(numbers) - LISTED:,} more" if len(numbers) > LISTED else ""
    return f"row{'' if len(numbers) == 1 else 's'} {shown}{more}"

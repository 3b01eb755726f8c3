"""The checks of tests that people write: what an answer must contain, how long it may be, how it must end.

A check is written as a mapping of its name to its argument, such as `{"contains": "order number"}`. To add one, write
a function that judges an answer (`answer_checks`), and add a record to `CHECKS`. Imports no torch.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sft_app.data.checkup.language_words import LANGUAGE_NAMES
from sft_app.errors import DataError
from sft_app.evaluation.checking import answer_checks
from sft_app.evaluation.checking.json_checks import is_json
from sft_app.evaluation.checking.json_schemas import read_schema
from sft_app.evaluation.checking.patterns import check_pattern
from sft_app.evaluation.checking.written_numbers import as_numbers

_SEPARATOR = re.compile(r"(?<!\d)[,;，、；]|[,;，、；](?!\d)")
"""Between texts, but not inside a number such as 1,000."""
MOST_NESTED = 50
"""Lists and mappings inside each other in an argument; more cannot be written and compared everywhere."""


@dataclass(frozen=True)
class CheckKind:
    """A kind of check.

    `argument` says what is expected, `example` is one in YAML. `read` turns what was written into what `judge` needs,
    or raises a ValueError. `judge` gets that, the answer, and whether the model ended it; it returns a sentence if the
    answer fails, else "". `is_text` is whether the argument is always a text, `is_schema` whether numbers in
    it are numbers, however they are written.
    """

    argument: str
    example: str
    read: Callable[[Any], Any]
    judge: Callable[[Any, str, bool], str]
    is_text: bool = False
    is_schema: bool = False


@dataclass(frozen=True)
class Check:
    """A check: its name, its argument as it was written, and as it is used."""

    name: str
    argument: Any
    value: Any

    def as_dict(self) -> dict[str, Any]:
        return {self.name: self.argument}

    def __str__(self) -> str:
        return f"{self.name}: {json.dumps(self.argument, ensure_ascii=False)}"


def parse_checks(value: Any) -> tuple[Check, ...]:
    """Read a list of checks, or a mapping with one or more of them.

    Raises:
        DataError: a check does not exist, or cannot be used with this argument.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple, dict)):
        raise DataError(f"Checks must be a list, such as - contains: order number, got {_shown(value)}.")
    entries = [value] if isinstance(value, dict) else value
    checks = tuple(check for number, entry in enumerate(entries, 1) for check in _parse_entry(number, entry))
    if len(checks) > MOST_CHECKS:
        raise DataError(f"A test can have at most {MOST_CHECKS} checks, got {len(checks)}.")
    return checks


def with_lists(value: Any) -> Any:
    """Put plain texts that could be several into lists of one: earlier versions took and kept them as one text.

    `value` is what `parse_checks` gets; what is no check is returned as it is.
    """
    if isinstance(value, (list, tuple)):
        return list(map(with_lists, value))
    if not isinstance(value, dict):
        return value
    return {name: [argument] if _is_ambiguous(name, argument) else argument for name, argument in value.items()}


def parse_check(name: str, argument: Any) -> Check:
    """Read one check. Raises: DataError if it does not exist, or cannot be used with this argument."""
    kind = CHECKS.get(name)
    if kind is None:
        close = get_close_matches(name, CHECKS, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The checks are: {', '.join(CHECKS)}."
        raise DataError(f"There is no check {name[:60]!r}. {hint}")
    if _is_deep(argument):
        raise DataError(f"The check {name!r} is nested too deeply. At most {MOST_NESTED} levels can be used.")
    try:
        argument = as_numbers(argument) if kind.is_schema else argument
        return Check(name, argument, kind.read(argument))
    except ValueError as error:
        reason = f": {error}" if str(error) else ""
        raise DataError(
            f"The check {name!r} cannot be used with {_shown(argument)}{reason}. It needs {kind.argument}, for example "
            f"{name}: {kind.example}."
        ) from error


def failures(checks: Iterable[Check], text: str, finished: bool) -> list[str]:
    """Return a sentence for each check that the answer fails. `finished` is whether the model ended the answer."""
    judged = (CHECKS[check.name].judge(check.value, text, finished) for check in checks)
    return [sentence for sentence in judged if sentence]


def _parse_entry(number: int, entry: Any) -> list[Check]:
    if not isinstance(entry, dict) or not entry:
        raise DataError(f"Check {number} must be a name and an argument, such as contains: hello, got {_shown(entry)}.")
    try:
        return [parse_check(str(name), argument) for name, argument in entry.items()]
    except DataError as error:
        raise DataError(f"Check {number}: {error}") from error


def _is_ambiguous(name: Any, argument: Any) -> bool:
    takes_list = name in CHECKS and CHECKS[name].read is _texts
    return takes_list and isinstance(argument, str) and _count_parts(argument) > 1


def _is_deep(value: Any) -> bool:
    layer = [value]
    for _ in range(MOST_NESTED):
        mappings = [inner for one in layer if isinstance(one, dict) for inner in one.values()]
        layer = mappings + [inner for one in layer if isinstance(one, (list, tuple)) for inner in one]
    return bool(layer)


def _text(value: Any) -> str:
    """Read a text; a number is taken as it is written."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """Read a list of texts, or one text; one that looks like a list is refused, as it could be either."""
    if isinstance(value, (list, tuple)) and value:
        return tuple(map(_text, value))
    text = _text(value)
    if (count := _count_parts(text)) > 1:
        raise ValueError(
            f"it could be one text or {count}; put it in brackets: [{text}] for several texts, "
            f"{json.dumps([text], ensure_ascii=False)} for one"
        )
    return (text,)


def _count_parts(text: str) -> int:
    return sum(bool(part.strip()) for part in _SEPARATOR.split(text))


def _name(value: Any) -> str:
    name = _text(value)
    kinds = map(unicodedata.category, name)
    if not any(kind[0] in "LN" or kind == "So" for kind in kinds):  # letters, numbers, and symbols such as emoji
        raise ValueError("it is only punctuation, and any answer that ends with a full stop would count as signed")
    return name


def _pattern(value: Any) -> str:
    pattern = _text(value)
    check_pattern(pattern)
    return pattern


def _range(value: Any) -> tuple[int, int | None]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError
    low, high = (None if end is None else _count(end) for end in value)
    if high is not None and (low or 0) > high:
        raise ValueError("the smaller number comes first")
    return low or 0, high


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return int(value)


def _true(value: Any) -> bool:
    if value is not True:
        raise ValueError
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _share(value: Any) -> float:
    if value is True:
        return answer_checks.REPETITION_LIMIT
    if isinstance(value, str):  # such as 0.10, which YAML keeps as it is written
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def _language(value: Any) -> str:
    """Read the code of a language, or its English name."""
    written = _text(value).strip().lower()
    code = next((code for code, names in LANGUAGE_NAMES.items() if names[0].lower() == written), written)
    if code not in LANGUAGE_NAMES:
        from py3langid import rank

        if code not in {language for language, _ in rank("a")}:
            raise ValueError("this language is unknown")
    return code


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


_TRUE = "true (delete the check if you do not want it)"
MOST_CHECKS = 50
"""In a test. A check may take seconds, and visitors of a hosted page can run tests too."""
CHECKS = {
    "contains": CheckKind("a text", "order number", _text, answer_checks.contains, is_text=True),
    "contains_any": CheckKind("a list of texts", "[refund, replacement]", _texts, answer_checks.contains_any),
    "contains_none": CheckKind("a list of texts", "[as an AI]", _texts, answer_checks.contains_none),
    "regex": CheckKind("a regular expression", r"'\bFH-\d{5}\b'", _pattern, answer_checks.matches, is_text=True),
    "json": CheckKind(
        "true, or a JSON schema", "{type: object, required: [name]}", read_schema, is_json, is_schema=True
    ),
    "words": CheckKind("the smallest and the largest number of words", "[5, 110]", _range, answer_checks.has_words),
    "characters": CheckKind(
        "the smallest and the largest number of characters", "[1, 280]", _range, answer_checks.has_characters
    ),
    "ended": CheckKind(_TRUE, "true", _true, answer_checks.has_ended),
    "asks_question": CheckKind("true or false", "true", _bool, answer_checks.asks_question),
    "language": CheckKind(
        "a language code or its English name", "en", _language, answer_checks.is_in_language, is_text=True
    ),
    "equals": CheckKind("a text", "spam", _text, answer_checks.equals, is_text=True),
    "no_repetition": CheckKind(
        "true, or the largest share of repeated 4-word sequences", "true", _share, answer_checks.has_no_repetition
    ),
    "signs_as": CheckKind("a name", "Anna", _name, answer_checks.signs_as, is_text=True),
}

"""Read and write the tests that people write: a prompt or conversation, and the checks that its answer must pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from sft_app.data.messages import read_message
from sft_app.data.split import opening_question
from sft_app.errors import DataError
from sft_app.evaluation.checking.written_numbers import exact_number
from sft_app.evaluation.checks import Check, parse_checks
from sft_app.evaluation.suites.plain_yaml import dump_yaml, load_yaml, refuse_unknown
from sft_app.evaluation.tables import jsonl_text

LARGEST_FILE = 5 * 2**20
TEST_ENDINGS = (".yaml", ".yml", ".json", ".jsonl")
MOST_TESTS = 2000
_KEYS = ("name", "prompt", "messages", "checks")


@dataclass(frozen=True)
class WrittenTest:
    """A test: the messages up to the last question, and the checks of its own."""

    name: str
    messages: tuple[dict[str, str], ...]
    checks: tuple[Check, ...] = ()

    @property
    def prompt(self) -> str:
        """The last message, which is answered."""
        return self.messages[-1]["content"]

    def as_dict(self) -> dict[str, Any]:
        """Return the test as it is written in a file."""
        is_prompt = len(self.messages) == 1
        asked: dict[str, Any] = {"prompt": self.prompt} if is_prompt else {"messages": list(map(dict, self.messages))}
        return {"name": self.name, **asked, "checks": [check.as_dict() for check in self.checks]}


@dataclass(frozen=True)
class Suite:
    """The tests of a file, and the checks that every answer must pass. `origin` says where they come from."""

    tests: tuple[WrittenTest, ...]
    for_all: tuple[Check, ...] = ()
    origin: str = ""

    def checks_of(self, test: WrittenTest) -> tuple[Check, ...]:
        return self.for_all + test.checks

    def opening_questions(self) -> list[str]:
        """Return what each test asks first (`split.opening_question`)."""
        return [opening_question((turn["role"], turn["content"]) for turn in test.messages) for test in self.tests]

    def chosen(self, names: Sequence[str]) -> Suite:
        """Return the suite with the tests of these names, or with all if there are none. Raises: DataError."""
        known = [test.name for test in self.tests]
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, 1)
                hint = f"Did you mean {close[0]!r}?" if close else f"The tests are: {', '.join(known[:20])}."
                raise DataError(f"There is no test {name!r}. {hint}")
        return replace(self, tests=tuple(test for test in self.tests if not names or test.name in names))

    def as_dict(self) -> dict[str, Any]:
        """Return the suite as it is written in a file."""
        shared = {"all": [check.as_dict() for check in self.for_all]} if self.for_all else {}
        return {**shared, "tests": [test.as_dict() for test in self.tests]}


def read_tests(path: Path) -> Suite:
    """Read a .yaml, .yml, .json or .jsonl file.

    Raises:
        DataError: the file cannot be read, holds no tests, or one of them cannot be used.
    """
    if path.suffix.lower() not in TEST_ENDINGS:
        raise DataError(f"{path.name}: tests are read from .yaml or .jsonl files, got {path.suffix or 'no ending'!r}.")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(
                f"{path.name} is larger than {LARGEST_FILE // 2**20} MB. Split the tests into several files."
            )
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    if path.suffix.lower() == ".json":
        return parse_tests(_load_json(text, path.name), path.name)
    return read_tests_text(text, path.name, path.suffix.lower() == ".jsonl")


def read_tests_text(text: str, name: str, is_jsonl: bool = False) -> Suite:
    """Read the text of a file, as `read_tests` does; `name` is used in messages and as the origin."""
    value, lines = _load_jsonl(text, name) if is_jsonl else load_yaml(text, name)
    return parse_tests(value, name, lines)


def parse_tests(value: Any, name: str = "the tests", lines: dict[int, int] | None = None) -> Suite:
    """Read tests from plain values: a list, or a mapping with `tests` and, for every answer, `all`.

    Raises:
        DataError: there are no tests, or one cannot be used; `lines` has the line of each by its number.
    """
    values = value if isinstance(value, dict) else {"tests": value}
    refuse_unknown(values, ("tests", "all"), name)
    entries = values.get("tests") or []
    if not isinstance(entries, (list, tuple)):
        raise DataError(f"{name}: `tests` must be a list of tests, got {type(entries).__name__}.")
    if not entries:
        raise DataError(f"{name} contains no tests. Each test needs a prompt and checks.")
    if len(entries) > MOST_TESTS:
        raise DataError(f"{name} contains {len(entries):,} tests, but at most {MOST_TESTS:,} can be run.")
    try:
        for_all = parse_checks(values.get("all"))
    except DataError as error:
        raise DataError(f"{name}, checks for all tests: {error}") from error
    tests = tuple(_read_each(entries, bool(for_all), name, lines or {}))
    return Suite(tests, for_all, name)


def suite_yaml(suite: Suite) -> str:
    return dump_yaml(suite.as_dict())


def suite_jsonl(suite: Suite) -> str:
    rows = suite.as_dict()
    return jsonl_text([*([{"all": rows["all"]}] if suite.for_all else []), *rows["tests"]])


def _read_each(entries: Iterable[Any], has_shared: bool, name: str, lines: dict[int, int]) -> Iterator[WrittenTest]:
    numbers: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        place = f"{name}, test {number}" + (f" (line {lines[number]})" if number in lines else "")
        try:
            test = _read_test(number, entry, has_shared)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
        if test.name in numbers:
            first = numbers[test.name]
            raise DataError(f"{place}: test {first} is also called {test.name!r}. Give each test a name of its own.")
        numbers[test.name] = number
        yield test


def _read_test(number: int, entry: Any, has_shared: bool) -> WrittenTest:
    if not isinstance(entry, dict):
        raise DataError(f"a test needs a prompt and checks, got {str(entry)[:60]!r}.")
    refuse_unknown(entry, _KEYS, "This test")
    checks = parse_checks(entry.get("checks"))
    if not checks and not has_shared:
        raise DataError("it has no checks. Add a list of checks, such as - contains: order number.")
    given = entry.get("name")
    name = " ".join(str(given).split()) if given is not None else ""
    return WrittenTest(name or f"test {number}", tuple(_messages(entry)), checks)


def _messages(entry: dict[str, Any]) -> list[dict[str, str]]:
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if (prompt is None) == (messages is None):
        raise DataError("it needs either a prompt or messages.")
    if messages is None:
        if isinstance(prompt, (dict, list)) or not str(prompt).strip():
            raise DataError("the prompt must be a text.")
        return [{"role": "user", "content": str(prompt)}]
    if not isinstance(messages, list) or not messages:
        raise DataError("messages must be a list of {role, content}.")
    read = [read_message(position, message) for position, message in enumerate(messages, 1)]
    for position, message in enumerate(read, 1):
        expected = ("assistant",) if position > 1 and read[position - 2].role == "user" else ("user",)
        if message.role not in (*expected, *(("system",) if position == 1 else ())) or not message.content.strip():
            raise DataError(f"message {position} must be a text from the {expected[0]}, got {message.role!r}.")
    if read[-1].role != "user":
        raise DataError("the last message must come from the user, because the models answer it.")
    return [{"role": message.role, "content": message.content} for message in read]


def _load_jsonl(text: str, name: str) -> tuple[Any, dict[int, int]]:
    entries: list[Any] = []
    shared: list[Any] = []
    lines: dict[int, int] = {}
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        value = _load_json(row, f"{name}, line {line}")
        if isinstance(value, dict) and set(value) == {"all"}:
            shared += value["all"] if isinstance(value["all"], list) else [value["all"]]
        else:
            entries.append(value)
            lines[len(entries)] = line
    return {"tests": entries, "all": shared}, lines


def _load_json(text: str, place: str) -> Any:
    try:
        return json.loads(
            text, parse_float=exact_number, parse_constant=_refuse_constant, object_pairs_hook=_without_twins
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} cannot be read as JSON: {str(error)[:100]}.") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(value := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice in the same place")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")

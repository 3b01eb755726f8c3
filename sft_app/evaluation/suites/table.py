"""Tests as rows of a table that people edit: name, prompt, check and argument, with a row for each check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sft_app.errors import DataError
from sft_app.evaluation.checks import CHECKS
from sft_app.evaluation.suites.plain_yaml import load_yaml
from sft_app.evaluation.suites.tests_file import Suite, WrittenTest, parse_tests

COLUMNS = ("Test", "Prompt", "Check", "Argument")
EVERY = "every answer"
"""In the first column: this check is for the answers to all tests."""
Row = tuple[str, str, str, str]


def suite_rows(suite: Suite) -> list[Row]:
    """Return a row for each check; only a test's first row has its name and prompt."""
    rows: list[Row] = [(EVERY, "", check.name, _written(check.argument)) for check in suite.for_all]
    for test in suite.tests:
        checks = [(check.name, _written(check.argument)) for check in test.checks] or [("", "")]
        rows.append((test.name, _prompt(test), *checks[0]))
        rows += [("", "", *check) for check in checks[1:]]
    return rows


def suite_from_rows(rows: Sequence[Sequence[Any]], origin: str) -> Suite:
    """Read the tests of a table. A row without a test and prompt has another check of the test above.

    Raises:
        DataError: there is no test, or a row cannot be used; the message names the row.
    """
    shared: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    above = shared
    for number, row in enumerate(rows, 1):
        name, prompt, check, argument = ("" if cell is None else str(cell).strip() for cell in row)
        if not any((name, prompt, check, argument)):
            continue
        if name.lower() == EVERY and not prompt:
            above = shared
        elif name or prompt:
            if not prompt:
                raise DataError(f"Row {number}: the test {name!r} has no prompt. Write one in the column Prompt.")
            above = []
            tests.append({**({"name": name} if name else {}), **_asked(prompt, number), "checks": above})
        if check:
            above.append({check: _argument(check, argument, number)})
        elif argument:
            raise DataError(f"Row {number}: choose a check for the argument {argument[:60]!r}.")
    if not tests:
        raise DataError("The table contains no tests. Write a prompt and a check, or load a file.")
    return parse_tests({"all": shared, "tests": tests}, origin)


def _written(argument: Any) -> str:
    return argument if isinstance(argument, str) else json.dumps(argument, ensure_ascii=False)


def _prompt(test: WrittenTest) -> str:
    """Return the prompt; a conversation is written as JSON."""
    return test.prompt if len(test.messages) == 1 else json.dumps(test.messages, ensure_ascii=False)


def _asked(prompt: str, number: int) -> dict[str, Any]:
    if not prompt.startswith('[{"role"'):
        return {"prompt": prompt}
    try:
        return {"messages": json.loads(prompt)}
    except (ValueError, RecursionError) as error:
        raise DataError(f"Row {number}: the conversation cannot be read as JSON: {error}.") from error


def _argument(check: str, argument: str, number: int) -> Any:
    """Read an argument: as a text where the check needs one, else as in a file; nothing means true."""
    if check in CHECKS and CHECKS[check].is_text:
        return argument
    if not argument:
        return True
    try:
        value = load_yaml(argument, f"Row {number}")[0]
    except DataError:  # such as `"Hello" she said`; the check says if it cannot use a text
        return argument
    return argument if isinstance(value, dict) and check != "json" else value

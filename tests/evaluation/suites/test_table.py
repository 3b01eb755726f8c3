"""Tests as rows of a table: what is shown is what is read again, and a row that cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.errors import DataError
from sft_app.evaluation.suites.table import suite_from_rows, suite_rows
from sft_app.evaluation.suites.tests_file import parse_tests, read_tests

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "customer_service_tests.yaml"


def test_what_is_shown_is_read_again() -> None:
    suite = read_tests(EXAMPLE)
    again = suite_from_rows(suite_rows(suite), suite.origin)
    assert again == suite
    texts = parse_tests(
        [{"prompt": "x", "checks": [{"equals": "true"}, {"contains": "[a]"}, {"json": {"type": "object"}}]}]
    )
    assert suite_from_rows(suite_rows(texts), "the tests") == texts


def test_arguments_are_read_as_people_write_them() -> None:
    suite = suite_from_rows(
        [
            ["Every answer", "", "ended", ""],
            ["", None, "words", "[5, 110]"],
            ["", "", "", ""],
            ["", "Hi", "contains_any", "What?: maybe"],
            ["", "", "no_repetition", "0.10"],
            ["second", "Bye", "", ""],
        ],
        "page",
    )
    assert [str(check) for check in suite.for_all] == ["ended: true", "words: [5, 110]"]
    assert [str(check) for check in suite.tests[0].checks] == ['contains_any: "What?: maybe"', 'no_repetition: "0.10"']
    assert [test.name for test in suite.tests] == ["test 1", "second"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "The table contains no tests. Write a prompt and a check, or load a file."),
        ([["a", "", "ended", "true"]], "Row 1: the test 'a' has no prompt"),
        ([["a", "Hi", "", "x"]], "Row 1: choose a check for the argument 'x'"),
        ([["a", "Hi", "endet", "true"]], "test 1: Check 1: There is no check 'endet'. Did you mean 'ended'"),
        ([["a", '[{"role": ', "ended", "true"]], "Row 1: the conversation cannot be read as JSON"),
        (
            [["a", "Hi", "contains_any", "refund, replacement"]],
            r"in brackets: \[refund, replacement\]",
        ),
        ([["a", '[{"role": ' + "[" * 100_000, "ended", "true"]], "Row 1: the conversation cannot be read as JSON"),
        ([["a", "Hi", "words", "many"]], "It needs the smallest and the largest number of words"),
    ],
)
def test_a_row_that_cannot_be_used(rows: list[list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        suite_from_rows(rows, "page")


@pytest.mark.parametrize(
    ("argument", "texts"),
    [
        ("[refund, replacement]", ("refund", "replacement")),
        ('["refund, replacement"]', ("refund, replacement",)),
        ("more than 1,000", ("more than 1,000",)),
        ("refund", ("refund",)),
    ],
)
def test_several_texts_stand_in_brackets(argument: str, texts: tuple[str, ...]) -> None:
    suite = suite_from_rows([["a", "Hi", "contains_any", argument]], "page")
    assert suite.tests[0].checks[0].value == texts
    assert suite_from_rows(suite_rows(suite), "page") == suite

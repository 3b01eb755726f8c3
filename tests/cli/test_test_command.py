"""`sft_app test`: the exit status for CI, the table, and suggestions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.evaluation.suites.kept import kept_tests
from sft_app.evaluation.suites.tests_file import read_tests, read_tests_text
from sft_app.runs.directory import find_run
from sft_app.runtime.resources import NOT_ENOUGH_MEMORY
from tests.commands import Ended

pytestmark = pytest.mark.usefixtures("one_thread")
PROJECT = Path(__file__).resolve().parents[2]
TESTS = """
- {name: always passes, prompt: Hi, checks: [{words: [0, 500]}]}
- {name: always fails, prompt: Hi, checks: [contains: no model says this]}
"""


@pytest.fixture(scope="module")
def made(one_thread: None, make_run: Callable[..., Any]) -> Any:
    return make_run(dtype="float32", max_new_tokens=4, max_length=128)


@pytest.fixture
def tests(made: Any, home: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.home / "runs", home / "runs")
    file = tmp_path / "shop.yaml"
    file.write_text(TESTS)
    return file


def test_a_failing_test_ends_with_status_1_and_says_which_check(cli: Callable[..., Ended], tests: Path) -> None:
    ended = cli("test", "latest", "--file", tests)
    assert ended.status == 1 and "\nalways fails: The answer does not contain" in ended.out
    assert "Of 2 tests, Base model passes 1" in ended.out.replace("\n", " ")


def test_only_the_named_tests_decide(cli: Callable[..., Ended], tests: Path) -> None:
    assert cli("test", "latest", "--file", tests, "--name", "always passes").status == 0
    assert cli("test", "latest", "--file", tests, "--name", "always fails").status == 1


def test_one_json_document(cli: Callable[..., Ended], tests: Path, home: Path) -> None:
    ended = cli("test", "latest", "--file", tests, "--json")
    found = ended.json
    assert ended.status == 1 and found["origin"] == "shop.yaml"
    counts = {"both": 1, "only_first": 0, "only_second": 0, "neither": 1}
    by_conversation = {"conversations": 1, "first_ahead": 0, "second_ahead": 0, "p_value": 1.0}
    assert found["paired"] == counts | by_conversation, "both tests ask the same"
    assert [side["passed"] for side in found["sides"]] == [1, 1]
    assert found["tests"][1]["answers"][1]["failed"] == ["The answer does not contain “no model says this”."]


def test_tests_are_kept_with_the_run_and_run_without_a_file(cli: Callable[..., Ended], tests: Path, home: Path) -> None:
    assert cli("test", "latest").status == 2
    assert cli("test", "latest", "--file", tests, "--name", "always passes", "--keep").status == 0
    kept = kept_tests(find_run(home, "latest"))
    assert kept is not None and kept.tests == read_tests(tests).tests
    assert cli("test", "latest", "--name", "always passes").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--file", "FILE"], "There is no run 'nonsense'"),
        (["latest", "--file", "none.yaml"], "none.yaml cannot be read"),
        (["latest", "--file", "FILE", "--name", "always pass"], "Did you mean 'always passes'"),
        (["latest"], "No tests are saved with this run. Give a file of tests: --file tests.yaml."),
        (["latest", "--keep"], "No tests are saved"),
        (["latest", "--suggest", "--file", "FILE"], "--suggest only reads the run's examples"),
    ],
)
def test_what_cannot_be_run_is_neither_passed_nor_failed(
    cli: Callable[..., Ended], tests: Path, arguments: list[str], message: str
) -> None:
    ended = cli("test", *[tests if part == "FILE" else part for part in arguments])
    assert ended.status == 2 and ended.out == "" and message in ended.err and ended.err.count("\n") == 1
    assert cli("test").status == 2


@pytest.mark.parametrize("check", ["words: !!int abc", "no_repetition: !!float abc", "contains: !!timestamp x"])
def test_a_file_with_types_could_not_be_run(cli: Callable[..., Ended], tests: Path, check: str) -> None:
    tests.write_text(f"- {{prompt: Hi, checks: [{check}]}}")
    ended = cli("test", "latest", "--file", tests)
    assert ended.status == 2 and "are not supported" in ended.err and ended.err.count("\n") == 1


def test_an_unforeseen_error_is_shown_and_counts_as_not_run(
    cli: Callable[..., Ended], tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, message in (
        (AttributeError("no part"), "Error: The tests could not be run: AttributeError: no part"),
        (MemoryError(), f"Error: {NOT_ENOUGH_MEMORY}"),
        (KeyboardInterrupt(), "Error: The tests were stopped before all of them had run."),
    ):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("sft_app.inference.pair.load_pair", fail)
        ended = cli("test", "latest", "--file", tests)
        assert (ended.status, ended.out) == (2, "") and ended.err.endswith(f"{message}\n")
        assert ("Traceback" in ended.err) == isinstance(error, AttributeError)


def test_suggestions_are_a_file_of_tests(cli: Callable[..., Ended], tests: Path) -> None:
    ended = cli("test", "latest", "--suggest")
    assert ended.status == 0 and read_tests_text(ended.out, "suggested.yaml").for_all


def test_the_example_file_is_true_of_the_bundled_answers() -> None:
    """Its rules for all answers hold for nearly all reference answers."""
    import json

    from sft_app.evaluation.checks import failures

    suite = read_tests(PROJECT / "examples" / "customer_service_tests.yaml")
    rows = (PROJECT / "examples" / "customer_service.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(row)["messages"][-1]["content"] for row in rows]
    failing = [answer for answer in answers if failures(suite.for_all, answer, True)]
    assert len(suite.tests) == 10 and failing == []

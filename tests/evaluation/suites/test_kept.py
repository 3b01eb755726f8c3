"""Tests kept with a run: those of its file, or of the newest run on the same data, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import AccessError, DataError
from sft_app.evaluation.suites.kept import keep_tests, kept_tests
from sft_app.evaluation.suites.tests_file import parse_tests
from sft_app.export.public_facts import public_values
from sft_app.hosting import Hosting
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl
from sft_app.settings import parse_settings
from sft_app.training.launch import create_queued_run
from sft_app.ui.services.access import Access

Create = Callable[..., Run]


@pytest.fixture
def create(home: Path, data_file: Path, tiny_model_dir: Path) -> Create:
    def run(data: Path = data_file, owner: str = "", **settings: Any) -> Run:
        wanted = {"data": str(data), "model": str(tiny_model_dir), "max_length": 128, "heldout_min": 4, **settings}
        return create_queued_run(parse_settings(wanted), home, owner)

    return run


@pytest.fixture
def tests_file(tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text("- {prompt: Hi, checks: [ended: true]}")
    return file


def names(run: Run) -> list[str]:
    suite = kept_tests(run)
    return [test.name for test in suite.tests] if suite else []


def test_the_next_run_on_the_same_data_takes_the_tests_over(create: Create, tests_file: Path, tmp_path: Path) -> None:
    first = create(tests=str(tests_file))
    second = create()
    assert names(first) == names(second) == ["test 1"]
    assert kept_tests(first).origin == "shop.yaml"
    assert kept_tests(second).origin == f"run {first.id}, which has the same data"
    assert names(create(tests="none")) == []
    other = tmp_path / "other.jsonl"
    other.write_text(Path(first.record().source.path).read_text().replace("order", "parcel"))
    assert names(create(other)) == [] and names(create(owner="someone")) == []


def test_the_tests_of_the_newest_run_are_taken(create: Create, tests_file: Path) -> None:
    first = create(tests=str(tests_file))
    keep_tests(create(tests="none"), parse_tests([{"name": "new", "prompt": "x", "checks": [{"ended": True}]}], "page"))
    assert names(create()) == ["new"] and names(first) == ["test 1"]


def test_texts_that_earlier_versions_kept_as_one_are_one(create: Create, tests_file: Path) -> None:
    text = """
all: {contains_none: "Sorry, I can't"}
tests:
- {name: one, prompt: Hi, checks: [contains_any: "Yes, please", contains: "a, b", ended: true]}
- {name: two, prompt: Hi, checks: {contains_any: "Paris", words: [1, 5]}}
"""
    first = create(tests="none")
    first.tests_file.write_text(f"# Tests from shop.yaml\n{text}")
    second = create()
    for suite in (kept_tests(first), kept_tests(second)):
        assert suite is not None
        assert [check.value for check in suite.for_all] == [("Sorry, I can't",)]
        values = [[check.value for check in test.checks] for test in suite.tests]
        assert values == [[("Yes, please",), "a, b", True], [("Paris",), (1, 5)]]
    assert "- Sorry, I can" in second.tests_file.read_text(), "written as a list from now on"
    tests_file.write_text(text)
    with pytest.raises(DataError, match="could be one text or 2; put it in brackets"):
        create(tests=str(tests_file))


@pytest.mark.parametrize(
    "text", ["- {prompt: Hi, checks: [Hi, [ended: true]]}", "[[1]]", "tests: 5", "- {checks: 1}", ""]
)
def test_kept_tests_that_are_no_tests_are_refused(create: Create, text: str) -> None:
    run = create(tests="none")
    run.tests_file.write_text(text)
    with pytest.raises(DataError):
        kept_tests(run)


def test_tests_that_cannot_be_used_leave_no_run(create: Create, tests_file: Path, home: Path) -> None:
    tests_file.write_text("- {prompt: Hi}")
    with pytest.raises(DataError, match="shop.yaml, test 1 .line 1.: it has no checks"):
        create(tests=str(tests_file))
    assert not (home / "runs").exists()
    create(tests="none").tests_file.write_text("- {prompt: Hi}")
    with pytest.raises(DataError, match="This run would take them over; choose other tests, or `none`"):
        create()


def test_the_folder_of_the_tests_is_not_published(create: Create, tests_file: Path) -> None:
    assert public_values(create(tests=str(tests_file)).record())["tests"] == "shop.yaml"


def test_a_file_of_the_machine_cannot_be_named_on_a_space(home: Path, tests_file: Path) -> None:
    access = Access(Hosting(space="a/b"), home)
    access.check_tests("none")
    with pytest.raises(AccessError, match="Upload the file"):
        access.check_tests(str(tests_file))


def test_a_run_with_another_seed_does_not_train_on_the_tests_that_it_takes_over(create: Create) -> None:
    """Tests that are suggested ask the held-out questions of the run they were made from."""
    first = create(seed=1)
    asked = {row["messages"][-2]["content"] for row in iterate_jsonl(first.heldout_file)}
    written = [{"prompt": prompt, "checks": [{"ended": True}]} for prompt in sorted(asked)]
    keep_tests(first, parse_tests(written, "suggestions"))
    second = create(seed=2)
    without = create(seed=2, tests="none")
    assert trained_questions(without) & asked, "otherwise this shows nothing"
    assert not trained_questions(second) & asked
    assert any("because your tests ask the same" in note for note in second.record().source.notes)


def trained_questions(run: Run) -> set[str]:
    return {row["messages"][-2]["content"] for row in iterate_jsonl(run.train_file)}

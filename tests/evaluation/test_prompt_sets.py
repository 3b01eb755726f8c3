"""Prompts from anywhere, answered by both sides, and the table as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import DataError
from sft_app.evaluation.prompt_sets import (
    Prompt,
    PromptResult,
    answer_prompt_set,
    as_csv,
    as_jsonl,
    paste_prompts,
    read_prompt_file,
)
from sft_app.evaluation.word_diff import change_between
from sft_app.inference.generation import Sampling
from sft_app.inference.pair import LoadedPair, load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.inference.stream import compare_prompt
from sft_app.ui.compare.prompt_set_views import file_note
from tests.made_runs import overflowing


@pytest.fixture(scope="module")
def pair(make_run: Callable[..., Any]) -> LoadedPair:
    made = make_run(dtype="float32")
    return load_pair(find_sides(BASE, made.run.id, made.home), made.home)


def test_pasted_prompts_stand_one_a_line() -> None:
    assert paste_prompts(" Where?\n\n  When? \r\n") == [Prompt("Where?"), Prompt("When?")]
    with pytest.raises(DataError, match="Enter at least one prompt, one per line"):
        paste_prompts(" \n")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "Question,Answer\nWhere?,Here\nWhen?,\n", [Prompt("Where?", "Here"), Prompt("When?")]),
        ("a.jsonl", '{"prompt": "Where?"}\n{"prompt": null}\n', [Prompt("Where?")]),
        ("a.txt", "Where?\nWhen?\n", [Prompt("Where?"), Prompt("When?")]),
        ("a.json", '[{"instruction": "Where?", "output": "Here"}]', [Prompt("Where?", "Here")]),
    ],
)
def test_prompts_are_found_by_the_usual_names(tmp_path: Path, name: str, content: str, expected: list[Prompt]) -> None:
    (tmp_path / name).write_text(content)
    assert list(read_prompt_file(tmp_path / name).prompts) == expected


@pytest.mark.parametrize(
    ("row", "added", "prompt"),
    [
        ({"instruction": "Translate.", "input": "Guten Tag", "output": "x"}, "input", "Translate.\nGuten Tag"),
        ({"Question": "Who?", "Context": "Ann calls.", "answer": "x"}, "Context", "Who?\nAnn calls."),
        ({"instruction": "Say hello.", "input": " ", "output": "x"}, "", "Say hello."),
        ({"prompt": "Say hello.", "input": "no part of it"}, "", "Say hello."),
    ],
)
def test_what_training_adds_to_a_question_is_part_of_the_prompt(
    tmp_path: Path, row: dict[str, str], added: str, prompt: str
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, next(iter(row)): None}) + "\n")
    found = read_prompt_file(tmp_path / "a.jsonl")
    assert found.added_column == added and [one.text for one in found.prompts] == [prompt]
    assert (f"with “{added}” added to each" in file_note(found)) == bool(added)
    named = read_prompt_file(tmp_path / "a.jsonl", next(iter(row)))
    assert not named.added_column and "\n" not in named.prompts[0].text


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,a\nWhere?,Here\n")
    assert list(read_prompt_file(tmp_path / "a.csv", "q", "a").prompts) == [Prompt("Where?", "Here")]
    with pytest.raises(DataError, match=r"has no column 'z'\. Choose one of: q, a\."):
        list(read_prompt_file(tmp_path / "a.csv", "q", "z").prompts)
    with pytest.raises(
        DataError, match=r"No column of a\.csv could be identified as the prompts\. Choose one of: q, a\."
    ):
        list(read_prompt_file(tmp_path / "a.csv").prompts)


def test_a_file_of_which_no_row_can_be_read_is_not_called_one_without_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": \n not json\n')
    with pytest.raises(DataError, match=r"No row of a\.jsonl can be read\. Row 1: ") as caught:
        read_prompt_file(tmp_path / "a.jsonl")
    assert "JSON" in str(caught.value) and ".." not in str(caught.value)


def test_a_column_without_prompts_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,answer\n ,Here\n")
    with pytest.raises(DataError, match="'prompt' of a.csv contains no prompts"):
        list(read_prompt_file(tmp_path / "a.csv").prompts)


def test_every_prompt_gets_what_it_gets_alone(pair: LoadedPair) -> None:
    prompts = [Prompt(f"Where is order {number}? {'x' * number}", "Here") for number in range(10)]
    sampling = Sampling(max_new_tokens=6)
    batches = list(answer_prompt_set(pair, prompts, "Be kind.", sampling))
    assert [len(batch) for batch in batches] == [8, 2]
    for number, result in enumerate(result for batch in batches for result in batch):
        alone = compare_prompt(pair, prompts[number].text, "Be kind.", sampling)
        assert (result.number, result.base, result.tuned) == (number + 1, alone.left.text, alone.right.text)
        assert result.change == change_between(result.base, result.tuned) and result.reference == "Here"


def test_a_prompt_that_is_too_long_costs_the_others_nothing(pair: LoadedPair) -> None:
    (batch,) = answer_prompt_set(pair, [Prompt("Hi"), Prompt("x" * 600)], "", Sampling(max_new_tokens=4))
    assert batch[0].base and not batch[0].problem
    assert batch[1].base == "" and "the model's context is 512" in batch[1].problem
    assert batch[1].change is None


def test_a_broken_answer_costs_the_other_side_nothing(make_run: Callable[..., Any], pair: LoadedPair) -> None:
    made = make_run(change=overflowing, dtype="float32")
    sampling = Sampling(max_new_tokens=4)
    broken = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    ((result,),) = answer_prompt_set(broken, [Prompt("Where is order 1?", "Here")], "", sampling)
    ((sound,),) = answer_prompt_set(pair, [Prompt("Where is order 1?", "Here")], "", sampling)
    base, tuned = result.sides()
    assert base.text == sound.base and not base.problem
    assert tuned.text == "" and tuned.problem.startswith("The right side produced NaN") and result.change is None
    assert result.shown_pair() == (sound.base, f"Not answered: {tuned.problem}")
    (row,) = csv.DictReader(io.StringIO(as_csv([result])))
    assert row["base"] == sound.base and row["problem"] == tuned.problem


@pytest.mark.parametrize(
    ("left", "right", "change"), [("a b", "a b", 0), ("a b", "c d", 1), ("a b", "a c", 0.5), ("", "", 0)]
)
def test_change_is_the_share_of_words_not_in_common(left: str, right: str, change: float) -> None:
    assert change_between(left, right) == pytest.approx(change)


def test_exports_can_be_read_again() -> None:
    results = [
        PromptResult(1, "Where?\nNow?", "", 'He said "x"', "=SUM(A1)", 0.5),
        PromptResult(2, "ü", "ß", "", "", 0),
    ]
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert rows[0]["prompt"] == "Where?\nNow?" and rows[0]["base"] == 'He said "x"'
    assert rows[0]["tuned"] == "'=SUM(A1)"
    assert [json.loads(line)["prompt"] for line in as_jsonl(results).splitlines()] == ["Where?\nNow?", "ü"]

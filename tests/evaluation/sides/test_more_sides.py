"""Three and more sides of a prompt set: each answers as it would alone, and recorded answers are matched by prompt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation, prompt_messages
from sft_app.data.tokens import render_last_prompt, render_prompt, stop_ids
from sft_app.errors import AppError, DataError, SettingsError
from sft_app.evaluation.prompt_job import PromptJob, answer_all
from sft_app.evaluation.prompt_sets import Prompt, PromptResult, as_csv, as_jsonl
from sft_app.evaluation.sides.examples import NearestExamples, with_examples
from sft_app.evaluation.sides.more_sides import NO_RECORDED_ANSWER, PROMPTED, Question, RecordedSide, SideText
from sft_app.evaluation.sides.recorded import read_recorded
from sft_app.evaluation.sides.side_metrics import side_metrics
from sft_app.evaluation.sides.side_names import find_pair_and_more
from sft_app.inference.generation import Sampling, answer_prompts
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.inference.stream import compare_prompt
from tests.made_runs import randomise_adapter

Make = Callable[..., Any]
PROMPTS = [Prompt(f"Where is order {number}?", "Here it is.") for number in range(9)]
SAMPLING = Sampling(max_new_tokens=6)
RECORDED = [{"prompt": f"Where is\n order {number}? ", "answer": f"Order {number} is here."} for number in range(1, 9)]


@pytest.fixture(scope="module")
def made(make_run: Make) -> Any:
    """Six runs of one base: more adapters than stay in memory."""
    first = make_run(change=lambda model: randomise_adapter(model, 1, 0.3), dtype="float32")
    for seed in range(2, 7):
        make_run(change=lambda model, seed=seed: randomise_adapter(model, seed, 0.3), home=first.home, dtype="float32")
    pairs = [("Where are my shoes?", "In the box."), ("When is the order sent?", "Today."), ("Can I pay?", "Yes.")]
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}
        for asked, told in pairs
    ]
    first.run.train_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return first


@pytest.fixture(scope="module")
def recorded(made: Any) -> Path:
    file = made.home / "hosted.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in RECORDED))
    return file


@pytest.fixture(scope="module")
def others(made: Any) -> list[str]:
    return sorted(path.name for path in (made.home / "runs").iterdir() if path.is_dir() and path.name != made.run.id)


@pytest.fixture(scope="module")
def job(made: Any, recorded: Path, others: list[str]) -> PromptJob:
    names = [*others, PROMPTED, str(recorded)]
    sides, more = find_pair_and_more(BASE, made.run.id, names, made.home, examples=2)
    return answer_all(sides, PROMPTS, "Be kind.", SAMPLING, made.home, lambda share: None, more)


def test_every_model_answers_as_it_does_in_a_pair_with_the_base(job: PromptJob, made: Any, others: list[str]) -> None:
    for place, name in enumerate([made.run.id, *others], start=1):
        pair = load_pair(find_sides(BASE, name, made.home), made.home)
        for number in (0, 8):
            alone = compare_prompt(pair, PROMPTS[number].text, "Be kind.", SAMPLING)
            result = job.results[number]
            assert result.base == alone.left.text
            shown = result.tuned if place == 1 else result.more[place - 2].text
            assert shown == alone.right.text, name
    answers = [side.text for side in job.results[0].more[:5]]
    assert len({job.results[0].tuned, *answers}) > 3, "the runs differ"


def test_the_prompted_side_is_the_base_with_examples(
    job: PromptJob, made: Any, load_untouched: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    base, place = load_untouched(made), job.names.index(PROMPTED) - 2
    asked = make_conversation([*prompt_messages(PROMPTS[3].text, "Be kind."), {"role": "assistant", "content": "-"}])
    (examples,) = NearestExamples(made.run.train_file).find([asked], 2)
    prompted = with_examples(pair.tokenizer, asked, examples, "", 400)
    assert prompted.examples == 2
    ids = render_last_prompt(pair.tokenizer, prompted.conversation)
    assert ids != render_prompt(pair.tokenizer, prompt_messages(PROMPTS[3].text, "Be kind."))
    (answer,) = answer_prompts(base, pair.tokenizer, [ids], SAMPLING, stop_ids(pair.tokenizer))
    assert job.results[3].more[place].text == answer.text
    read: list[Any] = []
    monkeypatch.setattr("sft_app.evaluation.sides.more_sides._answer", lambda *given: read.append(given))
    _, (side,) = find_pair_and_more(BASE, made.run.id, [PROMPTED], made.home, examples=2)
    side.open(pair)([Question(prompt_messages(PROMPTS[3].text, "Be kind."), [])], SAMPLING)
    (_, loaded, prompts, _) = read[0]
    assert loaded.is_base and prompts == [ids], "a random model hardly reads its prompt"


def test_recorded_answers_are_matched_by_prompt_and_missing_ones_are_said(job: PromptJob) -> None:
    texts = [result.more[-1] for result in job.results]
    assert texts[0] == SideText(problem=NO_RECORDED_ANSWER)
    assert texts[4] == SideText("Order 4 is here.")
    rows = list(csv.DictReader(io.StringIO(as_csv(job.results, job.names))))
    assert rows[4]["hosted.jsonl"] == "Order 4 is here." and rows[4]["problem"] == ""
    assert rows[0]["problem"] == f"hosted.jsonl: {NO_RECORDED_ANSWER}"
    assert list(rows[0])[:4] == ["number", "prompt", "reference", "base"] and PROMPTED in rows[0]
    assert [json.loads(line)["tuned"] for line in as_jsonl(job.results, job.names).splitlines()] == [
        result.tuned for result in job.results
    ]


def test_metrics_are_over_the_prompts_that_every_side_answered(job: PromptJob) -> None:
    sides = side_metrics(job.results, job.names, job.labels)
    assert [side.name for side in sides] == list(job.names) and {side.prompts for side in sides} == {8}
    assert sides[-1].missing == 1 and "stopped" not in sides[-1].metrics and "stopped" in sides[0].metrics
    assert sides[-1].metrics["chrf"] > sides[0].metrics["chrf"], "random models do not answer"
    assert side_metrics([PromptResult(1, "Hi", "", "a", "b", 1.0)], ("base", "tuned"), ("Base", "Tuned")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,answer\nHi,Hello\n hi ,Hello\nHi,Bye\n", "two different answers to the prompt “Hi”"),
        ("prompt,other\nHi,Hello\n", "no column with answers. Name it `answer`"),
        ("prompt,answer\nHi,\n", "contains no answers"),
        ("prompt,answer\nHi,Hello\nHi,\n", "two different answers to the prompt “Hi”"),
        ("prompt,reference\nHi,Hello\n", "no column with answers. Name it `answer`"),
        ("question,answer,response\nHi,Hello,Hey\n", "could have its answers in `answer` and `response`. Keep the"),
    ],
)
def test_files_of_answers_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_recorded(tmp_path / "a.csv")


@pytest.mark.parametrize("columns", [("reference", "answer"), ("answer", "reference"), ("expected", "Response")])
def test_a_reference_is_never_taken_for_a_recorded_answer(tmp_path: Path, columns: tuple[str, str]) -> None:
    values = {"reference": "Good day", "expected": "Good day", "answer": "Hello", "Response": "Hello"}
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "Hi", **{name: values[name] for name in columns}}))
    assert read_recorded(tmp_path / "a.jsonl").answer("Hi") == SideText("Hello")


def test_written_answers_are_no_recorded_side(job: PromptJob, tmp_path: Path) -> None:
    for name, text in (("a.csv", as_csv(job.results, job.names)), ("a.jsonl", as_jsonl(job.results, job.names))):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="no column with answers. Name it `answer`"):
            read_recorded(tmp_path / name)


def test_an_empty_recorded_answer_is_an_answer_and_null_is_none(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "answer": ""}, {"prompt": "Ho", "answer": None}, {"prompt": "Hey", "answer": "Hello"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_recorded(tmp_path / "a.jsonl")
    assert found.answer("Hi") == SideText("") and found.answer("Ho") == SideText(problem=NO_RECORDED_ANSWER)
    assert found.notes() == ["Recorded: a.jsonl: 1 of 2 answers is empty and counts as an answer."]
    assert RecordedSide("b.csv", {"Hi": "Hello"}).notes() == []


def test_recorded_answers_to_an_instruction_with_input_are_found(tmp_path: Path) -> None:
    rows = [{"instruction": "Translate.", "input": text, "output": text.upper()} for text in ("one", "two")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_recorded(tmp_path / "a.jsonl").answer("Translate.\ntwo") == SideText("TWO")


def test_a_side_is_named_once_and_prompted_needs_a_run(made: Any, others: list[str], recorded: Path) -> None:
    for more, message in (([others[0]] * 2, "already one of the sides"), ([str(recorded)] * 2, "Name each side once")):
        with pytest.raises(SettingsError, match=message):
            find_pair_and_more(BASE, made.run.id, more, made.home)
    with pytest.raises(AppError):
        find_pair_and_more(BASE, made.run.id, ["no-such-run"], made.home)

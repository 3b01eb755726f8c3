"""The whole scorecard of a run, against separate models and plain forward passes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sft_app.cli.terminal import print_scorecard
from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import DataError, ModelError
from sft_app.evaluation.answer_metrics import score_answer
from sft_app.evaluation.answer_pairs import read_pairs
from sft_app.evaluation.forgetting.general_questions import GENERAL_QUESTIONS_FILE
from sft_app.evaluation.score_run import (
    keep_score,
    most_changed,
    read_scorable_rows,
    score_both,
    score_run,
)
from sft_app.evaluation.scorecard import RowScore
from sft_app.evaluation.verdicts import UNJUDGED, scorecard_lines
from sft_app.export.report import report_html, report_markdown
from sft_app.inference.batch_generation import answer_both, answer_each
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.inference.pair import LoadedPair, load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.runs.scorecard import Scorecard
from sft_app.ui.compare.scorecard_views import scorecard_view
from tests.made_runs import overflowing, randomise_adapter

QUESTIONS = ["Where is it?", "Hi", "Do you ship to Spain? I need it by Friday.", "Thanks!"]
Make = Callable[..., Any]


@pytest.fixture(scope="module", params=["LoRA", "DoRA"])
def made(request: pytest.FixtureRequest, make_run: Make) -> Any:
    """A run with four held-out conversations, of which one has two turns."""
    made = make_run(
        change=lambda model: randomise_adapter(model, 3, 0.2),
        dtype="float32",
        use_dora=request.param == "DoRA",
        max_length=256,
        max_new_tokens=6,
        general_prompts=1000,
    )
    rows = []
    for number, question in enumerate(QUESTIONS, start=5):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": f"Answer {number}."}]
        more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "That is all."}]
        rows.append({"row": number, "messages": messages + (more if number == 7 else [])})
    made.run.heldout_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture(scope="module")
def pair(made: Any) -> LoadedPair:
    return load_pair(find_sides(BASE, made.run.id, made.home), made.home)


@pytest.fixture(scope="module")
def models(made: Any, load_untouched: Make) -> list[Any]:
    """The base and fine-tuned models apart from each other, the adapter merged by PEFT."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_untouched(made), str(made.run.adapter_dir)).merge_and_unload()
    return [load_untouched(made), merged.eval()]


@torch.no_grad()
def plain_loss(model: Any, rendered: Any) -> tuple[float, int]:
    ids, labels = torch.tensor([rendered.input_ids]), torch.tensor([rendered.labels])
    tokens = int((labels[0, 1:] != -100).sum())
    return float(model(input_ids=ids, labels=labels).loss) * tokens, tokens


def test_losses_are_those_of_separate_models(made: Any, pair: LoadedPair, models: list[Any]) -> None:
    card, _ = score_run(made.run, pair, prompts=0)
    for part, file in ((card, made.run.heldout_file), (card.general, GENERAL_QUESTIONS_FILE)):
        rows = [row.rendered for row in read_scorable_rows(file, pair.tokenizer, 256)]
        for side, model in zip(("base", "tuned"), models, strict=True):
            losses, tokens = zip(*(plain_loss(model, rendered) for rendered in rows), strict=True)
            assert getattr(part, side)["loss"] == pytest.approx(sum(losses) / sum(tokens), abs=1e-3)
    assert card.answers is None


@pytest.mark.parametrize("prompts", [0, 3])
def test_a_run_asks_as_many_general_questions_as_its_settings_say(
    made: Any, pair: LoadedPair, prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made.run.record().settings
    record = made.run.record().model_copy(update={"settings": settings.model_copy(update={"general_prompts": prompts})})
    monkeypatch.setattr(type(made.run), "record", lambda run: record)
    card, _ = score_run(made.run, pair, prompts=0)
    assert (card.general.heldout.conversations if card.general else 0) == prompts


def test_rows_scored_together_are_those_scored_alone(pair: LoadedPair, made: Any, models: list[Any]) -> None:
    rows = [row.rendered for row in read_scorable_rows(made.run.heldout_file, pair.tokenizer, 256)]
    base, tuned = score_both(pair, rows)
    for scores, model in ((base, models[0]), (tuned, models[1])):
        for score, rendered in zip(scores, rows, strict=True):
            loss, tokens = plain_loss(model, rendered)
            assert (score.loss_sum, score.tokens) == (pytest.approx(loss, abs=1e-3), tokens)


def test_answers_are_those_of_each_side_alone(made: Any, pair: LoadedPair, models: list[Any]) -> None:
    prompts = [render_prompt(pair.tokenizer, [{"role": "user", "content": text}]) for text in QUESTIONS]
    sampling, stops = Sampling(max_new_tokens=6), stop_ids(pair.tokenizer)
    base, tuned = answer_both(pair, prompts, sampling)
    assert base == answer_prompts(models[0], pair.tokenizer, prompts, sampling, stops)
    assert [answer.ids for answer in tuned] != [answer.ids for answer in base]


def test_generated_answers_are_scored_against_the_given_ones(made: Any, pair: LoadedPair, models: list[Any]) -> None:
    told: list[float] = []
    card, _ = score_run(made.run, pair, prompts=3, on_progress=told.append)
    assert card.answers.prompts == 3
    rows = read_scorable_rows(made.run.heldout_file, pair.tokenizer, 256)[:3]
    expected = []
    for row in rows:
        prompt = render_prompt(pair.tokenizer, row.conversation.as_dicts()[:-1])
        (answer,) = answer_prompts(
            models[0], pair.tokenizer, [prompt], Sampling(max_new_tokens=6), stop_ids(pair.tokenizer)
        )
        expected.append(score_answer(answer, row.conversation.messages[-1].content))
    for name in ("rouge_l", "chrf", "stopped", "repetition"):
        mean = sum(score[name] for score in expected) / 3
        assert card.answers.base[name] == pytest.approx(mean)
    assert told == sorted(told) and told[-1] == 1
    record = card.as_record()
    assert json.loads(json.dumps(record)) == record and Scorecard.model_validate(record).as_record() == record


def test_the_most_changed_rows_can_be_read(made: Any, pair: LoadedPair) -> None:
    card, _ = score_run(made.run, pair, prompts=4)
    improved, damaged = card.most_changed.improved, card.most_changed.damaged
    assert len(improved) == card.rows.better and len(damaged) == card.rows.worse
    assert all(row.tuned_loss < row.base_loss for row in improved)
    assert all(row.tuned_loss > row.base_loss for row in damaged)
    both = improved + damaged
    assert sorted(row.row for row in both) == [5, 6, 7, 8]
    assert all(len(row.answers) == 2 and row.messages[-1].role == "assistant" for row in both)


def test_nothing_to_measure_on_is_told(pair: LoadedPair, made: Any, tmp_path: Any) -> None:
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(DataError, match=r"none\.jsonl contains no conversation"):
        read_scorable_rows(tmp_path / "none.jsonl", pair.tokenizer, 256)


def test_a_prompt_too_long_costs_only_its_own_answer(pair: LoadedPair, made: Any) -> None:
    rows = read_scorable_rows(made.run.heldout_file, pair.tokenizer, None)
    prompt = render_prompt(pair.tokenizer, rows[0].conversation.as_dicts()[:-1])
    too_long = [5] * (pair.models.model.config.max_position_embeddings + 1)
    sampling = Sampling(0.0, 0, 8)
    first, second, third = answer_each(pair, [prompt, too_long, prompt], sampling)
    ((base,), (tuned,)) = answer_both(pair, [prompt], sampling)
    assert first == third == (base, tuned)
    assert isinstance(second, ModelError) and "tokens" in str(second)


def test_nothing_is_judged_from_answers_and_logits_that_are_no_numbers(
    make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file, on the page, in the report and on the command line."""
    made = make_run(change=overflowing, dtype="float32", max_length=256, max_new_tokens=6)
    rows = [
        [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": "The answer is yes."}]
        for number in range(8)
    ]
    made.run.heldout_file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    keep_score(made.run, load_pair(find_sides(BASE, made.run.id, made.home), made.home), prompts=8)
    card = made.run.scorecard()
    assert read_pairs(made.run) == []
    for part in (card, card.general, card.answers):
        assert all(math.isfinite(value) for value in part.base.values())
        written = part.as_record()
        assert set(written["tuned"].values()) == {None}
        assert all(set(found.values()) == {None} for found in written["difference"].values())
        for line in scorecard_lines(part):
            assert (line.tuned, line.difference, line.interval, line.verdict) == ("not a number", "–", "", UNJUDGED)
    assert card.rows.as_record() == {"better": 0, "worse": 0, "equal": 0, "not_a_number": 8}
    assert card.answers.broken.as_record() == {"base": 0, "tuned": 8}
    print_scorecard(card)
    for shown in (scorecard_view(card), report_html(made.run), report_markdown(made.run), capsys.readouterr().out):
        words = " ".join(re.sub(r"<style>.*?</style>|[│┃]", "", shown, flags=re.S).split()).lower()
        assert not re.search(r">(better|worse|changed|not enough rows to tell)<|\| (better|worse|changed) \|", words)
        assert "8 of 8 from the fine-tuned model" in words
        assert not re.search(r"\bnan\b", words.replace("nan or infinite values", "")), "as a number"


def test_an_answer_that_broke_off_is_not_shown_as_one(made: Any, pair: LoadedPair) -> None:
    rows = read_scorable_rows(made.run.heldout_file, pair.tokenizer, 256)[:1]
    answers = {rows[0].number: (Answer("Whole."), Answer("Hal", broken=True))}
    (row,) = most_changed(rows, [RowScore(4.0, 2, 1)], [RowScore(2.0, 2, 1)], answers).improved
    assert row.answers == ["Whole.", None]


def test_a_question_without_room_for_an_answer_is_not_counted_as_an_empty_one(
    made: Any, pair: LoadedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_first(_: Any, prompts: Any, sampling: Any) -> list[Any]:
        return [ModelError("too long"), *answer_each(pair, prompts[1:], sampling)]

    monkeypatch.setattr("sft_app.evaluation.score_run.answer_each", refuse_first)
    card, pairs = score_run(made.run, pair, prompts=4)
    assert card.answers.prompts == len(pairs) == 3

"""The scorecard at the end of a run: whole where it can be had, told where not, and never in the way of the run."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from sft_app.errors import ModelError
from sft_app.evaluation.scorecard import mean_loss, read_base_scores
from sft_app.evaluation.selection import read_evaluations
from sft_app.runs.folder import Run
from sft_app.runs.summary import summarise_run
from sft_app.runtime.files import read_jsonl
from sft_app.training import scoring

Make = Callable[..., Run]
Work = Callable[..., int]


def test_run_ends_with_the_whole_scorecard_and_answers_to_vote_on(finished_run: Run) -> None:
    from sft_app.evaluation.answer_pairs import read_pairs

    card = finished_run.scorecard()
    assert card is not None
    assert card.general.heldout.conversations == 40
    assert card.answers.prompts == card.heldout.conversations == 4
    assert card.rows.better == len(card.most_changed.improved) == 4
    pairs = read_pairs(finished_run)
    assert [pair.reference for pair in pairs] == ["Soon!"] * 4
    assert all(pair.prompt.startswith("Where is order") and pair.base != pair.tuned for pair in pairs)


def test_nothing_of_training_is_in_memory_while_it_is_measured(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    left: list[Any] = []

    def look(*_: Any) -> Any:
        left.extend(found for found in gc.get_objects() if isinstance(found, PreTrainedModel) and found not in before)
        raise ModelError("There is no room for it.")

    gc.collect()
    before = [found for found in gc.get_objects() if isinstance(found, PreTrainedModel)]
    monkeypatch.setattr(scoring, "load_pair", look)
    run = make_run()
    assert work(run) == 0
    assert left == []
    assert run.status().state == "finished"
    assert run.status().message == "The scorecard only has the held-out loss: There is no room for it."
    card = run.scorecard()
    assert card is not None and card.rows.better == 4 and card.general is None


def test_stop_ends_the_measuring_and_the_run_is_finished(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    load_pair = scoring.load_pair

    def load_and_stop(*given: Any) -> Any:
        run.request_stop()
        return load_pair(*given)

    monkeypatch.setattr(scoring, "load_pair", load_and_stop)
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("finished", 4)
    assert "Stopped while measuring" in run.status().message
    card = run.scorecard()
    assert card is not None and card.general is None


def test_stopped_run_is_measured_without_generated_answers(make_run: Make, work: Work) -> None:
    run = make_run()
    run.request_stop()
    assert work(run) == 0
    assert run.status().state == "stopped"
    card = run.scorecard()
    assert card is not None and card.general is not None and card.answers is None


@pytest.mark.parametrize(("trained_in", "is_known"), [("float32", True), ("bfloat16", False)])
def test_what_training_measured_in_another_precision_is_measured_again(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch, trained_in: str, is_known: bool
) -> None:
    """Numbers of one scorecard come from one arithmetic; on a CPU that of a comparison is float32."""
    given: list[Any] = []

    def keep(*args: Any, runs_tests: bool) -> None:
        given.append((args[1].models.hardware.dtype, args[4] is not None))

    monkeypatch.setattr(scoring, "keep_score", keep)
    run = make_run(dtype=trained_in)
    assert work(run) == 0
    assert run.status().precision == trained_in
    assert given == [("float32", is_known)]


def test_the_weights_are_judged_on_conversations_that_did_not_choose_them(make_run: Make, work: Work) -> None:
    run = make_run(conversations=60, heldout_min=30, heldout_max=30, max_steps=4, eval_steps=1)
    assert work(run) == 0
    card, measured = run.scorecard(), [row.heldout_loss for row in run.metrics() if row.heldout_loss is not None]
    assert card is not None and card.selection is not None
    assert (card.heldout.conversations, card.selection.rows, card.selection.evaluations) == (20, "other", 4)
    assert not run.evaluations_file.exists()
    base, tuned = read_base_scores(run), read_jsonl(run.validation_file)
    assert (len(base), len(tuned)) == (20, 10)
    assert mean_loss(base) == pytest.approx(card.base["loss"], rel=1e-4)
    assert card.base["loss"] != pytest.approx(measured[0], rel=1e-6)  # the curve's rows are others
    summary = summarise_run(run)
    assert (summary.heldout_loss_base, summary.heldout_loss_tuned) == (card.base["loss"], card.tuned["loss"])


def test_few_rows_that_choose_and_judge_are_corrected_for_it(make_run: Make, work: Work) -> None:
    run = make_run(max_steps=4, eval_steps=1)
    assert work(run) == 0
    card = run.scorecard()
    assert card is not None and card.selection is not None and card.answers is not None
    assert (card.selection.rows, card.selection.evaluations) == ("same", 4)
    assert list(read_evaluations(run)) == [1, 2, 3, 4]
    assert card.difference["token_accuracy"].p_holm is not None
    assert all(change.p_holm is None for change in card.answers.difference.values())


def test_weights_that_were_not_chosen_need_no_correction(make_run: Make, work: Work) -> None:
    run = make_run(load_best_model_at_end=False, max_steps=4, eval_steps=1)
    assert work(run) == 0
    card = run.scorecard()
    assert card is not None and card.selection is None and card.answers is not None
    assert all(change.p_holm is not None for change in card.answers.difference.values())
    assert card.difference["loss"].value == pytest.approx(card.tuned["loss"] - card.base["loss"])

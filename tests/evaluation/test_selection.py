"""Weights chosen on the rows that judge them: how often no effect is called one (simulated), and what is recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sft_app.evaluation.scorecard import RowScore, make_scorecard
from sft_app.evaluation.selection import (
    cross_fit,
    read_evaluations,
    record_evaluation,
    with_flattering_tests,
    without_selection,
)
from sft_app.evaluation.statistics.intervals import student_limit
from sft_app.evaluation.suites.tests_file import parse_tests
from sft_app.evaluation.verdicts import computed_note, summary_sentence, verdict_of_loss
from sft_app.runs.folder import Run
from sft_app.runs.suite_scores import SuiteScores
from tests.export.run_folders import make_run

TRIALS = 2000


def false_alarms(rows: int, choices: int, alike: float, corrects: bool) -> float:
    """How often the best of `choices` weights, none with an effect, is called better at a nominal 2.5 %.

    `alike` is the correlation of two evaluations' rows. The interval is Student's, which is exact here.
    """
    random, alarms = np.random.default_rng(1), 0
    shared = math.sqrt(alike) * random.standard_normal((TRIALS, rows, 1))
    changes = shared + math.sqrt(1 - alike) * random.standard_normal((TRIALS, rows, choices))
    for trial in changes:
        evaluations = {step: [RowScore(10 + row, 1, 0) for row in trial[:, step]] for step in range(choices)}
        kept = min(evaluations, key=lambda step: trial[:, step].mean())
        scores = cross_fit(evaluations, kept, evaluations[kept]) if corrects else evaluations[kept]
        change = np.array([score.loss_sum - 10 for score in scores])
        alarms += bool(change.mean() < -student_limit(rows - 1) * change.std(ddof=1) / math.sqrt(rows))
    return alarms / TRIALS


@pytest.mark.parametrize("rows", [8, 16])
@pytest.mark.parametrize(
    ("choices", "alike", "stated"), [(5, 0.5, 0.04), (5, 0.8, 0.03), (10, 0.5, 0.039), (10, 0.95, 0.028)]
)
def test_a_choice_on_the_same_rows_is_corrected_for(rows: int, choices: int, alike: float, stated: float) -> None:
    """docs/STATISTICS.md has these and the uncorrected ones. Four standard errors are 1.4 to 1.8 %."""
    assert false_alarms(rows, choices, alike, corrects=True) <= stated + 0.018


def test_uncorrected_the_best_of_many_looks_better_far_too_often() -> None:
    assert false_alarms(16, 10, 0.5, corrects=False) > 0.09


def scores(*losses: float) -> list[RowScore]:
    return [RowScore(loss, 1, 0) for loss in losses]


def test_each_half_has_the_weights_that_the_other_half_chose() -> None:
    evaluations = {10: scores(1.0, 5.0, 1.0, 5.0), 20: scores(4.0, 2.0, 4.0, 2.0)}
    kept = scores(1.5, 5.5, 1.5, 5.5)  # of step 10 (a tie), in another precision
    found = cross_fit(evaluations, 10, kept)
    assert [score.loss_sum for score in found] == [4.5, 5.5, 4.5, 5.5]


def test_related_rows_choose_together() -> None:
    evaluations = {10: scores(1.0, 1.0, 5.0, 5.0), 20: scores(4.0, 4.0, 2.0, 2.0)}
    found = cross_fit(evaluations, 10, evaluations[10], np.array([7, 7, 3, 3]))
    assert [score.loss_sum for score in found] == [4.0, 4.0, 5.0, 5.0]
    assert cross_fit(evaluations, 10, evaluations[10], np.zeros(4)) == evaluations[10]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def test_a_choice_is_read_from_the_run(run: Run) -> None:
    kept = scores(1.0, 5.0, 1.0, 5.0)
    run.update_status(kept_step=10)
    record_evaluation(run, 10, kept)
    assert without_selection(run, kept) == (kept, None)
    record_evaluation(run, 20, scores(4.0, 2.0, 4.0, 2.0))
    corrected, selection = without_selection(run, kept)
    assert corrected == scores(4.0, 5.0, 4.0, 5.0)
    assert selection is not None and selection.as_record() == {"rows": "same", "evaluations": 2}
    assert read_evaluations(run)[20] == scores(4.0, 2.0, 4.0, 2.0)


def test_rows_that_did_not_choose_need_no_correction(run: Run) -> None:
    record_evaluation(run, 10, scores(1.0, 5.0))
    record_evaluation(run, 20, scores(5.0, 1.0))
    run.validation_file.write_text("")
    found, selection = without_selection(run, scores(1.0, 5.0))
    assert found == scores(1.0, 5.0)
    assert selection is not None and selection.rows == "other"


def rows_of(*asked: str) -> str:
    rows = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}] for text in asked]
    return "".join(json.dumps({"row": place, "messages": row}) + "\n" for place, row in enumerate(rows))


def test_tests_that_ask_what_chose_the_weights_are_counted(run: Run) -> None:
    """Of a run whose held-out conversations judge and choose, and of one that has others to choose by."""
    written = [{"prompt": prompt, "checks": [{"ended": True}]} for prompt in ("Where is order 1?", "And order 2?")]
    suite, found = parse_tests(written), SuiteScores(sides=["base", "tuned"])
    run.heldout_file.write_text(rows_of("where is  order 1?", "Another one?"))
    record_evaluation(run, 10, scores(1.0, 5.0))
    run.update_status(kept_step=10)
    assert with_flattering_tests(run, found, suite).chose_weights == 0, "nothing was chosen"
    record_evaluation(run, 20, scores(5.0, 1.0))
    assert with_flattering_tests(run, found, suite).chose_weights == 1
    run.validation_file.write_text(rows_of("Something else?"))
    assert with_flattering_tests(run, found, suite).chose_weights == 0


def test_tests_written_after_training_that_ask_what_was_trained_on_are_counted(run: Run) -> None:
    prompts = ("where is my parcel?", "When do you open?")
    suite = parse_tests([{"prompt": prompt, "checks": [{"ended": True}]} for prompt in prompts])
    run.train_file.write_text(rows_of("Where is  my parcel?", "Another one?") + '{"messages": [{"role": "user"}]}\n')
    found = with_flattering_tests(run, SuiteScores(sides=["base", "tuned"]), suite)
    assert (found.trained_on, found.chose_weights, found.is_flattered) == (1, 0, True)
    run.train_file.unlink()
    assert not with_flattering_tests(run, found, suite).is_flattered, "an imported run may lack its examples"


def test_a_short_question_counts_wherever_the_conversation_goes_on(run: Run) -> None:
    suite = parse_tests([{"prompt": "Where is my order?", "checks": [{"ended": True}]}])
    said = ("Where is my order?", "Its number?", "12345 please, it is late", "On its way.")
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    run.validation_file.write_text(json.dumps({"row": 1, "messages": messages}) + "\n")
    assert with_flattering_tests(run, SuiteScores(sides=["base", "tuned"]), suite).chose_weights == 1


def test_a_resumed_run_forgets_the_evaluations_it_repeats(run: Run) -> None:
    record_evaluation(run, 10, scores(1.0))
    record_evaluation(run, 20, scores(2.0))
    run.forget_after(10)
    assert list(read_evaluations(run)) == [10]


def test_a_choice_that_is_not_recorded_cannot_be_corrected_and_gives_no_verdict(run: Run) -> None:
    """As in a run that an earlier version began."""
    run.update_status(kept_step=5)
    record_evaluation(run, 10, scores(1.0, 5.0))
    record_evaluation(run, 20, scores(5.0, 1.0))
    found, selection = without_selection(run, scores(1.0, 5.0))
    assert found == scores(1.0, 5.0)
    assert selection is not None and not selection.is_corrected
    base = [RowScore(10.0 + row, 4, 1) for row in range(8)]
    better = [RowScore(4.0 + row, 4, 1) for row in range(8)]
    card = make_scorecard(base, better).model_copy(update={"selection": selection})
    assert verdict_of_loss(card) == "not enough rows to tell"
    assert "the same conversations chose the weights" in summary_sentence(card)
    assert "no record of that choice" in computed_note(card)

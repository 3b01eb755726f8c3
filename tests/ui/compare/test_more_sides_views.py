"""Further sides, the prompt instead of training and repeated answers, as they are shown; all texts escaped."""

from __future__ import annotations

from sft_app.evaluation.prompt_job import PromptJob
from sft_app.evaluation.prompt_sets import PromptResult
from sft_app.evaluation.scorecard import RowScore, make_scorecard
from sft_app.evaluation.sides.more_sides import NO_RECORDED_ANSWER, SideText
from sft_app.runs.memorised import Memorised, RepeatedAnswer
from sft_app.runs.scorecard import PromptedScores, Scorecard
from sft_app.ui.compare.prompt_set_views import pair_card, prompts_progress_card, results_table
from sft_app.ui.compare.scorecard_views import scorecard_view

LABELS = ("Base model", "Mine", "Recorded: <old>.csv")


def job() -> PromptJob:
    more = (SideText("Here <b>it</b> is."),), (SideText(problem=NO_RECORDED_ANSWER),)
    results = [
        PromptResult(at, f"Q{at}", "Here it is.", "No.", "Here.", 0.5, more=one) for at, one in enumerate(more, 1)
    ]
    return PromptJob(total=2, labels=LABELS, names=("base", "tuned", "old.csv"), results=results)


def test_every_side_has_a_column_a_card_and_a_mean() -> None:
    table = results_table(job())
    assert list(table.frame.columns)[3:6] == ["Left: Base model", "Right: Mine", "Recorded: <old>.csv"]
    assert len(table.widths) == len(table.types) == len(table.frame.columns)
    assert table.frame.iloc[1, 5] == f"Not answered: {NO_RECORDED_ANSWER}"
    card = pair_card(job().results[0], LABELS)
    assert "Recorded: &lt;old&gt;.csv" in card and "Here &lt;b&gt;it&lt;/b&gt; is." in card
    shown = prompts_progress_card(job())
    assert "no answer to 1 of 2 prompts" in shown and "1 prompt has a reference answer" in shown
    assert "chrF vs. reference" in shown and "<old>" not in shown
    assert "chrF" not in prompts_progress_card(PromptJob(total=1, results=[PromptResult(1, "Q", "R", "a", "b", 1.0)]))


def scored(*losses: float) -> list[RowScore]:
    return [RowScore(10 * loss, 10, 5) for loss in losses]


def test_the_scorecard_shows_the_prompt_and_what_is_repeated() -> None:
    base, tuned = scored(*[2.0, 2.1] * 4), scored(*[1.0, 1.2] * 4)
    repeated = RepeatedAnswer(row=3, question="<i>?", answer="A", share=0.8, training_row=9, training_answer="<u>B</u>")
    card: Scorecard = make_scorecard(base, tuned)
    assert "Prompt or fine-tune?" not in scorecard_view(card) and "Memorised?" not in scorecard_view(card)
    prompted = PromptedScores(examples=3, used=3.0, predicted=make_scorecard(tuned, tuned), base={"loss": 2.05})
    memorised = Memorised(answers=8, tuned=0.5, base=0.0, references=0.0, mostly=4, worst=[repeated])
    shown = scorecard_view(card.model_copy(update={"prompted": prompted, "memorised": memorised}))
    assert "A prompt with 3 of your examples does as well as this fine-tuned model" in shown and "2.050" in shown
    assert "50% of the words" in shown and "training answer, row 9" in shown and "80% repeated" in shown
    assert "&lt;u&gt;B" in shown and "<u>B" not in shown

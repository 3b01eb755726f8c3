"""Many prompts: what the page says of them, and what its handlers take and give."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from sft_app.errors import AccessError, DataError
from sft_app.evaluation.prompt_job import PromptJob
from sft_app.evaluation.prompt_sets import Prompt, PromptFile, PromptResult
from sft_app.hosting import Hosting
from sft_app.ui.compare import many_prompts
from sft_app.ui.compare import prompt_set_views as views
from sft_app.ui.context import PageContext

BAD = '<img src="http://x/y">'


def job_of(results: int, total: int | None = None, **changes: object) -> PromptJob:
    found = [PromptResult(n + 1, f"Q{n}", "", "one two", "one three", n / 1000) for n in range(results)]
    return PromptJob(total=total or results, results=found, **changes)  # type: ignore[arg-type]


def test_an_empty_page_says_what_to_do() -> None:
    assert "Paste prompts or choose a file" in views.prompts_progress_card(PromptJob())


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (job_of(24, 100, seconds=60.0, is_at_work=True), "24 of 100, about 3 min left"),
        (job_of(0, 100, is_at_work=True), "0 of 100"),
        (
            job_of(8, 100, seconds=9.0, is_at_work=True, is_stopping=True),
            "8 of 100, stopping after the prompts in progress",
        ),
        (job_of(8, 1000, seconds=9.0), "Stopped: 8 of 1,000 answered in 0:09"),
        (job_of(1, seconds=9.0), "1 prompt answered in 0:09"),
    ],
)
def test_progress_in_words(job: PromptJob, told: str) -> None:
    assert views.progress_text(job).startswith(told)


@pytest.mark.parametrize(("seconds", "told"), [(1, "5 s"), (62, "60 s"), (100, "2 min"), (9000, "2.5 h")])
def test_a_guess_is_rounded(seconds: float, told: str) -> None:
    assert views.rounded_time(seconds) == told


def test_the_table_shows_some_rows_and_says_so() -> None:
    job = job_of(300, is_kept=True)
    shown = views.results_table(job)
    assert list(shown.frame["No."]) == list(range(1, 201))
    assert list(shown.frame.columns) == ["No.", "Prompt", "Left: Base model", "Right: Fine-tuned", "Change %"]
    job.most_changed_first = True
    assert list(views.results_table(job).frame["No."])[:2] == [300, 299]
    assert "The table shows 200 of 300 rows. The downloads contain all of them." in views.prompts_progress_card(job)
    assert "saved with the run" in views.prompts_progress_card(job)


def test_references_have_a_column_where_there_are_some_and_problems_stand_in_their_row() -> None:
    job = PromptJob(
        2, results=[PromptResult(1, "Q", "R", "a", "b", 1.0), PromptResult(2, "Q", "", "", "", 0.0, "too long")]
    )
    shown = views.results_table(job)
    assert list(shown.frame["Reference"]) == ["R", ""] and len(shown.widths) == len(shown.types) == 6
    assert shown.frame.iloc[1, 3] == "Not answered: too long"
    assert "1 could not be answered" in views.prompts_progress_card(job)


def test_long_cells_are_cut_and_the_pair_is_shown_in_full() -> None:
    text = "word " * 200
    job = PromptJob(1, results=[PromptResult(1, text, "", text, text + "more", 0.1)])
    assert len(views.results_table(job).frame.iloc[0, 1]) < 230
    card = views.pair_card(job.results[0], job.labels)
    assert text in card and "<mark> more</mark>" in card and "10% changed" in card


def test_text_of_people_and_models_is_shown_and_never_run() -> None:
    for problem in ("", BAD):
        card = views.pair_card(PromptResult(1, BAD, BAD, BAD, f"{BAD} more", 0.5, problem), (BAD, BAD))
        assert BAD not in card and "&lt;img" in card
    note = views.file_note(PromptFile((Prompt("Q"),), (BAD,), BAD, BAD, 1))
    assert BAD not in note and "1 row skipped" in note


def test_a_file_goes_before_what_is_pasted(home: Path, tmp_path: Path) -> None:
    context = PageContext(home)
    (tmp_path / "a.txt").write_text("From the file\n")
    assert many_prompts.chosen_prompts(context, "Pasted", str(tmp_path / "a.txt"), None, "") == [
        Prompt("From the file")
    ]
    assert many_prompts.chosen_prompts(context, "Pasted", None, None, None) == [Prompt("Pasted")]
    with pytest.raises(DataError, match="Enter at least one prompt, one per line"):
        many_prompts.chosen_prompts(context, "", None, None, None)


def test_a_visitors_file_has_a_limit(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * (21 * 2**20))
    context = PageContext(home, Hosting(space="ann/app", owner="ann"))
    with pytest.raises(AccessError, match="at most 20 MB"):
        many_prompts.chosen_prompts(context, "", str(tmp_path / "a.jsonl"), None, None)


def test_a_full_table_is_not_sent_again_and_files_come_at_the_end() -> None:
    with gr.Blocks():
        results = many_prompts._build_results()
    csv, jsonl = results.files
    full = results.show(job_of(300, 400))
    assert results.table not in full and full[jsonl] is None
    ended = results.as_left(job_of(300))
    assert Path(ended[csv]).name == "answers.csv" and len(Path(ended[jsonl]).read_text().splitlines()) == 300
    assert len(ended[results.table].value["data"]) == 200


def test_what_was_not_answered_is_not_told_as_unchanged() -> None:
    failed = PromptResult(1, "Q", "", "", "", None, "too long")
    job = PromptJob(2, results=[failed, PromptResult(2, "Q", "", "a", "b", 0.5)], most_changed_first=True)
    assert list(views.results_table(job).frame["Change %"]) == [50, None]
    assert "%" not in views.pair_card(failed, job.labels)

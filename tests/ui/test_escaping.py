"""Whatever people, files and models write is shown as they wrote it, by every template of the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sft_app import curves
from sft_app.data.checkup.edits import Change
from sft_app.data.checkup.finding import Finding
from sft_app.data.checkup.fixes import AppliedFix, Cleaning
from sft_app.data.checkup.inspection import Inspection
from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.checkup.pages import ExamplePage
from sft_app.data.conversation import make_conversation
from sft_app.data.formats.detection import DetectedLayout
from sft_app.data.reading import Example, load_data, open_data
from sft_app.data.rows import Rejected
from sft_app.evaluation.answer_pairs import AnswerPair
from sft_app.evaluation.judge.result import JudgeResult, Share
from sft_app.evaluation.prompt_job import PromptJob
from sft_app.evaluation.prompt_sets import Prompt, PromptFile, PromptResult
from sft_app.evaluation.votes import Ballot, Vote, VotingProgress
from sft_app.export.fidelity import Fidelity
from sft_app.export.merged import MergedModel, Step
from sft_app.export.ollama import OllamaModel
from sft_app.export.package import OllamaPackage
from sft_app.inference.chat import Exchange, PairChat
from sft_app.inference.next_tokens import TokenCandidate
from sft_app.runs.known import KindCounts, Known, KnownCounts, LostQuestion
from sft_app.runs.memorised import Memorised, RepeatedAnswer
from sft_app.runs.records import ModelRecord, RunRecord, RunStatus, Snapshot, SourceRecord, StepMetrics
from sft_app.runs.scorecard import PromptedScores
from sft_app.runs.strength import StrengthChoice, TriedStrength
from sft_app.runs.suite_scores import JudgedAnswer, JudgedTest, SuiteScores
from sft_app.settings import DataSettings, RunSettings
from sft_app.templating import TEMPLATES
from sft_app.training.preflight.fitting import Suggestion
from sft_app.ui import views
from sft_app.ui.compare import blind_views, prompt_set_views, scorecard_views, suite_views
from sft_app.ui.compare import views as compare_views
from sft_app.ui.data import example_views
from sft_app.ui.data import views as data_views
from sft_app.ui.data.example_views import Draft, Request
from sft_app.ui.export import views as export_views
from sft_app.ui.runs import run_views
from sft_app.ui.train import preflight_views
from tests.ui.compare.test_scorecard_panel import ROW, SHORT, card_of, whole
from tests.ui.compare.test_views_of_answers import updated
from tests.ui.test_preflight_views import FOUND
from tests.ui.test_run_views import summary
from tests.ui.test_views import SUMMARY, snapshot

BAD = """<script>alert(1)</script>"'>&{{7*7}}{%x%}<img src=x onerror=alert(1)>"""
TAGS = {"script", "img"}
ATTRIBUTES = {"class", "style", "id", "role", "title", "colspan", "aria-label", "aria-valuenow", "data-side", "open"}
ROW_ATTRIBUTES = {"type", "aria-live", "tabindex"}
TABLE_ATTRIBUTES = {"rows", "type", "scope", "hidden", "disabled"}
SVG_ATTRIBUTES = {"viewbox", "preserveaspectratio", "d", "fill", "stroke"}
METRICS = [StepMetrics(step=step, loss=3.0 - step, heldout_loss=2.0, learning_rate=0.1) for step in range(3)]
BROKEN = [*METRICS, StepMetrics(step=3, loss=float("nan"))]
PARTS = {  # other templates import them; those of the report are tried with it
    *("macros.html", "curves/macros.html", "compare/panes.html"),
    *("report_known.html", "report_beside.html"),
}
REPORT = "report.html"  # see tests/export/test_report.py


def data_facts(folder: Path) -> str:
    file = folder / "rows.csv"
    file.write_text("q<b>,a<b>\nHi,Yo\n")
    columns = ("user=q<b>", "assistant=a<b>")
    loaded = load_data(open_data(DataSettings(data=str(file), columns=columns), folder), None)
    shown = data_views.data_summary_card(loaded)
    assert "q&lt;b&gt; → a&lt;b&gt;" in shown and "<b>" not in shown
    return shown


def readings() -> list[str]:
    talk = make_conversation([{"role": "user", "content": BAD}, {"role": "assistant", "content": BAD}])
    guesses = [
        (DetectedLayout("columns", BAD, (f"user={BAD}", f"assistant={BAD}")), talk),
        (DetectedLayout("text", f"`{BAD}`"), None),
    ]
    return [
        data_views.reading_card("guess", [BAD], guesses),
        data_views.reading_card("guess", [], guesses[:1]),
        data_views.reading_card("certain", [BAD], guesses),
        data_views.reading_card("certain", [BAD], guesses[:1]),
        data_views.reading_card("chosen", [BAD], guesses),
    ]


def findings(folder: Path) -> list[str]:
    found = [Finding("few", [], BAD), Finding("duplicate", [1, 2], BAD, "drop_duplicates")]
    inspections = [
        Inspection(None, None, 4, 4, [], found[:count], None, None, 1)  # type: ignore[arg-type]
        for count in (2, 1, 0)
    ]
    return [data_views.findings_list(inspection) for inspection in inspections]


def lengths() -> str:
    numbers = np.arange(1, 41)
    limits = (20, 64, 128)
    within = np.minimum(numbers[:, None], limits)
    return data_views.length_chart(TokenLengths(numbers, numbers, numbers, within, limits, [], 50, 20, 64, 1))


def preflights() -> list[str]:
    found = replace(FOUND, data=BAD, memory_free_gib=1.0, disk_free_gib=0.5)
    suggestion = Suggestion({}, BAD, found)
    return [
        preflight_views.preflight_card(found, suggestion, is_guess=True),
        preflight_views.preflight_card(FOUND, None),
    ]


def merged(folder: Path) -> list[str]:
    model = MergedModel(folder, Fidelity("r", unchecked=BAD))
    package = OllamaPackage(OllamaModel(folder, BAD, BAD, (BAD,)), gguf_problem=BAD)
    return [export_views.merged_card(model, BAD, package), export_views.merged_card(model, "", None)]


def conversations() -> list[str]:
    chats = [
        PairChat((BAD, BAD), exchanges=earlier, question=question)
        for earlier in ([], [Exchange(BAD, BAD, BAD)])
        for question in (BAD, "")
    ]
    update = updated(BAD, f"{BAD} more")
    complete = [pane for view in compare_views.VIEWS for pane in compare_views.panes(chats[2], update, view, "done")]
    return complete + [pane for chat in chats for pane in compare_views.panes_without_answer(chat, "waiting")]


def invitations() -> list[str]:
    counts = [(1, 0, []), (2, 1, [BAD, BAD]), (0, 0, []), (0, 3, [])]
    return [blind_views.invitation_card(BAD, pairs, alike, voters) for pairs, alike, voters in counts]


def votes() -> list[str]:
    cast = [Vote(voter=BAD, pair="p", choice="tuned"), Vote(voter="Ann", pair="p", choice="tie")]
    return [blind_views.result_card(cast, BAD), blind_views.result_card(cast, "Bob"), blind_views.result_card([], BAD)]


def judged() -> list[str]:
    share = Share(9, 1)
    results = [JudgeResult((BAD, BAD, BAD), 20, wins, 1, 2, 3, share, 9, 2) for wins in (share, Share(0, 0))]
    return [blind_views.judge_card(results)]


def prompts() -> list[str]:
    results = [PromptResult(1, BAD, BAD, BAD, f"{BAD} more", 0.5), PromptResult(2, BAD, "", "", "", None, BAD)]
    return [prompt_set_views.pair_card(result, (BAD, BAD)) for result in results]


def changed_rows() -> str:
    asked = [{"role": "user", "content": BAD}, {"role": "assistant", "content": BAD}]
    rows = [{**ROW, "messages": asked, "answers": [BAD, None]}, {**ROW, "messages": asked[1:], "answers": []}]
    card = card_of(**SHORT, most_changed={"improved": rows, "damaged": rows[:1]})
    return scorecard_views.changed_rows_view(card)


def scorecards() -> list[str]:
    card = {**whole(0.1, 0.3).as_record(), "note": BAD}
    return [
        scorecard_views.scorecard_view(card_of(**card)),
        scorecard_views.scorecard_view(card_of(**{**card, "rows": {"better": 1, "worse": 0}})),
    ]


def with_results_beside() -> list[str]:
    """A scorecard with what was lost, a prompt that was not asked, and memorised answers."""
    counts = KnownCounts(asked=9, known=9, lost=1, high=0.5, kinds={BAD: KindCounts(asked=9, known=9, lost=1)})
    lost = LostQuestion(kind=BAD, question=BAD, reference=BAD, base=BAD, tuned=BAD, failed=[BAD])
    worst = [RepeatedAnswer(row=1, question=BAD, answer=BAD, share=0.9, training_row=2, training_answer=BAD)]
    parts = {
        "known": Known(by_answer=counts, lost=[lost]),
        "prompted": PromptedScores(examples=3, note=BAD),
        "memorised": Memorised(answers=8, tuned=0.9, base=0.1, references=0.1, mostly=6, worst=worst),
    }
    tried = [TriedStrength(strength=share, heldout_loss=1.0, known=9, lost=1) for share in (1.0, 0.75)]
    strength = StrengthChoice(chosen=0.75, questions=40, tried=tried)
    return [scorecard_views.scorecard_view(card_of(**SHORT).model_copy(update=parts), strength)]


def suites() -> list[str]:
    judged = JudgedTest(name=BAD, prompt=BAD, answers=[JudgedAnswer(answer=BAD, failed=[BAD])] * 2)
    found = SuiteScores(origin=BAD, sides=[BAD, BAD], tests=[judged])
    return [suite_views.suite_card(found), suite_views.suite_card(SuiteScores(origin=BAD, problem=BAD))]


def comparisons() -> list[str]:
    runs = [summary(BAD), summary(BAD, 2.0)]
    return [
        run_views.comparison_card(runs, [(BAD, [BAD, BAD]), ("seed", ["1", BAD])]),
        run_views.comparison_card(runs, []),
    ]


SHOWN: dict[str, Callable[[Path], str | list[str]]] = {
    "notice.html": lambda folder: [views.empty_card(BAD), views.problem_card(BAD)],
    "paragraph.html": lambda folder: [
        blind_views.note(BAD),
        export_views.warning_line(BAD),
        prompt_set_views.file_note(PromptFile((Prompt("Q"),), (BAD,), BAD, BAD, 1)),
        prompt_set_views.click_a_row(),
    ],
    "status.html": lambda folder: views.status_card(
        SUMMARY.model_copy(update={"name": BAD}), RunStatus(state="failed", message=BAD, hint=BAD), []
    ),
    "watch.html": lambda folder: [
        views.watch_cards(times, place)
        for times in ([watched(0), watched(5)], [watched(0)])
        for place in range(len(times))
    ],
    "data/facts.html": data_facts,
    "data/reading.html": lambda folder: readings(),
    "data/findings.html": findings,
    "data/row.html": lambda folder: data_views.row_card(data_views.ShownRow(3, True), None, BAD, BAD),
    "data/cleaned.html": lambda folder: data_views.cleaned_card(
        Cleaning(BAD.replace("/", ""), {}, [AppliedFix("drop_duplicates", [3, 4])], [Rejected(7, BAD)])
    ),
    "data/lengths.html": lambda folder: lengths(),
    "data/example_message.html": lambda folder: example_views.table_message(BAD),
    "data/example_table.html": lambda folder: example_tables(),
    "train/preflight.html": lambda folder: preflights(),
    "export/progress.html": lambda folder: export_views.merge_progress_card(Step(0.254, BAD)),
    "export/merged.html": merged,
    "compare/blank_pane.html": lambda folder: [compare_views.blank_pane("left"), compare_views.blank_pane("right")],
    "compare/conversation.html": lambda folder: conversations(),
    "compare/evidence.html": lambda folder: compare_views.evidence_line([BAD, BAD], [BAD, BAD]),
    "compare/candidates.html": lambda folder: [
        compare_views.candidates_card([TokenCandidate(BAD, 0.25, 0.5)], before, (BAD, BAD)) for before in ("", BAD)
    ],
    "compare/invitation.html": lambda folder: invitations(),
    "compare/ballot.html": lambda folder: [
        blind_views.ballot_card(Ballot(pair, True)) for pair in (bad_pair(BAD, BAD), bad_pair("", "x"))
    ],
    "compare/voting_progress.html": lambda folder: [
        blind_views.progress_line(VotingProgress(voted, total, 0), BAD, BAD)
        for voted, total in ((0, 0), (1, 3), (3, 3))
    ],
    "compare/votes.html": lambda folder: votes(),
    "compare/judge.html": lambda folder: judged(),
    "compare/progress.html": lambda folder: prompt_set_views.prompts_progress_card(
        PromptJob(3, results=[PromptResult(1, BAD, "", "", "", None, BAD)], is_kept=True), BAD
    ),
    "compare/prompt.html": lambda folder: prompts(),
    "compare/scorecard.html": lambda folder: scorecards(),
    "compare/known.html": lambda folder: with_results_beside(),
    "compare/strength.html": lambda folder: with_results_beside(),
    "compare/beside_training.html": lambda folder: with_results_beside(),
    "compare/tests.html": lambda folder: suites(),
    "compare/changed_rows.html": lambda folder: changed_rows(),
    "runs/comparison.html": lambda folder: comparisons(),
    "runs/data.html": lambda folder: views.data_card(
        RunRecord(
            settings=RunSettings(data=BAD),
            source=SourceRecord(
                path=BAD, sha256="", format=BAD, columns=(BAD,), rows=1, conversations=1, rejected=0, notes=[BAD]
            ),
            model=ModelRecord(name=BAD, location=BAD, revision=None, source=BAD),
            versions={},
            created_utc=None,
        )
    ),
    "curves/plot.html": lambda folder: curves.plot([curves.Series(BAD, ((1, 2.0), (2, 1.0)), "#111")]),
    "curves/run.html": lambda folder: [curves.run_curves(METRICS), curves.run_curves(BROKEN)],
    "curves/runs.html": lambda folder: [
        curves.loss_of_runs(runs)
        for runs in ([(BAD, BROKEN), ("B", METRICS)], [(BAD, BROKEN[3:]), ("B", [])], [(BAD, [])])
    ],
}
# They show numbers and words of the app only.
WITHOUT_TEXT_OF_OTHERS = {"data/facts.html", "data/lengths.html", "compare/blank_pane.html", "curves/run.html"}


def watched(step: int) -> Snapshot:
    found = snapshot(step, BAD, f"{BAD}{step}")
    answers = [answer.model_copy(update={"prompt": BAD, "broken": step > 0}) for answer in found.answers]
    return found.model_copy(update={"answers": answers})


def bad_pair(base: str, tuned: str) -> AnswerPair:
    return AnswerPair(prompt=BAD, base=base, tuned=tuned)


def example_tables() -> list[str]:
    """Examples as they are in the file, edited, removed and new, with text that is locked."""
    messages = [{"role": role, "content": BAD} for role in ("system", "user", "assistant", "tool", "assistant")]
    example = Example(3, make_conversation(messages))
    changes = {0: Change(BAD, {1: f"{BAD}!", 2: BAD}), 1: Change(BAD, removed=True)}
    request = Request({BAD: Draft(changes, [{"user": BAD, "assistant": BAD}]), "other": Draft()})
    tables = [example_views.edit_table(ExamplePage(0, [example] * 2, 2), request, key, BAD, [BAD]) for key in (BAD, "")]
    return [*tables, example_views.writing_table()]


class Reader(HTMLParser):
    """The tags, the names of attributes and the text of HTML, entities undone."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.text += " ".join(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("template", SHOWN)
def test_text_of_others_is_shown_and_never_becomes_markup(template: str, tmp_path: Path) -> None:
    shown = SHOWN[template](tmp_path)
    parts = [shown] if isinstance(shown, str) else shown
    for html in parts:
        read = Reader(html)
        named = {name for name in read.attributes if not re.fullmatch(r"data-[a-z]+", name)}
        allowed = ATTRIBUTES | SVG_ATTRIBUTES | ROW_ATTRIBUTES | TABLE_ATTRIBUTES
        assert read.tags.isdisjoint(TAGS) and named <= allowed, html
        assert "&49" not in read.text
    if template not in WITHOUT_TEXT_OF_OTHERS:
        needle = BAD.replace("/", "") if template == "data/cleaned.html" else BAD
        assert needle in Reader(parts[0]).text


def test_every_template_is_tried() -> None:
    templates = {file.relative_to(TEMPLATES).as_posix() for file in TEMPLATES.rglob("*.html")}
    assert templates == {*SHOWN, *PARTS, REPORT}

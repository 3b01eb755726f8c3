"""Turn the results of tests into HTML: how many each side passes, and every failing answer. Without Gradio."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sft_app.evaluation.suites.running import Batch, suite_scores
from sft_app.evaluation.suites.summary import listed, paired_counts, pass_rates, suite_sentence
from sft_app.evaluation.suites.tests_file import Suite
from sft_app.runs.folder import Run
from sft_app.runs.scorecard import Scorecard
from sft_app.runs.suite_scores import JudgedTest, SuiteScores
from sft_app.templating import render_html
from sft_app.ui import views

NO_TESTS = (
    "Write a prompt and a check, load a file, or start from checks that the run's examples suggest. Then press “Run "
    "tests”: both sides answer each prompt."
)


@dataclass
class SuiteJob:
    """The tests at work on one page, and the results so far. Once `is_stopping` is set, no further batch begins."""

    suite: Suite = field(default_factory=lambda: Suite(()))
    labels: tuple[str, ...] = ("Base model", "Fine-tuned")
    run: Run | None = None
    judged: Batch = field(default_factory=list)
    is_stopping: bool = False
    is_at_work: bool = False

    def begin(self, suite: Suite, labels: tuple[str, ...], run: Run | None) -> None:
        """Begin with the tests of `suite`. The right side is of the `run`, if it is one's own."""
        self.suite, self.labels, self.run, self.judged, self.is_stopping = suite, labels, run, [], False

    def scores(self) -> SuiteScores:
        """Return the results so far, with the number of tests that ask what the run was trained on or chosen by."""
        from sft_app.evaluation.selection import with_flattering_tests

        scores = suite_scores(self.suite, self.labels, self.judged)
        done = replace(self.suite, tests=tuple(self.suite.tests[index] for index, _ in self.judged))
        return with_flattering_tests(self.run, scores, done) if self.run else scores


def job_card(job: SuiteJob, note: str = "") -> str:
    """Show the progress while tests run, and the results once they have ended or were stopped."""
    total, done = len(job.suite.tests), len(job.judged)
    if not total:
        return views.empty_card(NO_TESTS)
    if job.is_at_work or note:
        stopping = ", stopping after the tests in progress …" if job.is_stopping else ""
        title = note or f"{done:,} of {total:,} tests{stopping}"
        return render_html("compare/progress.html", title=title, percent=100 * done / total, remarks=[])
    if done == total:
        return suite_card(job.scores())
    stopped = f"Stopped: {done:,} of {total:,} tests were run."
    return suite_card(job.scores(), stopped) if done else views.empty_card(stopped)


def tests_view(card: Scorecard) -> str:
    """Show the results of the run's own tests; "" if it has none."""
    return suite_card(card.tests) if card.tests is not None else ""


def suite_card(scores: SuiteScores, note: str = "") -> str:
    """Show how many tests each side passes, and what fails with which answer."""
    found = paired_counts(scores) if len(scores.sides) == 2 and scores.tests else None
    labels = scores.sides
    counts = (
        [
            ("passed by both", found.both),
            (f"only by {labels[1]}", found.only_second),
            (f"only by {labels[0]}", found.only_first),
            ("by neither", found.neither),
        ]
        if found
        else []
    )
    return render_html(
        "compare/tests.html",
        sentence=" ".join(filter(None, [note, suite_sentence(scores)])),
        origin=scores.origin,
        rates=[(rate.side, str(rate)) for rate in pass_rates(scores)],
        counts=counts,
        failing=[_judged(test, labels) for test in scores.tests if not all(one.passed for one in test.answers)],
        passing=[test.name for test in scores.tests if all(one.passed for one in test.answers)],
    )


def _judged(test: JudgedTest, labels: list[str]) -> tuple[str, str, str, list[tuple[str, bool, str, list[str]]]]:
    """Return name, prompt, outcome, and (label, passed, answer, failed checks) of each side."""
    failing = [label for label, one in zip(labels, test.answers, strict=True) if not one.passed]
    answers = [
        (label, one.passed, one.answer if one.answer is not None else "No complete answer.", one.failed)
        for label, one in zip(labels, test.answers, strict=True)
    ]
    return test.name, test.prompt, f"failed by {listed(failing)}", answers

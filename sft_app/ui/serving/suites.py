"""Run the tests that people write, for the page and the API: with their limits, and on a lent GPU too."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sft_app.errors import DataError
from sft_app.runs.suite_scores import SuiteScores
from sft_app.ui.context import PageContext
from sft_app.ui.serving.zero_gpu import results_of

if TYPE_CHECKING:
    from sft_app.evaluation.sides.more_sides import MoreSide
    from sft_app.evaluation.suites.running import Batch
    from sft_app.evaluation.suites.tests_file import Suite
    from sft_app.inference.sides import Side


def kept_suite(context: PageContext, side: str | None) -> Suite | None:
    """Return the tests kept with the run of a side; None if it is no run or has none. Raises: DataError."""
    from sft_app.evaluation.suites.kept import kept_tests

    run = context.sides.find_run(side)
    return kept_tests(run) if run else None


def suite_batches(
    context: PageContext, sides: tuple[Side, Side], suite: Suite, more: tuple[MoreSide, ...] = ()
) -> Iterator[Batch]:
    """Yield the judged tests batch by batch, with the right side's system prompt and the most likely tokens.

    Raises: AppError, also if a visitor exceeds the limits of this Space.
    """
    from sft_app.evaluation.suites.running import SuiteTask
    from sft_app.inference.sides import conditions_of

    system, sampling = conditions_of(sides[1], context.home, temperature=0.0)
    if not context.access.is_trusted():
        most = context.hosting.limits.max_new_tokens
        sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, most))
    asked = ["\n".join(message["content"] for message in test.messages) for test in suite.tests]
    context.access.check_questions(asked, system, sampling.max_new_tokens)

    def batches() -> Generator[Batch]:
        yield from results_of(context.models, sides, SuiteTask(suite, system, sampling, more))

    return context.access.within_time(batches())


def run_all(context: PageContext, left: str, right: str, more: list[str], tests: Any, names: list[str]) -> SuiteScores:
    """Run tests, given as plain values or else kept with the run, and return their results. Raises: AppError.

    `more` are the names of further sides.
    """
    from sft_app.evaluation.selection import with_flattering_tests
    from sft_app.evaluation.sides.more_sides import labels_of
    from sft_app.evaluation.suites.running import suite_scores
    from sft_app.evaluation.suites.tests_file import parse_tests

    sides, further = context.sides.find_with_more(left, right, more)
    suite = parse_tests(tests) if tests is not None else kept_suite(context, sides[1].name)
    if suite is None:
        raise DataError("No tests are saved with this run. Give a list of tests.")
    chosen = suite.chosen(names)
    judged = [one for batch in suite_batches(context, sides, chosen, further) for one in batch]
    scores, run = suite_scores(chosen, labels_of(sides, further), judged), context.sides.find_run(sides[1].name)
    return with_flattering_tests(run, scores, chosen) if run else scores

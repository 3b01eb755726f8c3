"""Run tests on two sides, and the tests kept with a run. Imports no torch before the first batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft_app.data.messages import END_OF_THOUGHT
from sft_app.errors import DataError, ModelError
from sft_app.evaluation.checks import Check, failures
from sft_app.evaluation.prompt_sets import PROMPTS_AT_ONCE
from sft_app.evaluation.scorable_rows import number_equal
from sft_app.evaluation.sides.more_sides import MoreSide, Question, SideText, labels_of, open_sides
from sft_app.evaluation.suites.kept import kept_tests
from sft_app.evaluation.suites.tests_file import Suite, WrittenTest
from sft_app.runs.folder import Run
from sft_app.runs.suite_scores import JudgedAnswer, JudgedTest, SuiteScores
from sft_app.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from sft_app.inference.generation import Answer, Sampling
    from sft_app.inference.pair import LoadedPair

BROKEN = "There is no complete answer: the model produced NaN or infinite values."
Batch = list[tuple[int, JudgedTest]]


@dataclass(frozen=True)
class SuiteTask:
    """Runs tests on both sides and on further ones; each result is a batch of judged tests with their index."""

    suite: Suite
    system: str
    sampling: Sampling
    more: tuple[MoreSide, ...] = ()

    @property
    def steps(self) -> int:
        return (2 + len(self.more)) * self.sampling.max_new_tokens * -(-len(self.suite.tests) // PROMPTS_AT_ONCE)

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        return run_batches(pair, self.suite, self.system, self.sampling, self.more)


def run_batches(
    pair: LoadedPair, suite: Suite, system: str, sampling: Sampling, more: Sequence[MoreSide] = ()
) -> Iterator[Batch]:
    """Yield the judged tests batch by batch. Closing the generator stops the work.

    Prompts of similar length share a batch; further sides answer each batch after the pair, one after the other.
    `system` is used by tests without a system message.

    Raises: DataError if the model has no chat template, or it rejects a conversation.
    """
    from sft_app.data.tokens import render_prompt
    from sft_app.inference.batch_generation import answer_each

    pair, further = open_sides(pair, more)
    questions = [_with_system(test, system) for test in suite.tests]
    prompts = [render_prompt(pair.tokenizer, messages) for messages in questions]
    numbers = number_equal(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), PROMPTS_AT_ONCE):
        batch = order[start : start + PROMPTS_AT_ONCE]
        answered = list(answer_each(pair, [prompts[index] for index in batch], sampling))
        asked = [Question(questions[index], prompts[index]) for index in batch]
        texts = [answer(asked, sampling) for answer in further]
        yield [
            (index, _judge(suite, (index, numbers[index]), answered[place], [side[place] for side in texts]))
            for place, index in enumerate(batch)
        ]


def run_suite(
    pair: LoadedPair,
    suite: Suite,
    system: str,
    sampling: Sampling,
    on_progress: ProgressCallback = lambda share: None,
    more: Sequence[MoreSide] = (),
) -> SuiteScores:
    """Run all tests on both sides and on further ones. Raises: DataError as `run_batches`."""
    judged: Batch = []
    for batch in run_batches(pair, suite, system, sampling, more):
        judged += batch
        on_progress(len(judged) / len(suite.tests))
    return suite_scores(suite, labels_of(pair.sides, more), judged)


def run_kept_tests(
    run: Run, pair: LoadedPair, on_progress: ProgressCallback
) -> tuple[SuiteScores, Suite | None] | None:
    """Run the tests kept with a run, always taking the most likely token; None if it has none.

    Tests that cannot be read or rendered are reported in the result, because they must not fail the run. The tests that
    were run are returned with it, since others may be saved meanwhile; None if they were not run.
    """
    from sft_app.inference.generation import Sampling

    settings = run.record().settings
    try:
        if suite := kept_tests(run):
            sampling = Sampling(0.0, settings.seed, settings.max_new_tokens)
            return run_suite(pair, suite, settings.system_prompt, sampling, on_progress), suite
    except DataError as error:
        return SuiteScores(origin=run.tests_file.name, sides=[], tests=[], problem=str(error)), None
    on_progress(1.0)
    return None


def suite_scores(suite: Suite, labels: Sequence[str], judged: Batch) -> SuiteScores:
    """Put judged tests in the order of the file."""
    return SuiteScores(origin=suite.origin, sides=list(labels), tests=[test for _, test in sorted(judged, key=_index)])


def judge_answer(checks: Sequence[Check], answer: Answer) -> JudgedAnswer:
    """Judge an answer, without the thought before it; a broken one never passes."""
    if answer.broken:
        return JudgedAnswer(answer=None, failed=[BROKEN])
    return JudgedAnswer(answer=answer.text, failed=_failed(checks, answer.text, answer.finished))


def _index(judged: tuple[int, JudgedTest]) -> int:
    return judged[0]


def _judge(
    suite: Suite, place: tuple[int, int], both: tuple[Answer, Answer] | ModelError, more: Sequence[SideText]
) -> JudgedTest:
    """Judge the answers to a test; `place` is its index and the number of its conversation."""
    test = suite.tests[place[0]]
    checks = suite.checks_of(test)
    if isinstance(both, ModelError):
        answers = [JudgedAnswer(answer=None, failed=[str(both)])] * 2
    else:
        answers = [judge_answer(checks, answer) for answer in both]
    answers += [_judge_text(checks, text) for text in more]
    return JudgedTest(name=test.name, prompt=test.prompt, answers=answers, conversation=place[1])


def _judge_text(checks: Sequence[Check], text: SideText) -> JudgedAnswer:
    """Judge the answer of a further side. A recorded one counts as ended, since nobody knows whether it was."""
    if text.problem:
        return JudgedAnswer(answer=None, failed=[text.problem])
    return JudgedAnswer(answer=text.text, failed=_failed(checks, text.text, text.finished is not False))


def _failed(checks: Sequence[Check], text: str, finished: bool) -> list[str]:
    """Return the checks that fail, without judging the thought before the answer."""
    said = text.rpartition(END_OF_THOUGHT)[2].lstrip() if END_OF_THOUGHT in text else text
    return failures(checks, said, finished)


def _with_system(test: WrittenTest, system: str) -> list[dict[str, str]]:
    has_system = test.messages[0]["role"] == "system" or not system.strip()
    return [*([] if has_system else [{"role": "system", "content": system}]), *test.messages]

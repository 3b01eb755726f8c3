"""Compare any number of sides of a prompt set with reference answers, and ask whether one is not worse than another.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from sft_app.errors import SettingsError
from sft_app.evaluation.answer_metrics import ANSWER_METRICS, score_answer
from sft_app.evaluation.prompt_sets import PromptResult
from sft_app.evaluation.sides.more_sides import SideText, prompt_key
from sft_app.evaluation.statistics.bounded import bounded_mean_intervals, fewest_equal_rows
from sft_app.evaluation.statistics.exact import paired_share_interval
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE
from sft_app.runs.scorecard import Interval

NotWorse = Literal["not worse", "worse", "not enough rows to tell", "answers missing"]
DEFAULT_METRIC = "chrf"


@dataclass(frozen=True)
class SideMetrics:
    """The means of a side over the prompts that have a reference and were answered by every side.

    Equal prompts count as one, with the mean of their scores. A metric that is unknown is missing, as whether recorded
    answers were ended by the model. `missing` counts all prompts without an answer of this side.
    """

    name: str
    label: str
    prompts: int
    missing: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class NonInferiority:
    """Whether the right side is not worse than another by more than a margin.

    `difference` is the right side minus the other, with its 95 % interval; all three are None without a prompt.
    `prompts` counts different prompts, `copies` those that repeat one. A prompt that only the right side did not answer
    is `failed` and has the worst score; prompts that the other side did not answer are `left_out`.
    """

    against: str
    metric: str
    margin: float
    prompts: int
    difference: float | None
    low: float | None
    high: float | None
    verdict: NotWorse
    sentence: str
    copies: int = 0
    failed: int = 0
    left_out: int = 0

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Changes:
    """The change of each row's score from the other side to the right one, by prompt, and what is not in it."""

    by_prompt: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    left_out: int = 0

    def add(self, prompt: str, change: float) -> None:
        self.by_prompt.setdefault(prompt_key(prompt), []).append(change)

    def copies(self) -> int:
        return sum(map(len, self.by_prompt.values())) - len(self.by_prompt)

    def means(self) -> np.ndarray:
        """Return the mean change of each different prompt."""
        return np.array([np.mean(changes) for changes in self.by_prompt.values()])


def side_metrics(results: Sequence[PromptResult], names: Sequence[str], labels: Sequence[str]) -> list[SideMetrics]:
    """Return each side's means, in the order of `names`; [] if no prompt has a reference and every side's answer."""
    complete = [one for one in results if one.reference.strip() and not any(side.problem for side in one.sides())]
    if not complete:
        return []
    return [
        SideMetrics(
            name,
            label,
            len({prompt_key(one.prompt) for one in complete}),
            sum(bool(result.sides()[index].problem) for result in results),
            _means(complete, index),
        )
        for index, (name, label) in enumerate(zip(names, labels, strict=True))
    ]


def not_worse_than(
    results: Sequence[PromptResult], names: Sequence[str], against: str, margin: float, metric: str = DEFAULT_METRIC
) -> NonInferiority:
    """Ask whether the right side is worse than the side `against` by no more than `margin`, in the metric's own unit.

    The answer is yes if the whole 95 % interval of the paired difference lies above -`margin`: a one-sided test at
    2.5 %. The prompts are those that have a reference and an answer of the other side; equal prompts count as one. An
    answer that the right side failed to give has the worst score, and then the answer is never yes.
    Source: Piaggio et al. 2012, "Reporting of noninferiority and equivalence randomized trials" (CONSORT).

    Raises: SettingsError if there is no such side or metric, or the margin is not above 0.
    """
    changes = _changes(results, check_question(names, against, margin, metric), metric)
    means = changes.means()
    interval = _interval(means, metric) if len(means) else Interval(value=math.nan)
    verdict, sentence = _conclude(against, metric, margin, len(means), interval, changes.failed)
    return NonInferiority(
        against,
        metric,
        margin,
        len(means),
        interval.value if len(means) else None,
        interval.low,
        interval.high,
        verdict,
        " ".join([sentence, *_remarks(changes, against)]),
        changes.copies(),
        changes.failed,
        changes.left_out,
    )


def check_question(names: Sequence[str], against: str, margin: float, metric: str) -> int:
    """Return the position of the side `against`.

    Raises: SettingsError if there is no such side or metric, or the margin makes no sense.
    """
    judged = {name: one for name, one in ANSWER_METRICS.items() if one.direction}
    if metric not in judged:
        raise SettingsError(f"There is no metric {metric!r} to judge by. Choose one of: {', '.join(judged)}.")
    if against not in names or names.index(against) == 1:
        others = ", ".join(name for position, name in enumerate(names) if position != 1)
        raise SettingsError(f"{against!r} is not one of the other sides. Choose one of: {others}.")
    if not 0 < margin < 1:
        raise SettingsError("The margin must be between 0 and 1, for example 0.05 for five percentage points.")
    return names.index(against)


def _means(complete: Sequence[PromptResult], index: int) -> dict[str, float]:
    """Return a side's mean of each metric that is known, over the different prompts."""
    texts = [one.sides()[index] for one in complete]
    scores = [_scores(text, one.reference) for text, one in zip(texts, complete, strict=True)]
    knows_end = all(text.finished is not None for text in texts)
    found = {}
    for name in (name for name in ANSWER_METRICS if knows_end or name != "stopped"):
        by_prompt = _Changes()
        for one, score in zip(complete, scores, strict=True):
            by_prompt.add(one.prompt, score[name])
        found[name] = float(by_prompt.means().mean())
    return found


def _changes(results: Iterable[PromptResult], other: int, metric: str) -> _Changes:
    found = _Changes()
    for one in results:
        before, after = one.sides()[other], one.sides()[1]
        if not one.reference.strip():
            continue
        if before.problem:
            found.left_out += 1
            continue
        found.failed += bool(after.problem)
        right = _worst(metric) if after.problem else _score(after, one.reference, metric)
        found.add(one.prompt, right - _score(before, one.reference, metric))
    return found


def _scores(text: SideText, reference: str) -> dict[str, float]:
    from sft_app.inference.generation import Answer

    return score_answer(Answer(text.text, finished=bool(text.finished)), reference)


def _score(text: SideText, reference: str, metric: str) -> float:
    if metric == "stopped" and text.finished is None:
        raise SettingsError("Whether recorded answers were ended by their model is unknown. Choose another metric.")
    return _scores(text, reference)[metric]


def _worst(metric: str) -> float:
    return 0.0 if ANSWER_METRICS[metric].direction > 0 else 1.0


def _interval(changes: np.ndarray, metric: str) -> Interval:
    """Return the mean of the changes with its 95 % interval, which no metric that is judged by can leave [-1, 1]."""
    value = float(changes.mean())
    if _is_yes_or_no(changes, metric):
        lost, gained = int((changes < 0).sum()), int((changes > 0).sum())
        low, high = paired_share_interval(lost, gained, len(changes))
        return Interval(value=value, low=low, high=high)
    ((low, high),) = bounded_mean_intervals(changes[:, None].clip(-1, 1)).tolist()
    return Interval(value=value, low=low, high=high)


def _is_yes_or_no(changes: np.ndarray, metric: str) -> bool:
    """Return whether each change is that of a yes or no; copies of a prompt can have different references."""
    return ANSWER_METRICS[metric].is_yes_or_no and bool(np.isin(changes, (-1, 0, 1)).all())


def _conclude(
    against: str, metric: str, margin: float, prompts: int, interval: Interval, failed: int
) -> tuple[NotWorse, str]:
    label, direction = ANSWER_METRICS[metric].label, ANSWER_METRICS[metric].direction
    low, high = interval.low, interval.high
    what = f"more than {100 * margin:g} percentage points worse than those of “{against}” ({label}"
    counted = "1 prompt" if prompts == 1 else f"{prompts:,} different prompts"
    needed = f"At least {_fewest(metric, margin)} different prompts are needed if the answers are equally good."
    if low is None or high is None or prompts < FEWEST_TO_JUDGE:
        return "not enough rows to tell", (
            f"Not enough rows to tell whether the answers are {what}, {counted} with a reference"
            f"{'' if failed else ' and both answers'}). {needed}"
        )
    worst, best = (low, high) if direction > 0 else (-high, -low)
    span = f"95% interval {100 * low:+.1f} to {100 * high:+.1f}"
    found = f"{what}, {counted}: difference {100 * interval.value:+.1f}, {span})."
    if failed and best >= -margin:
        return "answers missing", f"It cannot be said whether the answers are {found}"
    if worst > -margin:
        return "not worse", f"The answers are not {found}"
    if best < -margin:
        return "worse", f"The answers are {found}"
    few = f" {needed}" if prompts < _fewest(metric, margin) else ""
    return "not enough rows to tell", f"Not enough rows to tell whether the answers are {found}{few}"


def _fewest(metric: str, margin: float) -> int:
    """Return how many prompts with equal scores exclude a change of `margin`."""
    tail = 0.0125 if ANSWER_METRICS[metric].is_yes_or_no else 0.025
    return max(FEWEST_TO_JUDGE, fewest_equal_rows(margin, tail))


def _remarks(changes: _Changes, against: str) -> list[str]:
    """Say which prompts are not in the comparison, and which are in it in another way."""
    failed, left_out, copies = changes.failed, changes.left_out, changes.copies()
    remarks = []
    if failed:
        one = "1 prompt was" if failed == 1 else f"{failed} prompts were"
        remarks.append(f"{one} not answered by the right side and got the worst score.")
    if left_out:
        one = "1 prompt is" if left_out == 1 else f"{left_out} prompts are"
        remarks.append(f"{one} left out: no answer of “{against}”.")
    if copies:
        one = "1 copy of a prompt does" if copies == 1 else f"{copies} copies of prompts do"
        remarks.append(f"{one} not count again.")
    return remarks

"""Compare any number of sides of a prompt set with reference answers, and ask whether one is not worse than another.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sft_app.errors import SettingsError
from sft_app.evaluation.answer_metrics import ANSWER_METRICS, score_answer
from sft_app.evaluation.prompt_sets import PromptResult
from sft_app.evaluation.sides.more_sides import SideText
from sft_app.evaluation.statistics.exact import paired_share_interval
from sft_app.evaluation.statistics.intervals import paired_intervals
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE
from sft_app.runs.scorecard import Interval

NotWorse = Literal["not worse", "worse", "not enough rows to tell"]
DEFAULT_METRIC = "chrf"


@dataclass(frozen=True)
class SideMetrics:
    """The means of a side over the prompts that have a reference and were answered by every side.

    A metric that is unknown is missing, as whether recorded answers were ended by the model. `missing` counts all
    prompts without an answer of this side.
    """

    name: str
    label: str
    prompts: int
    missing: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class NonInferiority:
    """Whether the right side is not worse than another by more than a margin.

    `difference` is the right side minus the other, with its 95 % interval; a bound is None if there are too few rows.
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

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def side_metrics(results: Sequence[PromptResult], names: Sequence[str], labels: Sequence[str]) -> list[SideMetrics]:
    """Return each side's means, in the order of `names`; [] if no prompt has a reference and every side's answer."""
    complete, scores = _scored(results, len(names))
    if not complete:
        return []
    return [
        SideMetrics(
            name,
            label,
            len(complete),
            sum(bool(side_texts(result)[index].problem) for result in results),
            _means(scores[index], knows_end=all(side_texts(one)[index].finished is not None for one in complete)),
        )
        for index, (name, label) in enumerate(zip(names, labels, strict=True))
    ]


def not_worse_than(
    results: Sequence[PromptResult], names: Sequence[str], against: str, margin: float, metric: str = DEFAULT_METRIC
) -> NonInferiority:
    """Ask whether the right side is worse than the side `against` by no more than `margin`, in the metric's own unit.

    The answer is yes if the whole 95 % interval of the paired difference lies above -`margin`: a one-sided test at
    2.5 %. The prompts are those that have a reference and both answers. Source: Piaggio et al. 2012, "Reporting of
    noninferiority and equivalence randomized trials" (CONSORT).

    Raises: SettingsError if there is no such side or metric, or the margin is not above 0.
    """
    other = check_question(names, against, margin, metric)
    both = [(one.reference, side_texts(one)) for one in results if one.reference]
    asked = [(sides[other], sides[1], text) for text, sides in both if not (sides[other].problem or sides[1].problem)]
    before = [_score(one, reference, metric) for one, _, reference in asked]
    after = [_score(right, reference, metric) for _, right, reference in asked]
    interval = _interval(before, after, metric) if asked else Interval(value=math.nan)
    verdict, sentence = _conclude(against, metric, margin, len(asked), interval)
    difference = interval.value if asked else None
    return NonInferiority(
        against, metric, margin, len(asked), difference, interval.low, interval.high, verdict, sentence
    )


def side_texts(result: PromptResult) -> list[SideText]:
    """Return the answers of all sides, the two of the pair first."""
    pair = zip((result.base, result.tuned), result.finished, strict=True)
    return [*(SideText(text, result.problem, finished) for text, finished in pair), *result.more]


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


def _scored(results: Sequence[PromptResult], sides: int) -> tuple[list[PromptResult], list[list[dict[str, float]]]]:
    """Return the results with a reference and all answers, and for each side their scores."""
    complete = [one for one in results if one.reference and not any(side.problem for side in side_texts(one))]
    scores = [[_scores(side_texts(one)[side], one.reference) for one in complete] for side in range(sides)]
    return complete, scores


def _scores(text: SideText, reference: str) -> dict[str, float]:
    from sft_app.inference.generation import Answer

    return score_answer(Answer(text.text, finished=bool(text.finished)), reference)


def _score(text: SideText, reference: str, metric: str) -> float:
    if metric == "stopped" and text.finished is None:
        raise SettingsError("Whether recorded answers were ended by their model is unknown. Choose another metric.")
    return _scores(text, reference)[metric]


def _means(scores: Sequence[dict[str, float]], knows_end: bool) -> dict[str, float]:
    names = [name for name in ANSWER_METRICS if knows_end or name != "stopped"]
    return {name: float(np.mean([one[name] for one in scores])) for name in names}


def _interval(before: Sequence[float], after: Sequence[float], metric: str) -> Interval:
    """Return the mean difference with its 95 % interval.

    Where rows are 0 or 1, or all differences are equal, resampling shows too little spread. The exact interval of the
    shares of rows that got better and worse then bounds the difference, because no metric changes by more than 1.
    """
    changes = np.array(after) - np.array(before)
    if ANSWER_METRICS[metric].is_yes_or_no or not np.ptp(changes):
        lost, gained = int((changes < 0).sum()), int((changes > 0).sum())
        low, high = paired_share_interval(lost, gained, len(changes))
        return Interval(value=float(changes.mean()), low=low, high=high)
    one, other = (np.array(side)[:, None] for side in (before, after))
    return paired_intervals(one, other, lambda tables: tables.mean(axis=-2))[0]


def _conclude(
    against: str,
    metric: str,
    margin: float,
    prompts: int,
    interval: Interval,
) -> tuple[NotWorse, str]:
    label, direction = ANSWER_METRICS[metric].label, ANSWER_METRICS[metric].direction
    difference, low, high = interval.value, interval.low, interval.high
    allowed = f"{100 * margin:g} percentage points"
    what = f"more than {allowed} worse than those of “{against}” ({label}"
    if low is None or high is None or prompts < FEWEST_TO_JUDGE:
        return "not enough rows to tell", (
            f"Not enough rows to tell whether the answers are {what}, {prompts} prompts with a reference and "
            f"both answers). At least {FEWEST_TO_JUDGE} are needed."
        )
    worst, best = (low, high) if direction > 0 else (-high, -low)
    span = f"95% interval {100 * low:+.1f} to {100 * high:+.1f}"
    found = f"{what}, {prompts} prompts: difference {100 * difference:+.1f}, {span})."
    if worst > -margin:
        return "not worse", f"The answers are not {found}"
    if best < -margin:
        return "worse", f"The answers are {found}"
    return "not enough rows to tell", f"Not enough rows to tell whether the answers are {found}"

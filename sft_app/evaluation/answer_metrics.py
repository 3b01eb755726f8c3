"""Define the metrics of generated answers: how close they come to reference answers, and how they are written.

To add a metric, write a function from an answer and its reference to a number, and add a record to
`ANSWER_METRICS`. The scorecard, the report, the page and the command line show every metric there. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_app.data.words import as_long_as, words_of
from sft_app.evaluation.statistics.exact import mcnemar, paired_share_interval, sign_flip_test
from sft_app.evaluation.statistics.intervals import paired_intervals, sum_groups
from sft_app.runs.scorecard import AnswerScores, Broken, Interval, SideScores

if TYPE_CHECKING:
    from sft_app.inference.generation import Answer

REPEATED_WORDS = 4


@dataclass(frozen=True)
class Metric:
    """How a number on the scorecard is shown: its label, format and direction.

    `direction` is 1 if higher is better, -1 if lower is better, 0 if neither is.
    """

    label: str
    shown: str
    direction: int


@dataclass(frozen=True)
class AnswerMetric(Metric):
    """A metric of generated answers; `score` computes it from an answer and its reference.

    One that `is_yes_or_no` is 0 or 1 for each answer, so that exact intervals and tests apply.
    """

    score: Callable[[Answer, str], float]
    is_yes_or_no: bool = False


def rouge_l(answer: Answer, reference: str) -> float:
    """Measure how much of the reference's wording the answer has, in order. Source: Lin 2004, "ROUGE" (rouge-score)."""
    return float(_rouge().score(reference, answer.text)["rougeL"].fmeasure)


def chrf(answer: Answer, reference: str) -> float:
    """Measure how many of the reference's character n-grams it has. Source: Popović 2015, "chrF" (sacrebleu)."""
    return float(_chrf().sentence_score(answer.text, [reference]).score) / 100


def exact_match(answer: Answer, reference: str) -> float:
    """Return 1 if the answer equals the reference up to white space, else 0."""
    return float(answer.text.split() == reference.split())


def stopped(answer: Answer, reference: str) -> float:
    """Return 1 if the model ended the answer itself, else 0."""
    return float(answer.finished)


def length_ratio(answer: Answer, reference: str) -> float:
    """Return the answer's number of words divided by the reference's."""
    return len(words_of(answer.text)) / max(len(words_of(reference)), 1)


def repeated_ngrams(answer: Answer, reference: str) -> float:
    """Return the share of the answer's 4-grams that occurred earlier in it, as `repetition` does."""
    return repetition(words_of(answer.text))


ANSWER_METRICS = {
    "rouge_l": AnswerMetric("ROUGE-L vs. reference", "{:.1%}", 1, rouge_l),
    "chrf": AnswerMetric("chrF vs. reference", "{:.1%}", 1, chrf),
    "exact_match": AnswerMetric("exact match", "{:.1%}", 1, exact_match, is_yes_or_no=True),
    "stopped": AnswerMetric("ended with EOS", "{:.1%}", 1, stopped, is_yes_or_no=True),
    "length_ratio": AnswerMetric("length ratio", "{:.2f}", 0, length_ratio),
    "repetition": AnswerMetric("repeated 4-grams", "{:.1%}", -1, repeated_ngrams),
}


def score_answer(answer: Answer, reference: str) -> SideScores:
    """Compute every metric, by name; NaN for a broken answer."""
    if answer.broken:
        return dict.fromkeys(ANSWER_METRICS, math.nan)
    return {name: metric.score(answer, reference) for name, metric in ANSWER_METRICS.items()}


def repetition(words: Sequence[str]) -> float:
    """Return the share of 4-grams that occurred earlier; 0 if the text is too short to have two.

    In scripts without spaces, 8 characters in a row take the place of 4 words.
    """
    length = as_long_as(REPEATED_WORDS, words)
    runs = [tuple(words[index : index + length]) for index in range(len(words) - length + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def summarise_answers(
    base: Sequence[SideScores], tuned: Sequence[SideScores], groups: np.ndarray | None = None
) -> AnswerScores:
    """Compute both sides' means and the differences, as in `scorecard.json`; `groups` numbers related rows `(rows,)`.

    Only the metrics that every answer of both sides has are compared. `broken` counts the broken answers. A side with a
    broken answer has no means, because the means of its other answers would be biased.
    """
    names = [name for name in ANSWER_METRICS if all(name in scores for scores in (*base, *tuned))]
    one, other = (np.array([[scores[name] for name in names] for scores in side]) for side in (base, tuned))
    numbers = np.arange(len(base)) if groups is None else groups
    return AnswerScores(
        prompts=len(base),
        groups=len(np.unique(numbers)),
        broken=Broken(base=_count_broken(one), tuned=_count_broken(other)),
        base=dict(zip(names, one.mean(axis=0).tolist(), strict=True)),
        tuned=dict(zip(names, other.mean(axis=0).tolist(), strict=True)),
        difference=dict(zip(names, _differences(names, one, other, numbers), strict=True)),
    )


def _differences(names: Sequence[str], base: np.ndarray, tuned: np.ndarray, groups: np.ndarray) -> list[Interval]:
    """Return each metric's difference, `(rows, metrics)` on both sides: exact for a yes or no, else by resampling."""
    rows = np.ones((len(base), 1))
    intervals = paired_intervals(np.hstack([base, rows]), np.hstack([tuned, rows]), _means, groups=groups)
    p_values = sign_flip_test(sum_groups(tuned - base, groups)).tolist()
    found = [one.model_copy(update={"p_value": p}) for one, p in zip(intervals, p_values, strict=True)]
    if len(np.unique(groups)) < len(base):  # the exact ones need rows that are independent
        return found
    for column, name in enumerate(names):
        if ANSWER_METRICS[name].is_yes_or_no and np.isfinite(found[column].value):
            found[column] = _exact(found[column], base[:, column], tuned[:, column])
    return found


def _exact(interval: Interval, base: np.ndarray, tuned: np.ndarray) -> Interval:
    lost, gained = int((base > tuned).sum()), int((tuned > base).sum())
    low, high = paired_share_interval(lost, gained, len(base))
    return interval.model_copy(update={"low": low, "high": high, "p_value": mcnemar(lost, gained)})


def _means(tables: np.ndarray) -> np.ndarray:
    """Return the means of all columns but the last, which counts the rows."""
    sums = tables.sum(axis=-2)
    means: np.ndarray = sums[..., :-1] / sums[..., -1:]
    return means


def _count_broken(table: np.ndarray) -> int:
    return int(np.isnan(table).any(axis=1).sum())


class _Words:
    """Finds words in any script; rouge-score's own tokenizer only knows ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return words_of(text)


@lru_cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())


@lru_cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()

"""The metrics of generated answers: how near they come to reference answers, and how they are made.

To add a metric, write a function from an answer and its reference to a number and give it a record in
`ANSWER_METRICS`. The scorecard, the report, the page and the command line show every metric in it. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_app.evaluation.intervals import paired_intervals
from sft_app.runs.scorecard import AnswerScores, Broken, SideScores

if TYPE_CHECKING:
    from sft_app.inference.generation import Answer

REPEATED_WORDS = 4
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Metric:
    """How a number of the scorecard is shown: its label, its format, and its direction.

    `direction` is 1 where more is better, -1 where less is, 0 where neither is.
    """

    label: str
    shown: str
    direction: int


@dataclass(frozen=True)
class AnswerMetric(Metric):
    """A number of one generated answer; `score` computes it from the answer and its reference."""

    score: Callable[[Answer, str], float]


def rouge_l(answer: Answer, reference: str) -> float:
    """How much of the reference's wording the answer has, in order. Source: Lin 2004, "ROUGE", through rouge-score."""
    return float(_rouge().score(reference, answer.text)["rougeL"].fmeasure)


def chrf(answer: Answer, reference: str) -> float:
    """How many of the reference's character n-grams it has. Source: Popović 2015, "chrF", through sacrebleu."""
    return float(_chrf().sentence_score(answer.text, [reference]).score) / 100


def exact_match(answer: Answer, reference: str) -> float:
    """1 where the answer is the reference but for white space."""
    return float(answer.text.split() == reference.split())


def stopped(answer: Answer, reference: str) -> float:
    """1 where the answer ended by itself."""
    return float(answer.finished)


def length_ratio(answer: Answer, reference: str) -> float:
    """The answer's words over the reference's."""
    return len(_words(answer.text)) / max(len(_words(reference)), 1)


def repeated_ngrams(answer: Answer, reference: str) -> float:
    """The share of the answer's runs of four words that it had said before."""
    return repetition(_words(answer.text))


ANSWER_METRICS = {
    "rouge_l": AnswerMetric("ROUGE-L vs. reference", "{:.1%}", 1, rouge_l),
    "chrf": AnswerMetric("chrF vs. reference", "{:.1%}", 1, chrf),
    "exact_match": AnswerMetric("exact match", "{:.1%}", 1, exact_match),
    "stopped": AnswerMetric("ended with EOS", "{:.1%}", 1, stopped),
    "length_ratio": AnswerMetric("length ratio", "{:.2f}", 0, length_ratio),
    "repetition": AnswerMetric("repeated 4-grams", "{:.1%}", -1, repeated_ngrams),
}


def score_answer(answer: Answer, reference: str) -> SideScores:
    """Every metric by its name; NaN for an answer that broke off."""
    if answer.broken:
        return dict.fromkeys(ANSWER_METRICS, math.nan)
    return {name: metric.score(answer, reference) for name, metric in ANSWER_METRICS.items()}


def repetition(words: Sequence[str]) -> float:
    """The share of runs of four words that stood earlier already; 0 for a text too short to have two."""
    runs = [tuple(words[index : index + REPEATED_WORDS]) for index in range(len(words) - REPEATED_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def summarise_answers(base: Sequence[SideScores], tuned: Sequence[SideScores]) -> AnswerScores:
    """Means of both sides and the differences, as they stand in `scorecard.json`.

    `broken` counts the answers that broke off. A side that has one has no means: those of its other answers would be
    means of what it happened to survive.
    """
    names = list(ANSWER_METRICS)
    one, other = (np.array([[scores[name] for name in names] for scores in side]) for side in (base, tuned))
    intervals = paired_intervals(one, other, lambda tables: tables.mean(axis=-2))
    return AnswerScores(
        prompts=len(base),
        broken=Broken(base=_count_broken(one), tuned=_count_broken(other)),
        base=dict(zip(names, one.mean(axis=0).tolist(), strict=True)),
        tuned=dict(zip(names, other.mean(axis=0).tolist(), strict=True)),
        difference=dict(zip(names, intervals, strict=True)),
    )


def _count_broken(table: np.ndarray) -> int:
    return int(np.isnan(table).any(axis=1).sum())


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class _Words:
    """Words of any script: rouge-score's own tokenizer knows ASCII only."""

    def tokenize(self, text: str) -> list[str]:
        return _words(text)


@lru_cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())


@lru_cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()

"""How near generated answers come to reference answers, and how they are made."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sft_app.evaluation.intervals import paired_intervals
from sft_app.inference.generation import Answer

REPEATED_WORDS = 4
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class AnswerScore:
    """Of one answer; all but `length_ratio` are shares from 0 to 1.

    `rouge_l` and `chrf` say how much of the reference's wording is there, `exact_match` that it is the reference but
    for white space. `stopped`: it ended by itself. `length_ratio`: its words over the reference's. `repetition`: the
    share of its runs of four words that it had said before. Of an answer that broke off each is NaN.
    """

    rouge_l: float
    chrf: float
    exact_match: float
    stopped: float
    length_ratio: float
    repetition: float


NAMES = tuple(AnswerScore.__dataclass_fields__)


def score_answer(answer: Answer, reference: str) -> AnswerScore:
    """Sources: Lin 2004, "ROUGE", through rouge-score; Popović 2015, "chrF", through sacrebleu."""
    if answer.broken:
        return AnswerScore(*[math.nan] * len(NAMES))
    said, expected = _WORD.findall(answer.text.lower()), _WORD.findall(reference.lower())
    return AnswerScore(
        rouge_l=_rouge().score(reference, answer.text)["rougeL"].fmeasure,
        chrf=_chrf().sentence_score(answer.text, [reference]).score / 100,
        exact_match=float(answer.text.split() == reference.split()),
        stopped=float(answer.finished),
        length_ratio=len(said) / max(len(expected), 1),
        repetition=repetition(said),
    )


def repetition(words: Sequence[str]) -> float:
    """The share of runs of four words that stood earlier already; 0 for a text too short to have two."""
    runs = [tuple(words[place : place + REPEATED_WORDS]) for place in range(len(words) - REPEATED_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def summarise_answers(base: Sequence[AnswerScore], tuned: Sequence[AnswerScore]) -> dict[str, Any]:
    """Means of both sides and the differences, as they stand in `scorecard.json`.

    `broken` counts the answers that broke off. A side that has one has no means: those of its other answers would be
    means of what it happened to survive.
    """
    one, other = (np.array([astuple(score) for score in scores]) for scores in (base, tuned))
    intervals = paired_intervals(one, other, lambda table: table.mean(axis=0))
    return {
        "prompts": len(base),
        "broken": {"base": _count_broken(one), "tuned": _count_broken(other)},
        "base": dict(zip(NAMES, one.mean(axis=0).tolist(), strict=True)),
        "tuned": dict(zip(NAMES, other.mean(axis=0).tolist(), strict=True)),
        "difference": {name: vars(interval) for name, interval in zip(NAMES, intervals, strict=True)},
    }


def _count_broken(table: np.ndarray) -> int:
    return int(np.isnan(table).any(axis=1).sum())


class _Words:
    """Words of any script: rouge-score's own tokenizer knows ASCII only."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


@lru_cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())


@lru_cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()

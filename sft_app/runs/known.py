"""Define the part of `scorecard.json` on what was lost: general questions that the base model knew before training."""

from __future__ import annotations

from sft_app.runs.records import Number, Record


class KindCounts(Record):
    """How many questions of a kind were measured, how many of them the base model knew, and what became of these.

    `lost` counts the questions that only the base model knows, `gained` those that only the fine-tuned one knows.
    """

    asked: int = 0
    known: int = 0
    lost: int = 0
    gained: int = 0


class KnownCounts(KindCounts):
    """The counts of all questions, and of each kind in `kinds`.

    `low` and `high` are the exact 95 % interval of the share of the known questions that were lost. `p_value` is that
    of the exact paired test that no more were lost than gained; `p_holm` is corrected for both ways of measuring.
    """

    low: float = 0.0
    high: float = 1.0
    p_value: float = 1.0
    p_holm: float = 1.0
    kinds: dict[str, KindCounts] = {}


class LostQuestion(Record):
    """A question that was known before and is not now: in its loss, its answer, or both.

    `base` and `tuned` are the generated answers, None if none was generated; `failed` says what is wrong with the
    second.
    """

    kind: str = ""
    question: str = ""
    reference: str = ""
    base_loss: Number = 0.0
    tuned_loss: Number = 0.0
    lost_by_loss: bool = False
    lost_by_answer: bool = False
    base: str | None = None
    tuned: str | None = None
    failed: list[str] = []


class Known(Record):
    """What the base model knew of the general questions, and which of them the fine-tuned model no longer does.

    `file` and `sha256` identify the questions; `file` is "" for the app's own. `by_loss` counts the reference answers
    that are predicted well, `by_answer` the generated answers that pass the questions' checks; each is None if it was
    not measured, or if a side produced values that are not numbers, which `is_broken` says.
    """

    file: str = ""
    sha256: str = ""
    is_broken: bool = False
    by_loss: KnownCounts | None = None
    by_answer: KnownCounts | None = None
    lost: list[LostQuestion] = []

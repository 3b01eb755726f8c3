"""Define the contents of `scorecard.json`: how the base and fine-tuned models predict and generate answers.

Only the loss of both sides is required; anything else that is missing in a file is empty.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer

from sft_app.runs.records import Number, Record, null_for_nan

SideScores = dict[str, Number]  # by the metric's name


def _require_loss(scores: SideScores) -> SideScores:
    if "loss" not in scores:
        raise ValueError("the scores have no loss")
    return scores


ScoresWithLoss = Annotated[SideScores, AfterValidator(_require_loss)]
IntervalEnd = Annotated[float | None, PlainSerializer(null_for_nan)]


class Interval(Record):
    """A difference, tuned minus base, with its 95 % interval; both ends are None if there are too few rows.

    If the difference is the same in every row, both ends equal the value, because the rows show no spread.
    """

    value: Number
    low: IntervalEnd = None
    high: IntervalEnd = None


class Counted(Record):
    """The number of conversations and trained tokens that were predicted."""

    conversations: int = 0
    trained_tokens: int = 0


class ChangedRows(Record):
    """How many rows became easier and harder to predict; `not_a_number` counts those without a finite loss."""

    better: int = 0
    worse: int = 0
    equal: int = 0
    not_a_number: int = 0


class PredictedScores(Record):
    """How well both sides predict reference answers: the loss on every trained token, and what follows from it."""

    heldout: Counted = Counted()
    base: ScoresWithLoss
    tuned: ScoresWithLoss
    difference: dict[str, Interval] = {}
    rows: ChangedRows = ChangedRows()

    @property
    def row_count(self) -> int:
        return self.heldout.conversations


class Broken(Record):
    """How many answers of each side are incomplete because the model produced NaN or infinite values."""

    base: int = 0
    tuned: int = 0


class AnswerScores(Record):
    """How close the answers that both sides generate come to the reference answers.

    `broken` is None in files of older versions, which did not count broken answers.
    """

    prompts: int = 0
    broken: Broken | None = None
    base: SideScores = {}
    tuned: SideScores = {}
    difference: dict[str, Interval] = {}

    @property
    def row_count(self) -> int:
        return self.prompts


Scores = PredictedScores | AnswerScores


class RowMessage(Record):
    """A message of a held-out conversation, with all its keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: str = ""
    content: str = ""


class ChangedRow(Record):
    """A held-out row with both losses and both generated answers. `answers` is empty if the row was not asked; a broken
    answer is None."""

    row: int
    messages: list[RowMessage] = Field(min_length=1)
    base_loss: Number = 0.0
    tuned_loss: Number = 0.0
    answers: list[str | None] = []


class MostChanged(Record):
    """The rows whose reference answer became easiest and hardest to predict."""

    improved: list[ChangedRow] = []
    damaged: list[ChangedRow] = []


class Scorecard(PredictedScores):
    """The whole file: the held-out rows and, if measured, the `general` questions and the `answers`.

    `dtype` is the precision both sides computed in, `note` what is unusual about it.
    """

    dtype: str = ""
    note: str = ""
    general: PredictedScores | None = None
    answers: AnswerScores | None = None
    most_changed: MostChanged = MostChanged()

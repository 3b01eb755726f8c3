"""Define the contents of `scorecard.json`: how the base and fine-tuned models predict and generate answers.

Only the loss of both sides is required; anything else that is missing in a file is empty.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer

from sft_app.runs.known import Known
from sft_app.runs.memorised import Memorised
from sft_app.runs.records import Number, Record, null_for_nan
from sft_app.runs.suite_scores import SuiteScores

SideScores = dict[str, Number]  # by the metric's name


def _require_loss(scores: SideScores) -> SideScores:
    if "loss" not in scores:
        raise ValueError("the scores have no loss")
    return scores


ScoresWithLoss = Annotated[SideScores, AfterValidator(_require_loss)]
IntervalEnd = Annotated[float | None, PlainSerializer(null_for_nan)]


class Interval(Record):
    """A difference, tuned minus base, with its 95 % interval; both ends are None if there are too few rows.

    If the difference is the same in every row, both ends equal the value, because the rows show no spread. `p_value` is
    that of a paired test that neither side is better, `p_holm` the same corrected for the number of measures; None if
    it was not computed, or if no verdict may be made of it.
    """

    value: Number
    low: IntervalEnd = None
    high: IntervalEnd = None
    p_value: IntervalEnd = None
    p_holm: IntervalEnd = None


class Counted(Record):
    """The number of conversations and trained tokens that were predicted.

    `groups` counts related conversations (copies, one question with several answers, one row) once; None if unknown.
    """

    conversations: int = 0
    trained_tokens: int = 0
    groups: int | None = None


class ChangedRows(Record):
    """How many rows became easier and harder to predict; `not_a_number` counts those without a finite loss."""

    better: int = 0
    worse: int = 0
    equal: int = 0
    not_a_number: int = 0


class Selection(Record):
    """How the kept weights were chosen from `evaluations`: on `other` rows than those that judge, or on the `same`.

    The change in loss is corrected for a choice on the same rows unless the evaluation that was kept is not recorded.
    """

    rows: Literal["other", "same"]
    evaluations: int = 0
    is_corrected: bool = True


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

    @property
    def independent_rows(self) -> int:
        return self.row_count if self.heldout.groups is None else self.heldout.groups


class Broken(Record):
    """How many answers of each side are incomplete because the model produced NaN or infinite values."""

    base: int = 0
    tuned: int = 0


class AnswerScores(Record):
    """How close the answers that both sides generate come to the reference answers.

    `broken` is None in files of older versions, which did not count broken answers.
    """

    prompts: int = 0
    groups: int | None = None
    broken: Broken | None = None
    base: SideScores = {}
    tuned: SideScores = {}
    difference: dict[str, Interval] = {}

    @property
    def row_count(self) -> int:
        return self.prompts

    @property
    def independent_rows(self) -> int:
        return self.prompts if self.groups is None else self.groups


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


class PromptedScores(Record):
    """What a prompt does instead of training: the base model with the nearest training examples as earlier turns.

    In `predicted` and `answers`, the side called base is the base model with this prompt; only the last answer of each
    conversation counts. `base` has the base model's numbers without the prompt, on the same questions. `examples` were
    wanted in front of each question, and `used` is their mean number. `left_out` questions had no room for a prompt,
    `note` says why none could be asked. `seconds` is the time that all of it took. If it `is_flattered`, the fine-tuned
    weights were chosen on the same rows, so that a lead of theirs is not judged.
    """

    examples: int
    used: Number = 0.0
    has_system: bool = False
    left_out: int = 0
    note: str = ""
    is_flattered: bool = False
    predicted: PredictedScores | None = None
    answers: AnswerScores | None = None
    base: SideScores = {}
    seconds: Number = 0.0


class SideAnswers(Record):
    """What another side answers to the same held-out questions, next to the fine-tuned model.

    In `answers`, the side called base is this one; metrics that are unknown for recorded answers are missing.
    `unanswered` questions have no answer of it and do not count. It was `trained_on` this many of the questions, or its
    weights were chosen by them. `note` says what else is unusual about it, or why it could not be compared. If it
    `is_flattered`, the fine-tuned weights were chosen on the same rows, so that nothing is judged.
    """

    name: str
    label: str
    unanswered: int = 0
    trained_on: int = 0
    note: str = ""
    is_flattered: bool = False
    answers: AnswerScores | None = None


class Scorecard(PredictedScores):
    """The whole file: the held-out rows and, if measured, the `general` questions, what of them was `known`, and
    the `answers`. `tests` are the results of the tests that people wrote, `sides` are further sides, if asked for.

    `dtype` is the precision both sides computed in, `note` what is unusual about it. `primary` is the measure that was
    named before training to decide; all other p-values are corrected for their number. `selection` says how the weights
    were chosen; if on the same rows, the difference in loss is corrected for it, so that it is not tuned minus base.
    """

    dtype: str = ""
    note: str = ""
    primary: Literal["loss", "tests"] = "loss"
    selection: Selection | None = None
    general: PredictedScores | None = None
    answers: AnswerScores | None = None
    tests: SuiteScores | None = None
    most_changed: MostChanged = MostChanged()
    known: Known | None = None
    prompted: PromptedScores | None = None
    memorised: Memorised | None = None
    sides: list[SideAnswers] = []

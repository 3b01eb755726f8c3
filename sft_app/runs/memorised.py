"""Define what the scorecard says about answers that repeat training answers."""

from __future__ import annotations

from sft_app.runs.records import Number, Record


class RepeatedAnswer(Record):
    """A generated answer, the training answer it repeats most, and the share of its own words that it repeats."""

    row: int
    question: str = ""
    answer: str = ""
    share: Number = 0.0
    training_row: int = 0
    training_answer: str = ""


class Memorised(Record):
    """How much of the answers to held-out questions repeats a single training answer, in shares of their words.

    Words of phrases that many training answers share, such as a sign-off, are left out of the shares; `common` is their
    share of the fine-tuned model's words. `references` is the same for the held-out reference answers, which no one has
    learned by heart. `mostly` counts the fine-tuned model's answers of which at least half is repeated, `base_mostly`
    the base model's. `short` answers have too few words for that. Of these, `short_repeated` and, by the base model,
    `base_short_repeated` are the same as a training answer and unlike all reference answers; None if that was not
    compared. `short_references` is the share of short reference answers that are the same as a training answer. `worst`
    are the fine-tuned model's most repeated answers.
    """

    answers: int
    short: int = 0
    short_repeated: int | None = None
    base_short_repeated: int = 0
    short_references: Number = 0.0
    common: Number = 0.0
    tuned: Number
    base: Number
    references: Number
    mostly: int = 0
    base_mostly: int = 0
    worst: list[RepeatedAnswer] = []

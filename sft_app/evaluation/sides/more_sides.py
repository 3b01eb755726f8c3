"""Answer prompts with sides beyond the two of a pair: models, a prompt with examples, recorded answers.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.errors import ModelError
from sft_app.evaluation.answer_pairs import join_as_prompt
from sft_app.evaluation.sides.examples import NearestExamples, prompt_room, with_examples
from sft_app.inference.sides import BASE_CHOICE, Side

if TYPE_CHECKING:
    from sft_app.inference.generation import Answer, Sampling
    from sft_app.inference.loaded_models import LoadedSide
    from sft_app.inference.pair import LoadedPair

AnswerQuestions = Callable[[Sequence["Question"], "Sampling"], list["SideText"]]
PROMPTED = "prompted"
PROMPTED_LABEL = "Base with nearest examples"
NO_RECORDED_ANSWER = "The file has no answer to this prompt."


@dataclass(frozen=True)
class SideText:
    """A side's answer to a prompt, or the problem that left none.

    `finished` says whether the model ended it; None if unknown. It is `broken` if the model produced values that are
    not numbers.
    """

    text: str = ""
    problem: str = ""
    finished: bool | None = None
    broken: bool = False


@dataclass(frozen=True)
class Question:
    """A conversation that ends with a question, and its tokens as the pair is asked it."""

    messages: Sequence[dict[str, Any]]
    prompt: list[int]

    def unanswered(self) -> Conversation:
        """Return it with a place for the answer, which no prompt contains. Raises: DataError as `make_conversation`."""
        return make_conversation([*self.messages, {"role": "assistant", "content": "-"}])


class MoreSide(Protocol):
    """A further side. `name` is its column in files and `label` its name on the page."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    def open(self, pair: LoadedPair) -> AnswerQuestions:
        """Load what the side needs, and return a function that answers questions.

        Raises: AppError if it cannot be loaded.
        """


@dataclass(frozen=True)
class ModelSide:
    """The base, a run, a checkpoint or an adapter that shares the pair's base model and is asked as the pair is.

    `note` says what is unusual about it.
    """

    side: Side
    note: str = ""

    @property
    def name(self) -> str:
        return self.side.name

    @property
    def label(self) -> str:
        return self.side.label

    def open(self, pair: LoadedPair) -> AnswerQuestions:
        if not self.side.is_full_model():  # only one of those is in memory, that of the pair if it has one
            pair.models.loaded_beside(self.side, pair.sides)

        def answer(questions: Sequence[Question], sampling: Sampling) -> list[SideText]:
            loaded = pair.models.loaded_beside(self.side, pair.sides)  # other sides may have taken its place in memory
            return _answer(pair, loaded, [question.prompt for question in questions], sampling)

        return answer


@dataclass(frozen=True)
class PromptedSide:
    """The base with the nearest training examples of a run as earlier turns in front of each prompt."""

    base: Side
    train_file: Path
    count: int
    name: str = PROMPTED
    label: str = PROMPTED_LABEL

    def open(self, pair: LoadedPair) -> AnswerQuestions:
        from sft_app.data.tokens import render_last_prompt
        from sft_app.inference.generation import context_length

        index, context = NearestExamples(self.train_file), context_length(pair.models.model)

        def answer(questions: Sequence[Question], sampling: Sampling) -> list[SideText]:
            asked = [question.unanswered() for question in questions]
            room = prompt_room(context, sampling.max_new_tokens)
            made = [
                with_examples(pair.tokenizer, conversation, examples, "", room).conversation
                for conversation, examples in zip(asked, index.find(asked, self.count), strict=True)
            ]
            rendered = [render_last_prompt(pair.tokenizer, conversation) for conversation in made]
            loaded = pair.models.loaded_beside(self.base, pair.sides)  # loading another side may have wrapped the model
            return _answer(pair, loaded, rendered, sampling)

        return answer


@dataclass(frozen=True)
class RecordedSide:
    """Answers from elsewhere, by prompt; white space around and inside a prompt does not matter."""

    name: str
    answers: Mapping[str, str]

    @property
    def label(self) -> str:
        return f"Recorded: {self.name}"

    def notes(self) -> list[str]:
        """Say how many of the answers are empty."""
        empty = sum(not text.strip() for text in self.answers.values())
        verb = "is empty and counts as an answer" if empty == 1 else "are empty and count as answers"
        return [f"{self.label}: {empty:,} of {len(self.answers):,} answers {verb}."] if empty else []

    def open(self, pair: LoadedPair) -> AnswerQuestions:
        return lambda questions, sampling: [self.answer(join_as_prompt(question.messages)) for question in questions]

    def answer(self, prompt: str) -> SideText:
        """Return the recorded answer, or that there is none."""
        found = self.answers.get(prompt_key(prompt))
        return SideText(problem=NO_RECORDED_ANSWER) if found is None else SideText(found)


def open_sides(pair: LoadedPair, more: Sequence[MoreSide]) -> tuple[LoadedPair, list[AnswerQuestions]]:
    """Open further sides, and return the pair to use from then on: loading an adapter may have wrapped its model.

    Raises: AppError if one cannot be loaded.
    """
    if not more:
        return pair, []
    from sft_app.inference.pair import load_pair

    opened = [side.open(pair) for side in more]
    return load_pair(pair.sides, pair.models.home, pair.models), opened


def prompt_key(prompt: str) -> str:
    """Return what equal prompts have in common."""
    return " ".join(prompt.split())


def base_side(side: Side) -> Side:
    """Return the base of a side as a side of its own."""
    return replace(side, name="base", label=BASE_CHOICE[0], folder=None)


def labels_of(sides: tuple[Side, Side], more: Sequence[MoreSide]) -> tuple[str, ...]:
    """Return the labels of a pair and of the sides that join it."""
    return (*(side.label for side in sides), *(side.label for side in more))


def side_notes(pair_sides: tuple[Side, Side], more: Sequence[MoreSide]) -> list[str]:
    """Say which further models were made to be asked in another way, and what is recorded as empty."""
    notes = []
    for one in more:
        if isinstance(one, RecordedSide):
            notes += one.notes()
        if isinstance(one, ModelSide) and one.side.folder is not None:
            notes += [*_other_conditions(one.side, pair_sides[1]), one.side.note, one.note]
    return [note for note in notes if note]


def _other_conditions(side: Side, right: Side) -> list[str]:
    differences = {
        "chat template": side.chat_template != right.chat_template,
        "end-of-turn token": side.eos_token != right.eos_token,
    }
    return [
        f"{side.label} has another {name}; all sides use that of {right.label}."
        for name, differs in differences.items()
        if differs
    ]


def _answer(pair: LoadedPair, loaded: LoadedSide, prompts: Sequence[list[int]], sampling: Sampling) -> list[SideText]:
    """Return one side's answers, each as it would be alone; a prompt that is too long costs only its own answer."""
    from sft_app.data.tokens import stop_ids
    from sft_app.inference.generation import answer_prompts
    from sft_app.inference.pair import activate_side

    try:
        with pair.models.lock, activate_side(loaded, 1.0) as model:
            answers = answer_prompts(model, pair.tokenizer, prompts, sampling, stop_ids(pair.tokenizer))
    except ModelError as error:
        if len(prompts) == 1:
            return [SideText(problem=str(error))]
        return [text for prompt in prompts for text in _answer(pair, loaded, [prompt], sampling)]
    return [_side_text(answer) for answer in answers]


def _side_text(answer: Answer) -> SideText:
    if answer.broken:
        problem = "The model produced NaN or infinite values, so there is no complete answer."
        return SideText(problem=problem, broken=True)
    return SideText(answer.text, finished=answer.finished)

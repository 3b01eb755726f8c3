"""A conversation with both sides at once: the same questions, each side's own answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sft_app.data.conversation import prompt_messages

if TYPE_CHECKING:
    from sft_app.inference.stream import PairUpdate

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Exchange:
    """A question and what each side answered."""

    question: str
    left: str
    right: str


@dataclass
class PairChat:
    """`exchanges` are complete; `question` and `update` are the last one, which may still grow or have been stopped."""

    labels: tuple[str, str] = ("Base model", "Fine-tuned")
    system: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    question: str = ""
    update: PairUpdate | None = None

    def begin(self, question: str, system: str) -> tuple[Messages, Messages]:
        """Each side's messages with this question alone. Raises: ModelError when it is empty."""
        prompt_messages(question)
        self.system, self.exchanges, self.question, self.update = system, [], question, None
        return self.asked()

    def go_on(self, question: str) -> tuple[Messages, Messages]:
        """The same with a further question. Raises: ModelError when it is empty."""
        prompt_messages(question)
        if self.update is not None:
            self.exchanges.append(Exchange(self.question, self.update.left.text, self.update.right.text))
        self.question, self.update = question, None
        return self.asked()

    def repeat(self) -> tuple[Messages, Messages]:
        """The same with the last question once more. Raises: ModelError when there is none."""
        prompt_messages(self.question)
        self.update = None
        return self.asked()

    def take_back(self) -> str:
        """Removes the last question with its answers, and returns it to be edited; empty when there is none."""
        if not self.question and self.exchanges:
            return self.exchanges.pop().question
        question, self.question, self.update = self.question, "", None
        return question

    def asked(self) -> tuple[Messages, Messages]:
        """Each side's messages, which end with the last question."""
        return self._messages("left"), self._messages("right")

    def _messages(self, side: str) -> Messages:
        *opening, question = prompt_messages(self.question, self.system)
        for exchange in self.exchanges:
            opening.append({"role": "user", "content": exchange.question})
            opening.append({"role": "assistant", "content": getattr(exchange, side)})
        return [*opening, question]

"""Keep a conversation with both sides: the same questions, and each side's own answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sft_app.data.conversation import prompt_messages

if TYPE_CHECKING:
    from sft_app.inference.stream import Messages, PairUpdate


@dataclass(frozen=True)
class Exchange:
    """Holds a question and each side's answer."""

    question: str
    left: str
    right: str


@dataclass
class PairChat:
    """Holds a conversation with both sides.

    `exchanges` are complete; `question` and `update` are the last exchange, which may be growing or stopped.
    `enable_thinking` is what both sides were last asked with; None is as the run was trained.
    """

    labels: tuple[str, str] = ("Base model", "Fine-tuned")
    system: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    question: str = ""
    update: PairUpdate | None = None
    enable_thinking: bool | None = None

    def begin(self, question: str, system: str) -> tuple[Messages, Messages]:
        """Start over with this question and return each side's messages.

        Raises: ModelError if the question is empty.
        """
        prompt_messages(question)
        self.system, self.exchanges, self.question, self.update = system, [], question, None
        return self.messages()

    def follow_up(self, question: str) -> tuple[Messages, Messages]:
        """Add a further question and return each side's messages.

        Raises: ModelError if the question is empty.
        """
        prompt_messages(question)
        if self.update is not None:
            self.exchanges.append(Exchange(self.question, self.update.left.text, self.update.right.text))
        self.question, self.update = question, None
        return self.messages()

    def regenerate(self) -> tuple[Messages, Messages]:
        """Drop the last answers and return each side's messages.

        Raises: ModelError if there is no question.
        """
        prompt_messages(self.question)
        self.update = None
        return self.messages()

    def undo(self) -> str:
        """Remove the last question and its answers, and return the question for editing; empty if there is none."""
        if not self.question and self.exchanges:
            return self.exchanges.pop().question
        question, self.question, self.update = self.question, "", None
        return question

    def messages(self) -> tuple[Messages, Messages]:
        """Return each side's messages, which end with the last question."""
        return self._messages("left"), self._messages("right")

    def _messages(self, side: str) -> Messages:
        *opening, question = prompt_messages(self.question, self.system)
        for exchange in self.exchanges:
            opening.append({"role": "user", "content": exchange.question})
            opening.append({"role": "assistant", "content": getattr(exchange, side)})
        return [*opening, question]

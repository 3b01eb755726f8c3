"""Everything there is to say about a data file before it is trained on; the Data tab and `inspect` show it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_app.data.conversation import Conversation
from sft_app.data.doctor import Finding, examine
from sft_app.data.formats import LoadedData, load_conversations
from sft_app.data.tokens import RenderedConversation, render_conversation
from sft_app.errors import DataError


@dataclass(frozen=True)
class Inspection:
    """A file's conversations, as read and as the model will read them; `rendered[i]` is `data.conversations[i]`."""

    path: Path
    data: LoadedData
    rendered: list[RenderedConversation]
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """What `inspect --json` prints."""
        return {
            "format": self.data.format,
            "rows": self.data.rows,
            "conversations": len(self.data.conversations),
            "rejected": [asdict(row) for row in self.data.rejected],
            "findings": [asdict(finding) for finding in self.findings],
            "tokens": _percentiles([len(item.input_ids) for item in self.rendered]),
            "turns": self._turns(),
        }

    def trained_tokens(self) -> int:
        return sum(item.trained for item in self.rendered)

    def _turns(self) -> dict[str, int]:
        turns = [conversation.assistant_turns() for conversation in self.data.conversations]
        return {"single": turns.count(1), "several": len(turns) - turns.count(1), "max": max(turns)}


def inspect_data(path: Path, format: str, tokenizer: Any, max_length: int) -> Inspection:
    """Raises: DataError when the file has no usable conversation or the model's template refuses one."""
    data = load_conversations(path, format)
    rendered = [
        _render_row(tokenizer, conversation, row, max_length)
        for conversation, row in zip(data.conversations, data.row_numbers, strict=True)
    ]
    findings = examine(data.conversations, rendered, data.row_numbers, max_length)
    return Inspection(path, data, rendered, findings)


def _render_row(tokenizer: Any, conversation: Conversation, row: int, max_length: int) -> RenderedConversation:
    try:
        return render_conversation(tokenizer, conversation, max_length)
    except DataError as error:
        raise DataError(f"Row {row}: {error}") from error


def _percentiles(lengths: list[int]) -> dict[str, int]:
    """Nearest-rank percentiles of a list that is not empty."""
    ordered = sorted(lengths)
    return {
        "p50": ordered[math.ceil(0.50 * len(ordered)) - 1],
        "p95": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "max": ordered[-1],
    }

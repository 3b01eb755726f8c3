"""Inspect a data file before it is trained on; the Data tab and the command `inspect` show the result."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sft_app.data.checkup.answers import find_constant_answers, find_echoes, find_odd_answers
from sft_app.data.checkup.checks import (
    Examination,
    find_duplicates,
    find_leaks,
    find_reading_problems,
    find_style,
    find_suspicious_text,
    find_too_few,
    find_truncated,
)
from sft_app.data.checkup.finding import Finding, by_severity
from sft_app.data.checkup.languages import find_languages
from sft_app.data.checkup.lengths import COVERED, TokenLengths, measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.checkup.unused_text import find_short_answers, unused_texts
from sft_app.data.conversation import Conversation
from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.reading import DataFile, Example, Reading, no_conversation
from sft_app.data.rows import JsonObject, Rejected
from sft_app.data.split import hold_out
from sft_app.data.tokens import render_conversation, template_notes, thinking_notes
from sft_app.data.tool_templates import tool_notes
from sft_app.errors import DataError
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import RunSettings, rows_per_pass, with_schedule, without_replay_of_text

LENGTH_SAMPLE_SIZE = 50_000
"""How many conversations to measure token lengths on; larger files are sampled."""


@dataclass(frozen=True)
class Inspection:
    """The result of one pass over a file.

    `example` is its first conversation, `template_notes` what is unusual about how it is rendered; `lengths` is None
    without a tokenizer; `heldout` is the number of conversations that would be held out, 0 if there are too few.
    """

    file: DataFile
    example: Conversation
    rows: int
    conversations: int
    rejected: list[Rejected]
    findings: list[Finding]
    lengths: TokenLengths | None
    turns: Counter[int]
    heldout: int
    template_notes: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """Return the result as `inspect --json` prints it."""
        left_out = [row for row in self.rejected if row.by_choice]
        return {
            "format": self.file.settings.format,
            "columns": list(self.file.settings.columns),
            "guesses": [{**asdict(guess), "columns": list(guess.columns)} for guess in self.file.open_candidates()],
            "reading": self.file.summary(self.example),
            "rows": self.rows,
            "conversations": self.conversations,
            "rejected": [{"row": row.row, "reason": row.reason} for row in self.rejected if not row.by_choice],
            "not_chosen": [{"row": row.row, "reason": row.reason} for row in left_out],
            "findings": [asdict(finding) for finding in self.findings],
            "chat_template_notes": list(self.template_notes),
            "tokens": self.lengths.as_json() if self.lengths else None,
            "turns": {
                "single": self.turns[1],
                "several": sum(count for turns, count in self.turns.items() if turns > 1),
                "max": max(self.turns),
            },
            "split": {"train": self.conversations - self.heldout, "heldout": self.heldout},
        }


@dataclass
class _Seen:
    """Collects what is needed from each conversation in one pass over a file."""

    examined: Examination = field(default_factory=Examination)
    sample: Sample[Example] = field(default_factory=lambda: Sample(LENGTH_SAMPLE_SIZE))
    turns: Counter[int] = field(default_factory=Counter)
    example: Conversation | None = None

    def add(self, example: Example) -> None:
        """Add an example."""
        self.example = self.example or example.conversation
        self.examined.add(example)
        self.sample.offer(example)
        self.turns[example.conversation.assistant_turns()] += 1


def inspect_data(
    file: DataFile,
    settings: RunSettings,
    tokenizer: Any | None,
    on_progress: ProgressCallback | None = None,
    repair: bool = False,
) -> Inspection:
    """Read the file once, run every check, and measure the token lengths of a sample.

    With `repair`, rows whose turns are out of order are examined as the fix would leave them.

    Raises:
        DataError: there is no usable conversation, or the model's chat template rejects all of them.
    """
    report = on_progress or (lambda share: None)
    reading_share = 1.0 if tokenizer is None else 0.6
    reading = Reading(file, lambda share: report(reading_share * share), repair)
    seen = _Seen()
    for example in reading:
        seen.add(example)
    if seen.example is None:
        raise no_conversation(file, reading.rejected, reading.repairable)
    lengths = None
    notes: tuple[str, ...] = ()
    if tokenizer is not None:
        total, limit = len(seen.examined), settings.max_length
        lengths = measure_lengths(
            tokenizer,
            seen.sample.items,
            limit,
            total,
            lambda share: report(reading_share + (1 - reading_share) * share),
        )
        notes = tuple(_template_notes(tokenizer, seen.example))
    heldout, findings = _find_all(reading, seen.examined, lengths, settings)
    rejected = sorted(reading.rejected + (lengths.refused if lengths else []), key=lambda row: row.row)
    conversations = len(seen.examined)
    turns = seen.turns
    return Inspection(
        file, seen.example, reading.rows, conversations, rejected, findings, lengths, turns, heldout, notes
    )


def _template_notes(tokenizer: Any, example: Conversation) -> list[str]:
    """Say what is unusual about how the example is rendered; nothing if it is refused, which the lengths report."""
    try:
        notes = template_notes(tokenizer, render_conversation(tokenizer, example, sys.maxsize))
        return [*notes, *thinking_notes(tokenizer, example), *tool_notes(tokenizer, example)]
    except DataError:
        return []


def _find_all(
    reading: Reading, examined: Examination, lengths: TokenLengths | None, settings: RunSettings
) -> tuple[int, list[Finding]]:
    """Return how many conversations would be held out, and all findings, the most serious first."""
    constant = find_constant_answers(examined.answers, examined.rows_at)
    repeated = find_duplicates(examined)
    if constant:  # which tells more about the same rows
        repeated = [finding for finding in repeated if finding.kind != "shared_answer"]
    findings = [
        *find_reading_problems(reading),
        *constant,
        *find_echoes(examined.echoes, len(examined), examined.rows_at),
        *_find_wrong_column(reading, examined),
        *repeated,
        *(_find_truncated(lengths, settings) if lengths else []),
        *find_suspicious_text(examined),
        *examined.placeholders.find(examined.rows_at),
        *find_style(examined),
        *find_languages(examined.languages, examined.rows_at),
    ]
    try:
        split = hold_out(examined.related.groups(), settings)
    except DataError as error:
        return 0, by_severity([*findings, Finding("few", [], str(error), severity="serious")])
    findings += find_leaks(examined, split)
    trained = int((~split.is_heldout).sum())
    findings += find_too_few(len(examined), _passes(settings, lengths, trained))
    return int(split.is_heldout.sum()), by_severity(findings)


def _find_wrong_column(reading: Reading, examined: Examination) -> list[Finding]:
    """Find signs that the answers come from the wrong column."""
    file, answers = reading.file, examined.answers
    if not LAYOUTS[file.settings.format].has_answers or file.joins_rows:
        return []
    unused = unused_texts(file)
    odd = find_odd_answers(answers, examined.rows_at, [column.name for column in unused])
    return [*odd, *find_short_answers(file, unused, answers.mean_length())]


def _find_truncated(lengths: TokenLengths, settings: RunSettings) -> list[Finding]:
    """Find truncated conversations, apart from the few that an automatic `max_length` is meant to cut."""
    findings = find_truncated(lengths, lengths.max_length)
    is_little = lengths.kept(lengths.max_length).trained_tokens >= COVERED
    if settings.max_length is None and is_little:
        return [finding for finding in findings if finding.kind != "cut"]
    return findings


def _passes(settings: RunSettings, lengths: TokenLengths | None, conversations: int) -> float:
    """Return how many epochs these settings train for on so many conversations; 0 if a run stops early by itself."""
    if settings.early_stopping_patience is not None:
        return 0.0
    settings = without_replay_of_text(settings, bool(lengths and lengths.is_text))
    settings = with_schedule(settings, conversations)
    if settings.max_steps < 0 or lengths is None:
        return settings.passes()
    rows, filled = settings.max_steps * settings.rows_per_step(), settings.row_length(lengths.max_length)
    if filled is None:
        return rows / rows_per_pass(settings, lengths.total)
    kept = float(np.minimum(lengths.lengths, lengths.max_length).mean())
    return rows * filled / max(1.0, rows_per_pass(settings, lengths.total) * kept)

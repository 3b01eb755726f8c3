"""Turn facts about the data into HTML and text for the Data tab. Without Gradio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.data.checkup.finding import SEVERITIES, Finding, Severity, rows_are
from sft_app.data.checkup.fixes import Cleaning
from sft_app.data.checkup.inspection import Inspection
from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.conversation import Conversation
from sft_app.data.formats.detection import Certainty, DetectedLayout
from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.reading import LoadedData
from sft_app.data.rows import Rejected
from sft_app.data.tokens import IGNORED, RenderedConversation
from sft_app.errors import NothingUsable
from sft_app.templating import render_html

FORMAT_LABELS: dict[str, str] = {"auto": "Auto-detect", **{layout.name: layout.label for layout in LAYOUTS.values()}}
MAX_REASONS = 20
MAX_ROW_NUMBERS = 10
MAX_LISTED_ROWS = 200
SEVERITY_WORDS: dict[Severity, str] = {"serious": "Serious", "check": "Check", "note": "Note"}
SEVERITY_COUNTED: dict[Severity, str] = {"serious": "serious", "check": "to check", "note": "to note"}
EXAMPLE_CHARACTERS, SAMPLE_CHARACTERS = 140, 70


def data_summary_card(data: LoadedData) -> str:
    """Show the counts of a data file; if it is very large, the counts of its first part."""
    conversations = data.conversations
    multi_turn = sum(conversation.assistant_turns() > 1 for conversation in conversations)
    rejected = sum(not row.by_choice for row in data.rejected)
    not_chosen = len(data.rejected) - rejected
    left_out = [f"{rejected:,} skipped"] * bool(rejected) + [f"{not_chosen:,} not chosen"] * bool(not_chosen)
    more = "" if data.is_whole else " and more"
    facts = [
        ("Conversations", f"{len(conversations):,}{more}"),
        ("Rows", f"{data.rows:,}{more}, {' and '.join(left_out) or 'none skipped'}"),
        ("Multi-turn", f"{multi_turn:,}"),
        ("Layout", reading_label(DetectedLayout(data.file.settings.format, "", data.file.settings.columns))),
    ]
    return render_html("data/facts.html", facts=facts)


def reading_card(
    certainty: Certainty, notes: Sequence[str], guesses: Sequence[tuple[DetectedLayout, Conversation | None]]
) -> str:
    """Show why a layout was detected, which columns are not used, and an example of each guess.

    If the person has chosen a layout, the app's reasons no longer apply and are not shown.
    """
    shown = [] if certainty == "chosen" else [(reading_label(guess), guess.why, example) for guess, example in guesses]
    return render_html(
        "data/reading.html",
        is_certain=certainty == "certain",
        readings=[(label, _capitalised(why), _example_lines(example)) for label, why, example in shown],
        notes=notes,
    )


def reading_label(guess: DetectedLayout) -> str:
    """Return the label of a detected layout in a list of choices."""
    columns = " → ".join(entry.partition("=")[2] for entry in guess.columns[:2])
    return columns or FORMAT_LABELS[guess.format]


def speaker_label(name: str, said: str) -> str:
    """Return who speaks with the start of one of their messages, to choose from."""
    return f"{name}: “{_short(' '.join(said.split()), SAMPLE_CHARACTERS)}”" if said.strip() else name


def left_out_list(rejected: Sequence[Rejected]) -> str:
    """List the reasons why rows are skipped as Markdown, one line per reason with its rows."""
    by_reason: dict[str, list[int]] = {}
    for row in rejected:
        by_reason.setdefault(row.reason, []).append(row.row)
    lines = [f"- {rows_in_words(rows)}: {reason}" for reason, rows in list(by_reason.items())[:MAX_REASONS]]
    if len(by_reason) > MAX_REASONS:
        lines.append(f"- and {len(by_reason) - MAX_REASONS:,} more reasons")
    return "\n".join(lines)


def rows_in_words(rows: Sequence[int]) -> str:
    """Return `row 3` or `3 rows (1, 4, 9)`, shortened if there are many."""
    if len(rows) == 1:
        return f"row {rows[0]:,}"
    shown = ", ".join(map(str, rows[:MAX_ROW_NUMBERS]))
    return f"{len(rows):,} rows ({shown}{', …' if len(rows) > MAX_ROW_NUMBERS else ''})"


@dataclass(frozen=True)
class RowLinks:
    """The rows of a finding: those shown at once, those behind “more”, and how many are not listed."""

    title: str
    first: Sequence[int]
    more: Sequence[int]
    unlisted: int


def row_links(rows: Sequence[int]) -> RowLinks:
    """Return which of these rows are listed as buttons that show them."""
    title = "row" if len(rows) == 1 else f"{len(rows):,} rows"
    listed = rows[:MAX_LISTED_ROWS]
    return RowLinks(title, listed[:MAX_ROW_NUMBERS], listed[MAX_ROW_NUMBERS:], len(rows) - len(listed))


def findings_list(inspection: Inspection) -> str:
    """Show the result of the check-up: the most serious findings first, and of these the fixable ones."""
    return _findings_card(inspection.findings, inspection.conversations - inspection.heldout, inspection.heldout)


def repair_card(error: NothingUsable) -> str:
    """Show that no row can be used before the fix of empty and out-of-order turns."""
    rows = error.repairable
    said = f"{rows_are(len(rows), 'has', 'have')} empty or out-of-order turns, so no row can be used yet."
    return _findings_card([Finding("turns", rows, said, "repair_turns", "serious")])


def _findings_card(findings: Sequence[Finding], training: int | None = None, heldout: int = 0) -> str:
    """Show findings and, unless nothing can be read, how many conversations are trained on and held out."""
    counts = Counter(finding.severity for finding in findings)
    return render_html(
        "data/findings.html",
        findings=[(finding, SEVERITY_WORDS[finding.severity], row_links(finding.rows)) for finding in findings],
        counted=", ".join(f"{counts[name]} {SEVERITY_COUNTED[name]}" for name in SEVERITIES if counts[name]),
        training=training,
        heldout=heldout,
    )


@dataclass(frozen=True)
class ShownRow:
    """A row that a finding names; `has_others` if the finding names others too."""

    number: int
    has_others: bool = False


def row_card(row: ShownRow, conversation: int | None, text: str = "", note: str = "") -> str:
    """Show which row of the file is shown; with `text`, the row as it is in the file."""
    return render_html(
        "data/row.html", row=row.number, has_others=row.has_others, conversation=conversation, text=text, note=note
    )


def cleaned_card(*history: Cleaning) -> str:
    """Show a copy's original, all that was done since then, and the rows that were skipped."""
    items = []
    for cleaning in history:
        items += [fix.sentence() for fix in cleaning.applied]
        if cleaning.left_out:
            rows = [row.row for row in cleaning.left_out]
            items.append(f"Skipped because they could not be used: {rows_in_words(rows)}")
    return render_html("data/cleaned.html", source=Path(history[0].source).name, items=items)


def length_chart(lengths: TokenLengths) -> str:
    """Show a histogram of conversation lengths, and how much each `max_length` keeps."""
    bars, max_length = lengths.histogram(), lengths.max_length
    max_count = max(count for _, _, count in bars)
    is_sample = len(lengths.lengths) < lengths.total
    measured = f"a sample of {len(lengths.lengths):,}" if is_sample else f"{lengths.total:,} conversations"
    kept = sorted({*lengths.kept_table(), lengths.kept(max_length)}, key=lambda row: row.max_length)
    return render_html(
        "data/lengths.html",
        measured=f"{measured}; half have at most {lengths.percentile(0.5):,}",
        bars=[
            (low > max_length, 100 * count / max_count, f"{low:,} to {high - 1:,} tokens: {count:,}")
            for low, high, count in bars
        ],
        longest=f"{bars[-1][1] - 1:,}",
        rows=[
            (row.max_length == max_length, row.max_length, _percent(row.conversations), _percent(row.trained_tokens))
            for row in kept
        ],
    )


def token_spans(tokenizer: Any, rendered: RenderedConversation) -> list[tuple[str, str]]:
    """Return (text, class) of each token, with line ends made visible."""
    ends = set(rendered.ends)
    spans = []
    for index, (id, label) in enumerate(zip(rendered.input_ids, rendered.labels, strict=True)):
        kind = "trained" if label != IGNORED else "context"
        if index in ends:
            kind = "end, trained" if label != IGNORED else "end, not trained"
        spans.append((tokenizer.decode([id]).replace("\n", "⏎\n"), "cut" if index >= rendered.kept else kind))
    return spans


def token_note(rendered: RenderedConversation, notes: Sequence[str]) -> str:
    """Return a note on how much of a conversation is trained on, and what is unusual about it."""
    total = len(rendered.input_ids)
    parts = "every answer with its end-of-turn token, and nothing else"
    note = f"The model is trained on **{rendered.trained:,}** of {total:,} tokens: {parts}."
    if rendered.is_cut:
        lost = f"**{rendered.trained_lost:,}** answer tokens are cut off and lost"
        note += f" The conversation is longer than max_length {rendered.kept:,}: {lost}."
    return "\n\n".join([note, *notes])


def chat_of(conversation: Conversation) -> list[dict[str, Any]]:
    """Return a conversation as chat messages. Roles other than user are on the assistant's side, under a title."""
    titles = {"system": "System prompt", "tool": "Tool"}
    return [
        {
            "role": "user" if message.role == "user" else "assistant",
            "content": message.content,
            "metadata": {"title": titles[message.role]} if message.role in titles else {},
        }
        for message in conversation.messages
    ]


def _example_lines(conversation: Conversation | None) -> list[tuple[str, str]] | None:
    """Return (verb, text) of the first question and answer, leaving out empty ones."""
    if conversation is None:
        return None
    lines = (("asks", conversation.question()), ("answers", conversation.answers()[0]))
    return [(verb, _short(text)) for verb, text in lines if text]


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _short(text: str, most: int = EXAMPLE_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


def _percent(share: float) -> str:
    """Round a share to a percentage that is 100% only for the whole."""
    return "100%" if share == 1 else f"{min(share, 0.999):.1%}"

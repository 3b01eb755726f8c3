"""What the Data tab shows, as plain values to HTML and lists. No Gradio here; text from people goes in escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from sft_app.data.checkup.checks import Finding
from sft_app.data.checkup.fixes import Cleaning
from sft_app.data.checkup.inspection import Inspection
from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.conversation import Conversation
from sft_app.data.formats.detection import Certainty, DetectedLayout
from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.reading import LoadedData
from sft_app.data.rows import Rejected
from sft_app.data.tokens import IGNORED, RenderedConversation

FORMAT_LABELS: dict[str, str] = {"auto": "Auto-detect", **{layout.name: layout.label for layout in LAYOUTS.values()}}
REASONS_SHOWN = 20
ROWS_SHOWN = 10
EXAMPLE_LENGTH = 140


def data_facts(data: LoadedData) -> str:
    """Counts of a data file; of a very large one, of its first part."""
    conversations = data.conversations
    several = sum(conversation.assistant_turns() > 1 for conversation in conversations)
    rejected = sum(not row.by_choice for row in data.rejected)
    chosen_away = len(data.rejected) - rejected
    left_out = [f"{rejected:,} skipped"] * bool(rejected) + [f"{chosen_away:,} not chosen"] * bool(chosen_away)
    more = "" if data.is_whole else " and more"
    facts = [
        ("Conversations", f"{len(conversations):,}{more}"),
        ("Rows", f"{data.rows:,}{more}, {' and '.join(left_out) or 'none skipped'}"),
        ("Multi-turn", f"{several:,}"),
        ("Read as", reading_label(DetectedLayout(data.file.settings.format, "", data.file.settings.columns))),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<section class="ft-card"><dl>{cells}</dl></section>'


def reading_card(
    certainty: Certainty, notes: Sequence[str], guesses: Sequence[tuple[DetectedLayout, Conversation | None]]
) -> str:
    """Why a file is read as it is, and what of it is not learnt; with an example of each reading that is a guess.

    Where a person has chosen, the app's own reasons are out of date and not shown.
    """
    said = "".join(f'<p class="ft-evidence">{_with_code(note)}</p>' for note in notes)
    if certainty == "chosen" or not guesses:
        return said
    if certainty == "certain" and len(guesses) == 1:
        return f'<p class="ft-evidence">{_with_code(_capitalised(guesses[0][0].why))}.</p>{said}'
    items = "".join(
        f"<li><b>{escape(reading_label(guess))}</b> {_with_code(_capitalised(guess.why))}.{_quoted(example)}</li>"
        for guess, example in guesses
    )
    title = "Two layouts are possible" if len(guesses) > 1 else "This layout is a guess"
    advice = (
        ""
        if certainty == "certain"
        else "<p>Check the example before you train. You can choose another layout or the columns below.</p>"
    )
    return f'<section class="ft-card ft-readings">{_header(title)}<ol>{items}</ol>{advice}</section>{said}'


def reading_label(guess: DetectedLayout) -> str:
    """A reading in a list of choices."""
    named = " → ".join(entry.partition("=")[2] for entry in guess.columns[:2])
    return named or FORMAT_LABELS[guess.format]


def left_out_list(rejected: Sequence[Rejected]) -> str:
    """Markdown: one line for each reason, with its rows."""
    by_reason: dict[str, list[int]] = {}
    for row in rejected:
        by_reason.setdefault(row.reason, []).append(row.row)
    lines = [f"- {rows_in_words(rows)}: {reason}" for reason, rows in list(by_reason.items())[:REASONS_SHOWN]]
    if len(by_reason) > REASONS_SHOWN:
        lines.append(f"- and {len(by_reason) - REASONS_SHOWN:,} more reasons")
    return "\n".join(lines)


def rows_in_words(rows: Sequence[int]) -> str:
    """`row 3`, or `3 rows (1, 4, 9)`, shortened when there are many."""
    if len(rows) == 1:
        return f"row {rows[0]:,}"
    shown = ", ".join(map(str, rows[:ROWS_SHOWN]))
    return f"{len(rows):,} rows ({shown}{', …' if len(rows) > ROWS_SHOWN else ''})"


def findings_list(inspection: Inspection) -> str:
    """The check-up's result; what can be mended comes first."""
    findings = sorted(inspection.findings, key=lambda finding: not finding.fix)
    split = (
        f"{inspection.conversations - inspection.heldout:,} conversations to train on, {inspection.heldout:,} held out "
        "for evaluation. Duplicates and near duplicates stay on one side."
    )
    if not findings:
        return f'<section class="ft-card ft-good">{_header("No problems found")}<p>{split}</p></section>'
    things = "1 thing" if len(findings) == 1 else f"{len(findings)} things"
    items = "".join(_finding_item(finding) for finding in findings)
    return (
        f'<section class="ft-card ft-findings">{_header(f"{things} to check")}<p>{split}</p><ul>{items}</ul></section>'
    )


def cleaned_card(cleaning: Cleaning) -> str:
    """What a cleaned copy was made of and how, with the rows that stayed behind."""
    items = [escape(fix.sentence()) for fix in cleaning.applied]
    if cleaning.left_out:
        rows = [row.row for row in cleaning.left_out]
        items.append(f"Skipped because they could not be used: {rows_in_words(rows)}")
    source = f"of {escape(Path(cleaning.source).name)}"
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f'<section class="ft-card ft-good">{_header("Cleaned copy", source)}<ul>{listed}</ul></section>'


def length_chart(lengths: TokenLengths) -> str:
    """A histogram of conversation lengths, with what is over `max_length` in another colour, and what is kept."""
    bars, max_length = lengths.histogram(), lengths.max_length
    most = max(count for _, _, count in bars)
    drawn = "".join(
        f'<i class="{"ft-over" if low > max_length else "ft-within"}" style="height:{100 * count / most:.1f}%" '
        f'title="{low:,} to {high - 1:,} tokens: {count:,}"></i>'
        for low, high, count in bars
    )
    of = f"{lengths.total:,}" if len(lengths.lengths) == lengths.total else f"a sample of {len(lengths.lengths):,}"
    half = f"of {of}; half have at most {lengths.percentile(0.5):,}"
    kept = lengths.kept(max_length)
    rows = "".join(
        f"<tr{' class=ft-chosen' if row.max_length == max_length else ''}><td>{row.max_length:,}</td>"
        f"<td>{_percent(row.conversations)}</td><td>{_percent(row.trained_tokens)}</td></tr>"
        for row in sorted({*lengths.kept_table(), kept}, key=lambda row: row.max_length)
    )
    return (
        f'<section class="ft-card ft-lengths">{_header("Tokens per conversation", half)}'
        f'<div class="ft-bars" role="img" aria-label="Histogram of conversation lengths">{drawn}</div>'
        f'<div class="ft-axis"><span>0</span><span>{bars[-1][1] - 1:,} tokens</span></div>'
        "<table><thead><tr><th>max_length</th><th>whole conversations</th><th>answer tokens kept</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def token_spans(tokenizer: Any, rendered: RenderedConversation) -> list[tuple[str, str]]:
    """Token texts with their class; line ends are made visible."""
    ends = set(rendered.ends)
    spans = []
    for place, (id, label) in enumerate(zip(rendered.input_ids, rendered.labels, strict=True)):
        kind = "trained" if label != IGNORED else "context"
        if place in ends:
            kind = "end, trained" if label != IGNORED else "end, not trained"
        spans.append((tokenizer.decode([id]).replace("\n", "⏎\n"), "cut" if place >= rendered.kept else kind))
    return spans


def token_note(rendered: RenderedConversation, notes: Sequence[str]) -> str:
    """How much of a conversation is learnt, and what is unusual about it."""
    total = len(rendered.input_ids)
    what = "every answer with its end-of-turn token, and nothing else"
    note = f"**{rendered.trained:,}** of {total:,} tokens are trained: {what}."
    if rendered.is_cut:
        lost = f"**{rendered.trained_lost:,}** answer tokens are cut off and lost"
        note += f" The conversation is longer than max_length {rendered.kept:,}: {lost}."
    return "\n\n".join([note, *notes])


def chat_of(conversation: Conversation) -> list[dict[str, Any]]:
    """As the chat window takes it, which knows two sides only: the others stand on the model's, under their names."""
    titles = {"system": "System prompt", "tool": "Tool"}
    return [
        {
            "role": "user" if message.role == "user" else "assistant",
            "content": message.content,
            "metadata": {"title": titles[message.role]} if message.role in titles else {},
        }
        for message in conversation.messages
    ]


def _header(title: str, beside: str = "") -> str:
    return f"<header><strong>{title}</strong>{f'<span>{beside}</span>' if beside else ''}</header>"


def _finding_item(finding: Finding) -> str:
    rows = f" <small>{escape(rows_in_words(finding.rows))}</small>" if finding.rows else ""
    return f'<li class="{"ft-fixable" if finding.fix else ""}">{escape(finding.message)}{rows}</li>'


def _quoted(conversation: Conversation | None) -> str:
    if conversation is None:
        return ""
    question, answer = conversation.question(), conversation.answers()[0]
    shown = [
        f"<em>{name}</em> {escape(_short(text))}" for name, text in (("asks", question), ("answers", answer)) if text
    ]
    return f"<blockquote>{'<br>'.join(shown)}</blockquote>"


def _with_code(text: str) -> str:
    """`name` in the text becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _short(text: str) -> str:
    return text if len(text) <= EXAMPLE_LENGTH else f"{text[:EXAMPLE_LENGTH].rstrip()} …"


def _percent(share: float) -> str:
    """Never 100 % when something is missing."""
    return "100%" if share == 1 else f"{min(share, 0.999):.1%}"

"""The scorecard as HTML: what it says, both sides' numbers with their intervals, and the rows behind them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sft_app.evaluation.verdicts import (
    Line,
    answers_of,
    cannot_be_judged,
    computed_note,
    forgetting_sentence,
    note_of,
    scorecard_lines,
    summary_sentence,
    verdict_of_loss,
)
from sft_app.runs.scorecard import ChangedRow, PredictedScores, Scorecard, Scores
from sft_app.runs.summary import number_text

KINDS = {"better": "ft-better", "worse": "ft-worse", "changed": "ft-changed"}
ROWS = (
    ("better", "became more likely"),
    ("equal", "stayed the same"),
    ("worse", "became less likely"),
    ("not_a_number", "have no valid loss"),
)
NO_GENERAL = "Not measured yet. Press “Measure” to ask general questions too and reveal any damage outside your task."
BROKEN = "No complete answer: the model stopped because its numbers became infinite."
NO_ANSWERS = "No answers were generated. Choose how many questions to answer below and press “Measure”."


def scorecard_view(card: Scorecard) -> str:
    """What the scorecard says, with the forgetting check beside the task itself."""
    heldout = card.row_count
    verdict = verdict_of_loss(card)
    said_in_full = " ".join(filter(None, [summary_sentence(card), computed_note(card)]))
    said = f'<section class="ft-card ft-said {KINDS.get(verdict, "")}"><p>{escape(said_in_full)}</p></section>'
    task = _part(f"Your held-out examples · {heldout}", "How likely each model finds the reference answers.", card)
    return f'{said}<div class="ft-cards">{task}{_general(card)}{_answers(card)}</div>'


def changed_rows_view(card: Scorecard) -> str:
    """The rows that changed most, to be read."""
    changed = {"Most improved": card.most_changed.improved, "Most damaged": card.most_changed.damaged}
    return "".join(_rows(title, rows) for title, rows in changed.items() if rows)


def _general(card: Scorecard) -> str:
    part = card.general
    if part is None:
        return _empty("Did it forget?", NO_GENERAL)
    return _part(f"Did it forget? · {part.row_count} general questions", forgetting_sentence(part), part)


def _answers(card: Scorecard) -> str:
    answers = answers_of(card)
    if answers is None:
        return _empty("The models' own answers", NO_ANSWERS, "ft-wide")
    told = "What each model writes itself, compared with the reference answer."
    return _part(f"The models' own answers · {answers.prompts} held-out questions", told, answers, "ft-wide")


def _empty(title: str, text: str, kind: str = "") -> str:
    return f'<section class="ft-card ft-empty {kind}"><header><strong>{title}</strong></header><p>{text}</p></section>'


def _part(title: str, told: str, part: Scores, kind: str = "") -> str:
    lines = "".join(_line(line) for line in scorecard_lines(part))
    head = "<th></th><th>base</th><th>fine-tuned</th><th>difference (95% interval)</th><th></th>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    rows = part.rows.model_dump() if isinstance(part, PredictedScores) else {}
    counted = _counted({"not_a_number": rows.get("not_a_number", 0)} if cannot_be_judged(part) else rows)
    noted = note_of(part)
    note = f'<p class="ft-key">{escape(noted)}</p>' if noted else ""
    return (
        f'<section class="ft-card ft-score {kind}"><header><strong>{escape(title)}</strong></header>'
        f'<p class="ft-dim">{escape(told)}</p>{counted}<div class="ft-scroll">{table}</div>{note}</section>'
    )


def _line(line: Line) -> str:
    verdict = f'<b class="ft-verdict {KINDS.get(line.verdict, "")}">{line.verdict}</b>' if line.verdict else ""
    interval = f"{_bar(line)}<small>{escape(line.interval)}</small>" if line.interval else ""
    return (
        f"<tr><th>{escape(line.label)}</th><td>{line.base}</td><td>{line.tuned}</td>"
        f"<td><span>{line.difference}</span>{interval}</td><td>{verdict}</td></tr>"
    )


def _bar(line: Line) -> str:
    """The interval around the middle, which is no difference; as wide as its far end is from there."""
    reach = max(abs(line.low), abs(line.high)) or 1.0
    left, right = (50 + 50 * end / reach for end in (line.low, line.high))
    kind = KINDS.get(line.verdict, "")
    return f'<i class="ft-interval {kind}"><i style="left:{left:.1f}%;width:{max(right - left, 1):.1f}%"></i></i>'


def _counted(rows: dict[str, int]) -> str:
    """How many rows went which way, as one bar."""
    total = sum(rows.values())
    if not total:
        return ""
    parts = "".join(
        f'<i class="{KINDS.get(name, "ft-equal")}" style="width:{100 * rows.get(name, 0) / total:.1f}%"></i>'
        for name, _ in ROWS
    )
    words = ", ".join(f"{rows[name]} {told}" for name, told in ROWS if rows.get(name))
    return f'<div class="ft-rows">{parts}</div><p class="ft-key">{words}</p>'


def _rows(title: str, rows: Sequence[ChangedRow]) -> str:
    items = "".join(_row(row) for row in rows)
    return f'<details class="ft-card ft-changes"><summary>{title}: {len(rows)} to read</summary>{items}</details>'


def _row(row: ChangedRow) -> str:
    *asked, given = row.messages
    question = asked[-1].content if asked else ""
    before, after = (number_text(loss, "{:.2f}") for loss in (row.base_loss, row.tuned_loss))
    losses = f"loss {before} → {after}"
    texts = [("reference", given.content), *zip(("base", "fine-tuned"), row.answers, strict=False)]
    cells = "".join(
        f'<div><b>{name}</b><div class="ft-text">{escape(BROKEN if text is None else text)}</div></div>'
        for name, text in texts
    )
    return (
        f"<article><header><strong>{escape(question)}</strong><span>row {row.row} · {losses}</span></header>"
        f'<div class="ft-three">{cells}</div></article>'
    )

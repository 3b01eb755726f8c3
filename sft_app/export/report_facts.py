"""Gather what a run's report says, as plain values, for its HTML and Markdown versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sft_app.data.checkup.finding import count_of
from sft_app.evaluation.answer_pairs import AnswerPair, choose_pairs, collect_pairs
from sft_app.evaluation.beside.beside_training import BesideTraining, beside_training
from sft_app.evaluation.forgetting.sentences import KnownText, describe_known, forgetting_sentence
from sft_app.evaluation.judge.result import judge_results, judge_sentences
from sft_app.evaluation.results.headline import headline
from sft_app.evaluation.suites.summary import kept_tests_sentence
from sft_app.evaluation.verdicts import (
    Line,
    cannot_be_judged,
    computed_note,
    drawn_interval,
    judgeable_answers,
    note_before_numbers,
    scorecard_lines,
    summary_sentence,
)
from sft_app.evaluation.votes import (
    ANY_TIME,
    Tally,
    by_voter,
    counted_votes,
    tally,
    tally_by_pair,
    votes_sentence,
    waiting_sentence,
)
from sft_app.evaluation.word_diff import Passage, compare_words
from sft_app.export.public_facts import (
    Fact,
    changed_settings,
    data_name,
    every_setting,
    made_with_facts,
    needed_to_repeat,
    public_model,
    public_text,
    public_values,
    training_data_facts,
    training_facts,
)
from sft_app.runs.folder import Run
from sft_app.runs.records import StepMetrics
from sft_app.runs.scorecard import PredictedScores, Scorecard, Scores
from sft_app.runs.summary import NOT_A_NUMBER, RunSummary, loss_change, number_text, summarise_run, unjudged_note

COMMANDS = (
    "python -m sft_app train --config settings.json",
    "python -m sft_app score latest",
    "python -m sft_app export latest --as report --to report",
)
STATES = {
    "queued": "This run is queued: nothing has been trained yet.",
    "preparing": "This run is being prepared: nothing has been trained yet.",
    "training": "This run is still training. The report shows what is available so far.",
    "scoring": "This run has been trained and is being measured. The report shows what is available so far.",
    "stopped": "This run was stopped early. The report shows what is available.",
    "failed": "This run failed. The report shows what is available.",
    "interrupted": "This run was interrupted. The report shows what is available.",
}


@dataclass(frozen=True)
class ScoreTable:
    """One part of the scorecard. `spans` are the intervals of its lines, (low, value, high), to draw."""

    title: str
    note: str
    lines: list[Line]
    spans: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class ShownPair:
    """A prompt with both answers, split into passages that the answers share or not."""

    pair: AnswerPair
    base: list[Passage]
    tuned: list[Passage]


@dataclass(frozen=True)
class Votes:
    """The result of the blind test; `rows` are the tallies of all voters together, if several, and of each one."""

    sentence: str
    rows: list[tuple[str, Tally]]


@dataclass(frozen=True)
class ReportFacts:
    """The contents of a report, in reading order. Missing parts are empty; `unmeasured` says what was not measured."""

    title: str
    run_id: str
    subtitle: str
    state: str
    summary: str
    headline: list[Fact]
    scores: list[ScoreTable]
    unmeasured: str
    forgetting: ScoreTable | None
    known: KnownText | None
    beside: BesideTraining
    tests: str
    metrics: list[StepMetrics]
    pairs: list[ShownPair]
    pairs_note: str
    votes: Votes | None
    judges: list[str]
    data: list[Fact]
    training: list[Fact]
    preset: str
    changed: list[Fact]
    settings: list[Fact]
    made_with: list[Fact]
    versions: dict[str, str]
    needs: list[str]
    commands: list[str]
    config: str


def gather_facts(run: Run, chosen: Sequence[str] | None = None) -> ReportFacts:
    """Gather the facts from the run's folder; `chosen` are ids of the pairs to show.

    Raises: RunError if the run's settings cannot be read.
    """
    record, status, metrics, card = run.record(), run.status(), run.metrics(), run.scorecard()
    summary = summarise_run(run, metrics)
    known, votes = collect_pairs(run), _votes(run)
    pairs = choose_pairs(known, chosen)
    return ReportFacts(
        title=record.settings.name or f"Run {run.id}",
        run_id=run.id,
        subtitle=f"{public_model(record)}, fine-tuned on {data_name(record)}",
        state=_state(run),
        summary=_summary(card, summary),
        headline=_headline(card, summary, votes),
        scores=_score_tables(card),
        unmeasured=_unmeasured(run, card),
        forgetting=_forgetting(card),
        known=describe_known(card),
        beside=beside_training(card),
        tests=kept_tests_sentence(card.tests) if card else "",
        metrics=metrics,
        pairs=[ShownPair(pair, *compare_words(pair.base, pair.tuned)) for pair in pairs],
        pairs_note=_pairs_note(len(pairs), len(known), chosen is None),
        votes=votes,
        judges=[public_text(run, " ".join(judge_sentences(found))) for found in judge_results(run)],
        data=training_data_facts(run, record),
        training=training_facts(record, status, summary, run.strength()),
        preset=record.settings.preset,
        changed=changed_settings(record),
        settings=every_setting(record),
        made_with=made_with_facts(record, status, metrics),
        versions=record.versions,
        needs=needed_to_repeat(record),
        commands=list(COMMANDS),
        config=json.dumps(public_values(record), indent=2, ensure_ascii=False),
    )


def _state(run: Run) -> str:
    """Return what to know about a run that has not finished."""
    status = run.status()
    return " ".join(filter(None, [STATES.get(status.state, ""), public_text(run, status.message)]))


def _summary(card: Scorecard | None, summary: RunSummary) -> str:
    if card is not None:
        return f"{headline(card)} {summary_sentence(card)}"
    if summary.heldout_loss_tuned is not None:
        return f"Held-out loss {loss_change(summary)}, measured during training. {unjudged_note(summary)}".strip()
    return "Nothing has been measured after training yet."


def _headline(card: Scorecard | None, summary: RunSummary, votes: Votes | None) -> list[Fact]:
    """Return the few numbers at the top of the report."""
    if card is None:
        known = summary.heldout_loss_base is not None
        facts = [("Held-out loss", loss_change(summary))] if known else []
    else:
        lines = {line.name: line for line in scorecard_lines(card)}
        facts = [("Held-out loss", _both_losses(card))]
        counted = f"{card.rows.better} of {card.row_count}"
        facts += [("Answers more likely", NOT_A_NUMBER if cannot_be_judged(card) else counted)]
        right = lines.get("token_accuracy")
        facts += [("Token accuracy", f"{right.base} → {right.tuned}")] if right else []
        facts += [("Loss on general questions", _both_losses(card.general))] if card.general else []
        lost = describe_known(card)
        facts += [("Known before, lost now", lost.counted)] if lost else []
    share = votes.rows[0][1].win_rate if votes and votes.rows else None
    facts += [("Blind votes for fine-tuned", f"{share:.0%}")] if share is not None else []
    return facts


def _both_losses(part: PredictedScores) -> str:
    return " → ".join(number_text(side["loss"], "{:.2f}") for side in (part.base, part.tuned))


def _score_tables(card: Scorecard | None) -> list[ScoreTable]:
    if card is None:
        return []
    counted = f"{count_of(card.row_count, 'conversation')} that training never saw"
    note = f"How well each side predicts the reference answers of {counted} ({card.heldout.trained_tokens:,} tokens)."
    note = " ".join(filter(None, [note, computed_note(card)]))
    tables = [_score_table("Reference answers", note, card)]
    if answers := judgeable_answers(card):
        note = f"What each side answers to {answers.prompts} of these questions, compared with the reference answers."
        tables.append(_score_table("The models' own answers", note, answers))
    return tables


def _forgetting(card: Scorecard | None) -> ScoreTable | None:
    if card is None or card.general is None:
        return None
    return _score_table("General questions", forgetting_sentence(card), card.general)


def _score_table(title: str, note: str, part: Scores) -> ScoreTable:
    lines, differences = scorecard_lines(part), part.difference
    drawn = [line.name for line in lines if line.interval]
    spans = {name: span for name in drawn if (span := drawn_interval(differences[name]))}
    return ScoreTable(title, " ".join(filter(None, [note, note_before_numbers(part)])), lines, spans)


def _unmeasured(run: Run, card: Scorecard | None) -> str:
    if not run.has_adapter():
        return "The run has saved no adapter, so there is nothing to compare with the base model."
    if card is None:
        return "The run has no scorecard."
    parts = {"both sides' own answers": card.answers, "forgetting": card.general}
    missing = [name for name, part in parts.items() if part is None]
    return f"Not measured: {' and '.join(missing)}." if missing else ""


def _pairs_note(shown: int, known: int, is_default: bool) -> str:
    if not known:
        return "The run has no answers from both sides yet."
    if shown == known:
        return f"All {known} questions both sides answered." if known > 1 else ""
    how = "most changed first" if is_default else "chosen by hand"
    return f"{shown} of the {known} questions both sides answered, {how}."


def _votes(run: Run) -> Votes | None:
    votes, waiting = counted_votes(run), waiting_sentence(run)
    if not votes:
        return Votes(waiting, []) if waiting else None
    each = [(name, tally(theirs)) for name, theirs in by_voter(votes).items()]
    together = [("All voters, each pair once", tally_by_pair(votes))] if len(each) > 1 else []
    sentence = " ".join(filter(None, [votes_sentence(votes), ANY_TIME, waiting]))
    return Votes(sentence, [*together, *each])

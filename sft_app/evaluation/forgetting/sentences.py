"""Put into words what a fine-tuned model forgot, and what to do about it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sft_app.data.checkup.finding import count_of
from sft_app.evaluation.results.findings import FEWEST_KNOWN, Findings, find_results, measured_counts
from sft_app.evaluation.verdicts import change_of_loss, unjudged_sentence, why_too_few
from sft_app.runs.known import Known, KnownCounts, LostQuestion
from sft_app.runs.scorecard import Scorecard
from sft_app.runs.summary import NOT_A_NUMBER, number_text

WHAT_TO_DO = (
    "To forget less: use the adapter at a strength below 1, train for fewer epochs or with a lower learning rate, "
    "or mix general conversations into your examples."
)
KNOWN_COLUMNS = ("", "asked", "known before", "lost now", "gained")


@dataclass(frozen=True)
class LostText:
    """A lost question in words: its kind and losses, what is wrong with the answer now, and (name, text) of the
    reference and both answers."""

    question: str
    detail: str
    failed: list[str]
    texts: list[tuple[str, str]]


@dataclass(frozen=True)
class KnownText:
    """What was lost, as it is shown everywhere: a sentence, a (title, rows) for each way of measuring, and the lost
    questions. `counted` has the lost and the known questions as numbers. `is_worse` and `is_unclear` say how the
    sentence is marked."""

    sentence: str
    counted: str
    is_worse: bool
    is_unclear: bool
    tables: list[tuple[str, list[tuple[str, ...]]]]
    lost: list[LostText]


def describe_known(card: Scorecard | None) -> KnownText | None:
    """Put into words what was lost; None if it was not measured."""
    if card is None or card.known is None:
        return None
    found = find_results(card)
    is_worse = found.known in ("some lost", "nothing lost") and found.has_forgotten
    return KnownText(
        sentence=known_sentence(card),
        counted=_counted(card.known),
        is_worse=is_worse,
        is_unclear=found.known == "some lost" and not is_worse,
        tables=known_tables(card.known),
        lost=[_lost_text(question) for question in card.known.lost],
    )


def forgetting_sentence(card: Scorecard) -> str:
    """Say how the loss on the general questions changed, and whether that means forgetting; "" if it was not
    measured. There are two sentences if a loss is not a number."""
    if (general := card.general) is None:
        return ""
    found, questions = find_results(card), count_of(general.row_count, "general question")
    if found.general == "not a number":
        return unjudged_sentence(general, f"the answers to {questions}")
    if found.general == "too few":
        return f"Not enough rows to tell from {questions}: {why_too_few(general)}{_but_lost(found)}."
    if found.general == "unchanged":
        return f"The model predicts the answers to {questions} as well as before{_but_lost(found)}."
    change = f"he model predicts the answers to {questions} {found.general} than before, loss {change_of_loss(general)}"
    if found.general == "worse":
        return f"Something was forgotten: t{change}."
    return f"T{change}{_but_lost(found)}." if _but_lost(found) else f"No sign of forgetting: t{change}."


def known_sentence(card: Scorecard) -> str:
    """Return what was lost of what the base model knew, and what to do about it; "" if it was not measured."""
    if (known := card.known) is None:
        return ""
    found = find_results(card)
    match found.known:
        case "not a number":
            return _broken_sentence()
        case "some lost":
            return _lost_sentence(known, found)
        case "nothing lost":
            return _nothing_lost_sentence(known, found)
        case "too few known":
            return _too_few_sentence(known)
        case _:
            return _none_known_sentence(known)


def known_tables(known: Known) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Return a (title, rows) for each way of measuring; the rows have a cell for each of `KNOWN_COLUMNS`."""
    titles = {
        "By answer: the model's own answer passes the question's checks": known.by_answer,
        "By loss: the model predicts the reference answer well": known.by_loss,
    }
    return [(title, _rows(counts)) for title, counts in titles.items() if counts is not None]


def _lost_text(lost: LostQuestion) -> LostText:
    before, after = (number_text(loss, "{:.2f}") for loss in (lost.base_loss, lost.tuned_loss))
    answers = (("base", lost.base), ("fine-tuned", lost.tuned))
    return LostText(
        question=lost.question,
        detail=f"{lost.kind} · loss {before} → {after}",
        failed=lost.failed,
        texts=[("reference", lost.reference), *((name, text) for name, text in answers if text is not None)],
    )


def _counted(known: Known) -> str:
    counts = next(iter(measured_counts(known)), None)
    return NOT_A_NUMBER if known.is_broken or counts is None else f"{counts.lost} of {counts.known}"


def _rows(counts: KnownCounts) -> list[tuple[str, ...]]:
    lines = {**counts.kinds, "all": counts}
    return [(name, *map(str, (one.asked, one.known, one.lost, one.gained))) for name, one in lines.items()]


def _but_lost(found: Findings) -> str:
    """Return the clause on what the known questions show, where the loss shows no forgetting; "" if they do not
    either."""
    if found.known == "not a number":
        return ", but some answers to them are not complete, so what was lost cannot be judged"
    if found.known == "some lost":
        return f", but {'it lost' if found.lost_beyond_chance else 'it may have lost'} some that the base model knew"
    return ""


def _broken_sentence() -> str:
    return (
        "What was lost cannot be judged: on the general questions, a model produced values that are not numbers. "
        "If it is the fine-tuned one, train again with a lower learning rate."
    )


def _lost_sentence(known: Known, found: Findings) -> str:
    did = "forgot something" if found.has_forgotten else "may have forgotten something"
    parts = [_lost_part(known.by_answer, "that the base model answered correctly", "answers {} wrongly")]
    parts.append(_lost_part(known.by_loss, "whose reference answer the base model predicted well", "predicts {} worse"))
    said = "; ".join(filter(None, parts))
    return f"The fine-tuned model {did}: {said}. {_doubt(known, found)}{WHAT_TO_DO}"


def _lost_part(counts: KnownCounts | None, knew: str, now: str) -> str:
    if counts is None or not counts.known:
        return ""
    of = f"of {counts.known} general questions {knew}, it"
    if not counts.lost:
        return f"{of} lost none"
    kinds = ", ".join(f"{name} {one.lost}" for name, one in counts.kinds.items() if one.lost)
    share = f"{counts.lost / counts.known:.0%}, 95% interval {counts.low:.0%} to {counts.high:.0%}"
    return f"{of} {now.format(counts.lost)} ({share}; {kinds})"


def _doubt(known: Known, found: Findings) -> str:
    """Return whether the lost questions could be chance, with a space after it; "" if not."""
    if found.lost_beyond_chance:
        return ""
    if found.has_forgotten:
        return "So few could be chance, but the loss on all general questions rose by more than chance. "
    if any(part.gained for part in measured_counts(known)):
        return "It also gained some, so this could be chance: read the lost questions in the scorecard. "
    return "So few could be chance: read the lost questions in the scorecard. "


def _nothing_lost_sentence(known: Known, found: Findings) -> str:
    counts = max(measured_counts(known), key=lambda part: part.known)
    knows = f"the fine-tuned model still knows all {counts.known}"
    interval = f"(95% interval of the share lost: 0% to {counts.high:.0%})"
    if found.has_forgotten:
        return (
            f"Something was forgotten: {knows} general questions that the base model knew {interval}, but its loss on "
            f"all general questions rose. {WHAT_TO_DO}"
        )
    return f"No general question was lost: {knows} that the base model knew {interval}."


def _too_few_sentence(known: Known) -> str:
    counts = max(measured_counts(known), key=lambda part: part.known)
    return (
        f"Too few known questions to tell what was lost: of {count_of(counts.asked, 'general question')}, the base "
        f"model knew {counts.known}, and at least {FEWEST_KNOWN} are needed. "
        "Ask more of them (general prompts), or easier ones in a file of your own (general questions)."
    )


def _none_known_sentence(known: Known) -> str:
    asked = max((part.asked for part in measured_counts(known)), default=0)
    return (
        f"What was lost cannot be measured: the base model knows none of the {asked} general questions. Use easier "
        "ones, or ones in a language that it knows, in a file of your own (general questions)."
    )

"""Put into words what a fine-tuned model no longer knows, and what to do about it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sft_app.runs.known import Known, KnownCounts, LostQuestion
from sft_app.runs.summary import NOT_A_NUMBER, number_text

Situation = Literal["nothing lost", "some lost", "too few known", "none known", "not a number"]
FEWEST_KNOWN = 10
"""With none lost of ten, up to 31 % of all such questions may still be lost (the exact 95 % interval)."""
SIGNIFICANT = 0.05
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


def describe_known(known: Known | None) -> KnownText | None:
    """Put into words what was lost; None if it was not measured."""
    if known is None:
        return None
    is_worse = lost_more_than_gained(known)
    return KnownText(
        sentence=known_sentence(known),
        counted=_counted(known),
        is_worse=is_worse,
        is_unclear=situation(known) == "some lost" and not is_worse,
        tables=known_tables(known),
        lost=[_lost_text(question) for question in known.lost],
    )


def situation(known: Known) -> Situation:
    """Return which of the five things there are to say applies."""
    counts = _measured(known)
    if known.is_broken:
        return "not a number"
    if any(part.lost for part in counts):
        return "some lost"
    most = max((part.known for part in counts), default=0)
    if not most:
        return "none known"
    return "nothing lost" if most >= FEWEST_KNOWN else "too few known"


def lost_more_than_gained(known: Known) -> bool:
    """Return whether more questions were lost than gained, beyond chance."""
    return not known.is_broken and any(
        part.lost > part.gained and part.p_holm <= SIGNIFICANT for part in _measured(known)
    )


def known_sentence(known: Known) -> str:
    """Return what was lost of what the base model knew, and what to do about it."""
    return {
        "not a number": _broken_sentence,
        "some lost": _lost_sentence,
        "nothing lost": _nothing_lost_sentence,
        "too few known": _too_few_sentence,
        "none known": _none_known_sentence,
    }[situation(known)](known)


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
    counts = next(iter(_measured(known)), None)
    return NOT_A_NUMBER if known.is_broken or counts is None else f"{counts.lost} of {counts.known}"


def _rows(counts: KnownCounts) -> list[tuple[str, ...]]:
    lines = {**counts.kinds, "all": counts}
    return [(name, *map(str, (one.asked, one.known, one.lost, one.gained))) for name, one in lines.items()]


def _measured(known: Known) -> list[KnownCounts]:
    return [counts for counts in (known.by_answer, known.by_loss) if counts is not None]


def _broken_sentence(known: Known) -> str:
    return (
        "What was lost cannot be judged: on the general questions, a model produced values that are not numbers. "
        "If it is the fine-tuned one, train again with a lower learning rate."
    )


def _lost_sentence(known: Known) -> str:
    found = "forgot something" if lost_more_than_gained(known) else "may have forgotten something"
    parts = [_lost_part(known.by_answer, "that the base model answered correctly", "answers {} wrongly")]
    parts.append(_lost_part(known.by_loss, "whose reference answer the base model predicted well", "predicts {} worse"))
    said = "; ".join(filter(None, parts))
    doubt = "" if lost_more_than_gained(known) else f" {_doubt(known)}"
    return f"The fine-tuned model {found}: {said}.{doubt} {WHAT_TO_DO}"


def _lost_part(counts: KnownCounts | None, knew: str, now: str) -> str:
    if counts is None or not counts.known:
        return ""
    of = f"of {counts.known} general questions {knew}, it"
    if not counts.lost:
        return f"{of} lost none"
    kinds = ", ".join(f"{name} {one.lost}" for name, one in counts.kinds.items() if one.lost)
    share = f"{counts.lost / counts.known:.0%}, 95% interval {counts.low:.0%} to {counts.high:.0%}"
    return f"{of} {now.format(counts.lost)} ({share}; {kinds})"


def _doubt(known: Known) -> str:
    gained = sum(part.gained for part in _measured(known))
    if gained:
        return "It also gained some, so this could be chance: read the lost questions in the scorecard."
    return "So few could be chance: read the lost questions in the scorecard."


def _nothing_lost_sentence(known: Known) -> str:
    counts = max(_measured(known), key=lambda part: part.known)
    return (
        f"No general question was lost: the fine-tuned model still knows all {counts.known} that the base model knew "
        f"(95% interval of the share lost: 0% to {counts.high:.0%})."
    )


def _too_few_sentence(known: Known) -> str:
    counts = max(_measured(known), key=lambda part: part.known)
    return (
        f"Too few known questions to tell what was lost: the base model knew only {counts.known} of {counts.asked} "
        f"general questions, and at least {FEWEST_KNOWN} are needed. "
        "Ask more of them (general prompts), or easier ones in a file of your own (general questions)."
    )


def _none_known_sentence(known: Known) -> str:
    asked = max((part.asked for part in _measured(known)), default=0)
    return (
        f"What was lost cannot be measured: the base model knows none of the {asked} general questions. Use easier "
        "ones, or ones in a language that it knows, in a file of your own (general questions)."
    )

"""Put into words how strongly an adapter is applied, and why. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sft_app.runs.strength import StrengthChoice, TriedStrength
from sft_app.runs.summary import number_text

COLUMNS = ("strength", "loss on your examples", "loss on general questions", "lost of known", "")
SLIDER = "The saved adapter has this strength already; “Adapter strength” in Compare changes it from there."


@dataclass(frozen=True)
class StrengthText:
    """What was tried, as a table with `COLUMNS`, and a sentence on what was kept."""

    sentence: str
    rows: list[tuple[str, ...]]


def strength_text(choice: StrengthChoice | None) -> StrengthText | None:
    """Describe the choice and all that was tried; None if there was no choice."""
    if choice is None:
        return None
    decided = "" if choice.by_hand else _what_decided(choice)
    told = [describe_strength(choice) or "The adapter is kept as it was trained.", decided, SLIDER]
    rows = [_row(one, choice.chosen) for one in sorted(choice.tried, key=lambda one: one.strength)]
    return StrengthText(" ".join(filter(None, told)), rows)


def describe_strength(choice: StrengthChoice | None) -> str:
    """Say which strength was kept and why; empty if none was chosen or nothing was lost at the trained one."""
    if choice is None:
        return ""
    if choice.by_hand:
        how = "as it was trained" if choice.chosen == 1.0 else f"at {choice.chosen:g} of its trained strength"
        return f"The adapter is kept {how}, which was set by hand."
    full, kept = (next(one for one in choice.tried if one.strength == wanted) for wanted in (1.0, choice.chosen))
    if choice.chosen == 1.0:
        if not full.lost:
            return ""
        return f"At the trained strength, {_lost(full)}. No weaker adapter lost fewer and kept enough of the gain."
    if full.lost > kept.lost:
        after = "none is" if not kept.lost else f"only {kept.lost} {'is' if kept.lost == 1 else 'are'}"
        why = f"at full strength, {_lost(full)}; at this one, {after}"
    else:
        why = "it predicts the conversations that choose best there, and loses no more"
    return f"The adapter is kept at {kept.strength:g} of its trained strength: {why}."


def strength_note(choice: StrengthChoice | None) -> str:
    """Warn that a strength set by hand may have been chosen on what the scorecard shows; empty if it was not."""
    if choice is None or not choice.by_hand:
        return ""
    return (
        "the strength of the adapter was set by hand; if this scorecard suggested it, the result looks a little better "
        "than it is"
    )


def _what_decided(choice: StrengthChoice) -> str:
    known = choice.tried[0].known if choice.tried else 0
    if not known:
        return f"Of the {choice.questions} general questions, the base model knows none, so what is lost is unknown."
    return f"Of the {choice.questions} general questions, the base model knows {known}; the scorecard asks others."


def _lost(one: TriedStrength) -> str:
    verb = "is" if one.lost == 1 else "are"
    return f"{one.lost} of {one.known} general questions that the base model knew {verb} lost"


def _row(one: TriedStrength, chosen: float) -> tuple[str, ...]:
    loss = "" if one.heldout_loss is None else number_text(one.heldout_loss, "{:.3f}")
    general, lost = number_text(one.general_loss, "{:.3f}"), f"{one.lost} of {one.known}"
    return (f"{one.strength:g}", loss, general, lost, "kept" if one.strength == chosen else "")

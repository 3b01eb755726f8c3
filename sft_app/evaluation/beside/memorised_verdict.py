"""Judge how much of the answers repeats training answers, and put it into words. Imports no torch."""

from __future__ import annotations

from sft_app.data.words import is_unspaced, words_of
from sft_app.evaluation.beside.memorised import MOSTLY, RUN_OF_CHARACTERS, RUN_OF_WORDS
from sft_app.runs.memorised import Memorised

NOTABLE, MORE_THAN_REFERENCES, FEWEST_SHORT = 0.1, 0.05, 3
LEAST_MENTIONED = 0.01


def memorised_sentence(found: Memorised) -> str:
    """Say how much is repeated, next to the base model and the reference answers, and what to do about it."""
    parts = [_long_sentence(found)] if found.answers else []
    parts += [_short_sentence(found)] if found.short else []
    if is_memorising(found):
        parts.append("Train for fewer epochs, and check that no training answer contains anything private.")
    return " ".join(parts)


def is_memorising(found: Memorised) -> bool:
    """Return whether the answers repeat much, and more than answers to such questions usually do."""
    return repeats_long_passages(found) or _repeats_short_ones(found)


def repeats_long_passages(found: Memorised) -> bool:
    """Return whether the answers have much of single training answers in them, in runs of words."""
    usual = max(found.base, found.references)
    return found.tuned >= NOTABLE and found.tuned - usual >= MORE_THAN_REFERENCES


def _repeats_short_ones(found: Memorised) -> bool:
    """Return whether many of the short answers are training answers, and not just usual ones such as a label."""
    repeated = found.short_repeated or 0
    if repeated < FEWEST_SHORT:
        return False
    share, base = repeated / found.short, found.base_short_repeated / found.short
    return share >= NOTABLE and share - max(base, found.short_references) >= MORE_THAN_REFERENCES


def _long_sentence(found: Memorised) -> str:
    counted, repeat = ("1 answer", "repeats") if found.answers == 1 else (f"{found.answers} answers", "repeat")
    compared = f"base model {found.base:.0%}, the held-out reference answers {found.references:.0%}"
    left_out = f" Left out are {found.common:.0%} of the words, in phrases that many training answers share."
    left_out = left_out if found.common >= LEAST_MENTIONED else ""
    if not found.tuned and found.common > MOSTLY:
        return (
            f"{found.common:.0%} of the words in the fine-tuned model's answers are in phrases that many training "
            f"answers share. The other words repeat no training answer ({compared})."
        )
    if not found.tuned and not found.short_repeated:
        return (
            f"No sign of memorising: the fine-tuned model's {counted} {repeat} no training answer "
            f"({compared}).{left_out}"
        )
    if not found.tuned:
        return (
            f"Among answers long enough to look for runs of words ({found.answers:,}), none repeats a training answer "
            f"({compared}).{left_out}"
        )
    mostly = f" In {found.mostly} of its {counted}, at least half of the words are repeated." if found.mostly else ""
    return (
        f"{found.tuned:.0%} of the words in the fine-tuned model's answers repeat a training answer, "
        f"{_run_length(found)} or more in a row ({compared}).{mostly}{left_out}"
    )


def _run_length(found: Memorised) -> str:
    is_in_characters = any(is_unspaced(words_of(repeated.answer)) for repeated in found.worst)
    return f"{RUN_OF_CHARACTERS} characters" if is_in_characters else f"{RUN_OF_WORDS} words"


def _short_sentence(found: Memorised) -> str:
    """Say what is known of the answers without eight words; older scorecards did not compare them."""
    counted = "1 answer is" if found.short == 1 else f"{found.short} answers are"
    if found.short_repeated is None:
        return f"{counted} too short to tell."
    return (
        f"{counted} too short to look for runs of words; the same as a training answer, but not as any reference "
        f"answer: {found.short_repeated} (base model: {found.base_short_repeated})."
    )

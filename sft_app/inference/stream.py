"""Stream two answers to one prompt, and explain the difference from the models themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from sft_app.data.conversation import prompt_messages
from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import ModelError
from sft_app.inference.batched_adapters import adapter_update
from sft_app.inference.device import slowdown_note
from sft_app.inference.evidence import (
    MEASURED_POSITIONS,
    Agreement,
    Divergence,
    Evidence,
    SideFacts,
    describe_side,
    explain_broken,
    explain_identical,
    measure_agreement,
    measure_divergence,
)
from sft_app.inference.generation import (
    Answer,
    Sampling,
    collect_answers,
    generate_tokens,
    noise_generator,
    noisy_scores,
)
from sft_app.inference.loaded_models import LoadedSide
from sft_app.inference.next_tokens import TokenCandidate, most_likely_tokens
from sft_app.inference.pair import (
    LoadedPair,
    activate_both_sides,
    activate_side,
    has_adjustable_strength,
    next_logits,
    side_logits,
)
from sft_app.inference.sides import Side

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IN_ONE_BATCH, ONE_AFTER_THE_OTHER = "both answered in one batch", "one after the other"
Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class PairUpdate:
    """Holds both answers so far.

    The last update also has `raw`: all text each model read and wrote, special tokens included.
    """

    left: Answer
    right: Answer
    evidence: Evidence
    raw: tuple[str, str] = ("", "")

    @property
    def is_complete(self) -> bool:
        """Return whether this is the last update."""
        return self.evidence.identical is not None

    def as_record(self) -> dict[str, Any]:
        """Return the answers as a dict for files and other programs: `base` is the left side, `tuned` the right."""
        return {
            **{name: answer.as_record() for name, answer in (("base", self.left), ("tuned", self.right))},
            "evidence": self.evidence.as_record(),
        }


def stream_pair(
    pair: LoadedPair, left: Messages, right: Messages, sampling: Sampling, strength: float = 1.0
) -> Iterator[PairUpdate]:
    """Yield both answers so far until both are complete. Closing the generator stops the work.

    Each side has its own messages, which end with the same question; `strength` multiplies the adapters' effect.

    Raises:
        DataError, ModelError: the model cannot take the prompt, or the adapter cannot be scaled.
    """
    prompts = [render_prompt(pair.tokenizer, messages) for messages in (left, right)]
    if strength != 1.0 and not all(has_adjustable_strength(loaded) for loaded in pair.loaded_sides):
        raise ModelError(
            "The strength can only be changed for plain LoRA adapters, not for DoRA or full models. Set it back to 1."
        )
    with pair.models.lock as held:
        evidence = _evidence_before(pair, prompts, strength)
        stream = _stream_in_one_batch if evidence.how == IN_ONE_BATCH else _stream_one_after_the_other
        update = PairUpdate(Answer(), Answer(), evidence)
        for one, other in stream(pair, prompts, sampling, strength):
            update = PairUpdate(one, other, evidence)
            yield update
            held.use_threads()
        yield _final_update(pair, prompts, update, sampling, strength)


def compare_prompt(pair: LoadedPair, prompt: str, system: str, sampling: Sampling, strength: float = 1.0) -> PairUpdate:
    """Generate both complete answers."""
    messages, update = prompt_messages(prompt, system), None
    for update in stream_pair(pair, messages, messages, sampling, strength):  # noqa: B007 - only the last one is used
        pass
    assert update is not None  # a generator of answers ends with one
    return update


def next_token_candidates(
    pair: LoadedPair, conversations: Sequence[Messages], written: Sequence[int], strength: float
) -> list[TokenCandidate]:
    """Return what each side would write next if both had answered with `written` so far."""
    prompts = [[*render_prompt(pair.tokenizer, messages), *written] for messages in conversations]
    with pair.models.lock:
        left, right = next_logits(pair, prompts, strength, positions=1)
    for side, logits in zip(pair.sides, (left, right), strict=True):
        if not torch.isfinite(logits.amax()):
            raise ModelError(
                f"{side.label} has no next token here because it produced NaN or infinite values. Lower its strength."
            )
    return most_likely_tokens(pair.tokenizer, left[-1], right[-1])


def _evidence_before(pair: LoadedPair, prompts: Sequence[list[int]], strength: float) -> Evidence:
    left, right = (_facts(side, loaded, strength) for side, loaded in zip(pair.sides, pair.loaded_sides, strict=True))
    how = IN_ONE_BATCH if pair.can_share_batch() else ONE_AFTER_THE_OTHER
    notes = [*(side.note for side in pair.sides), pair.template_note]
    notes.append(pair.batch_note() or pair.models.note or slowdown_note(pair.models.home))
    note = " ".join(filter(None, notes))
    return Evidence(left, right, how, (len(prompts[0]), len(prompts[1])), strength, note)


def _final_update(
    pair: LoadedPair, prompts: Sequence[list[int]], update: PairUpdate, sampling: Sampling, strength: float
) -> PairUpdate:
    """Add what can only be measured once both answers are complete."""
    is_broken = update.left.broken or update.right.broken
    same = update.left.ids == update.right.ids and not is_broken
    divergence = _divergence(pair, prompts[0], strength) if prompts[0] == prompts[1] else None
    evidence = replace(update.evidence, identical=same, is_broken=is_broken, divergence=divergence)
    if evidence.how == IN_ONE_BATCH:
        answers = (update.left, update.right)
        one, other = (_agreement(pair, at, prompts[at], answers[at], sampling, strength) for at in (0, 1))
        evidence = replace(evidence, agreement=(one, other))
    broken = explain_broken(evidence, update.left, update.right)
    evidence = replace(evidence, reasons=broken or (explain_identical(evidence) if same else ()))
    left, right = (
        pair.tokenizer.decode([*prompt, *answer.ids])
        for prompt, answer in zip(prompts, (update.left, update.right), strict=True)
    )
    return replace(update, evidence=evidence, raw=(left, right))


def _agreement(
    pair: LoadedPair, index: int, prompt: list[int], answer: Answer, sampling: Sampling, strength: float
) -> Agreement | None:
    """Measure agreement: the side alone reads the answer in one pass and picks tokens with the same noise."""
    if not answer.ids:
        return None
    logits = side_logits(pair, index, [*prompt, *answer.ids[:-1]], strength, len(answer.ids))
    random = noise_generator(sampling.seed, logits.device)
    scores = torch.cat([noisy_scores(row[None], sampling.temperature, random) for row in logits])
    return measure_agreement(logits, scores, answer.ids)


def _divergence(pair: LoadedPair, prompt: list[int], strength: float) -> Divergence | None:
    return measure_divergence(*next_logits(pair, (prompt, prompt), strength, MEASURED_POSITIONS))


def _facts(side: Side, loaded: LoadedSide, strength: float) -> SideFacts:
    if loaded.adapter is None:
        return describe_side(side, 0, None)
    modules, norm = adapter_update(loaded.model, loaded.adapter)
    return describe_side(side, modules if strength else 0, norm * strength if has_adjustable_strength(loaded) else None)


def _stream_in_one_batch(
    pair: LoadedPair, prompts: list[list[int]], sampling: Sampling, strength: float
) -> Iterator[tuple[Answer, Answer]]:
    with activate_both_sides(pair, strength) as model:
        yield from ((left, right) for left, right in _answers(pair, model, prompts, sampling))


def _stream_one_after_the_other(
    pair: LoadedPair, prompts: list[list[int]], sampling: Sampling, strength: float
) -> Iterator[tuple[Answer, Answer]]:
    left, right = pair.loaded_sides
    answer = Answer()
    with activate_side(left, strength) as model:
        for (answer,) in _answers(pair, model, prompts[:1], sampling):
            yield answer, Answer()
    with activate_side(right, strength) as model:
        yield from ((answer, other) for (other,) in _answers(pair, model, prompts[1:], sampling))


def _answers(
    pair: LoadedPair, model: PreTrainedModel, prompts: list[list[int]], sampling: Sampling
) -> Iterator[list[Answer]]:
    stops = stop_ids(pair.tokenizer)
    steps = generate_tokens(model, prompts, sampling, stops, pair.tokenizer.pad_token_id)
    return collect_answers(pair.tokenizer, steps, stops)

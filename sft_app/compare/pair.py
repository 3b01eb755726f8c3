"""Base and fine-tuned answer from one loaded model, under equal conditions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sft_app.compare.generate import Answer, Sampling, collect_answers, generate_tokens
from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import ModelError, RunError
from sft_app.models.catalog import ModelRef, recorded_model
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import (
    ADAPTER_NAME,
    holds_full_model,
    load_adapter,
    load_base,
    load_tokenizer,
)
from sft_app.runs import Run


@dataclass(frozen=True)
class Evidence:
    """What was really compared. `identical` is None until both answers are complete."""

    run: str
    how: str
    adapter_active: bool
    modules: int
    prompt_tokens: int
    identical: bool | None = None


@dataclass(frozen=True)
class PairUpdate:
    base: Answer
    tuned: Answer
    evidence: Evidence

    @property
    def is_complete(self) -> bool:
        """Whether this is the last update: both answers have ended."""
        return self.evidence.identical is not None


@dataclass
class LoadedPair:
    """A run's two sides in memory. `model` carries the adapter; a full fine-tune has a second model in `tuned_model`.

    `lock` is held while answers are generated, because the adapter's scaling is changed for that time.
    """

    run_id: str
    model: Any
    tokenizer: Any
    tuned_model: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def load_pair(run: Run, home: Path) -> LoadedPair:
    """Raises: RunError when the run has saved nothing yet; ModelError when the base cannot be loaded."""
    if not run.has_adapter():
        raise RunError(f"Run {run.id} is {run.status().state} and has no adapter to compare yet.")
    record, hardware = run.record(), detect_hardware()
    settings, ref = record.settings, recorded_model(run)
    tokenizer = load_tokenizer(ref, home)
    base = load_base(ref, home, hardware, settings.dtype, in_4bit=settings.method == "qlora")
    if not holds_full_model(run.adapter_dir):
        return LoadedPair(run.id, load_adapter(base, run.adapter_dir), tokenizer)
    tuned = ModelRef(run.id, str(run.adapter_dir), None, "full fine-tune")
    return LoadedPair(run.id, base, tokenizer, load_base(tuned, home, hardware, settings.dtype))


def stream_pair(pair: LoadedPair, messages: Sequence[dict[str, str]], sampling: Sampling) -> Iterator[PairUpdate]:
    """Both answers so far, again and again until both have ended. Closing the generator stops the work.

    Raises:
        DataError, ModelError: the prompt does not suit the model.
    """
    prompt = render_prompt(pair.tokenizer, messages)
    with pair.lock:
        modules = 0 if pair.tuned_model is not None else active_modules(pair.model)
        together = pair.tuned_model is None and can_scale_rows(pair.model)
        evidence = Evidence(
            run=pair.run_id,
            how="one batch of one model" if together else "one after the other",
            adapter_active=modules > 0 or pair.tuned_model is not None,
            modules=modules,
            prompt_tokens=len(prompt),
        )
        answers = _stream_together(pair, prompt, sampling) if together else _stream_in_turn(pair, prompt, sampling)
        base = tuned = Answer()
        for base, tuned in answers:
            yield PairUpdate(base, tuned, evidence)
        same = base.text == tuned.text and base.tokens == tuned.tokens
        yield PairUpdate(base, tuned, replace(evidence, identical=same))


def compare_prompt(pair: LoadedPair, prompt: str, system: str, sampling: Sampling) -> PairUpdate:
    """Both answers, complete."""
    update = None
    for update in stream_pair(pair, prompt_messages(prompt, system), sampling):  # noqa: B007 - the last one is wanted
        pass
    assert update is not None  # a generator of answers ends with one
    return update


def prompt_messages(prompt: str, system: str = "") -> list[dict[str, str]]:
    """Raises: ModelError when the prompt is empty."""
    if not prompt.strip():
        raise ModelError("The prompt is empty.")
    messages = [{"role": "system", "content": system}] if system.strip() else []
    return [*messages, {"role": "user", "content": prompt}]


@contextmanager
def scale_rows(model: Any, factors: Sequence[float]) -> Iterator[None]:
    """Row i of a batch sees the adapter at `factors[i]` times its strength; 0 is the base, exactly.

    The adapter's product is multiplied by a tensor of shape `(batch, 1, 1)` in place of its usual number. Do not save
    or train inside.
    """
    layers = lora_layers(model)
    weight, _ = _factors(layers[0])
    rows = torch.tensor(factors, dtype=weight.dtype, device=weight.device).view(-1, 1, 1)
    before = [layer.scaling[ADAPTER_NAME] for layer in layers]
    try:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling[ADAPTER_NAME] = rows * scaling
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling[ADAPTER_NAME] = scaling


def can_scale_rows(model: Any) -> bool:
    """Not where the adapter is more than a scaled product added on (DoRA) or is merged into the weights."""
    layers = lora_layers(model)
    return bool(layers) and not any(layer.merged or layer.use_dora.get(ADAPTER_NAME) for layer in layers)


def lora_layers(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer) and ADAPTER_NAME in module.scaling]


def active_modules(model: Any) -> int:
    """How many modules the adapter changes: those whose second factor is not zero."""
    return sum(bool(_factors(layer)[1].any()) for layer in lora_layers(model))


def _factors(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of a layer's low-rank product; an embedding keeps them under other names."""
    if ADAPTER_NAME in layer.lora_A:
        return layer.lora_A[ADAPTER_NAME].weight, layer.lora_B[ADAPTER_NAME].weight
    return layer.lora_embedding_A[ADAPTER_NAME], layer.lora_embedding_B[ADAPTER_NAME]


def _stream_together(pair: LoadedPair, prompt: list[int], sampling: Sampling) -> Iterator[tuple[Answer, Answer]]:
    with scale_rows(pair.model, (0.0, 1.0)):
        yield from ((base, tuned) for base, tuned in _answers(pair, pair.model, [prompt, prompt], sampling))


def _stream_in_turn(pair: LoadedPair, prompt: list[int], sampling: Sampling) -> Iterator[tuple[Answer, Answer]]:
    base = Answer()
    with _base_of(pair) as model:
        for (base,) in _answers(pair, model, [prompt], sampling):
            yield base, Answer()
    for (tuned,) in _answers(pair, pair.tuned_model or pair.model, [prompt], sampling):
        yield base, tuned


@contextmanager
def _base_of(pair: LoadedPair) -> Iterator[Any]:
    if pair.tuned_model is not None:
        yield pair.model
    else:
        with pair.model.disable_adapter():
            yield pair.model


def _answers(pair: LoadedPair, model: Any, prompts: list[list[int]], sampling: Sampling) -> Iterator[list[Answer]]:
    stops = stop_ids(pair.tokenizer)
    steps = generate_tokens(model, prompts, sampling, stops, pair.tokenizer.pad_token_id)
    return collect_answers(pair.tokenizer, steps, stops)

"""Measure one arm of `bench.compare` in a separate process, with the same model, adapter, prompt and number of greedy
tokens as the other arms."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft  # noqa: F401 - so that every arm's process loads the same libraries
import torch

from bench.machine import peak_memory_gib
from sft_app.data.tokens import RenderedConversation
from sft_app.evaluation.score_run import score_both
from sft_app.evaluation.scorecard import RowScore, score_conversations
from sft_app.inference.batched_adapters import RowAdapter, apply_row_adapters, only_active
from sft_app.inference.generation import Sampling, generate_tokens
from sft_app.inference.loaded_models import LoadedSide
from sft_app.inference.pair import activate_side
from sft_app.models.adapters import load_adapter
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import ADAPTER_NAME, keep_4bit_differentiable, load_base
from sft_app.models.lora_targets import attach_lora
from sft_app.runtime.resources import reset_peak_resident
from sft_app.settings import RunSettings

WARM_UP_TOKENS = 4
BOTH = (RowAdapter(), RowAdapter(ADAPTER_NAME))


@dataclass(frozen=True)
class Spec:
    """What all arms share. `dtype` is the precision of comparisons on this machine."""

    model_dir: str
    adapter_dir: str
    rows_file: str
    prompt: tuple[int, ...]
    tokens: int
    method: str
    dtype: str
    is_tiny: bool


@dataclass(frozen=True)
class Timeline:
    """The `ids` of each row, `(batch, tokens)`, and the seconds until the first and the last tokens."""

    ids: list[list[int]]
    first: float
    last: float


def measure_arm(arm: str, spec: Spec) -> dict[str, Any]:
    """Measure an arm: `seconds` until both sides have all tokens, `decode_seconds` without the prompts,
    `first_token_seconds` until the later side has started, and the `ids` of both sides."""
    answer = _arms(spec)[arm]()
    answer(WARM_UP_TOKENS)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    reset_peak_resident()
    times = answer(spec.tokens)
    return {
        "arm": arm,
        "seconds": sum(time.last for time in times),
        "decode_seconds": sum(time.last - time.first for time in times),
        "first_token_seconds": sum(time.last for time in times[:-1]) + times[-1].first,
        "peak_gib": peak_memory_gib(),
        "ids": [ids for time in times for ids in time.ids],
    }


def expected_ids(spec: Spec) -> list[list[int]]:
    """Return what the base and the adapter answer alone, without the app's row-wise scaling.

    In 16 bits, a product of two rows may be rounded differently from that of one, so each side gets two equal rows.
    """
    copies = 1 if spec.dtype == "float32" else 2
    base, tuned = _base(spec), _tuned(spec)
    return [_timed(model, [spec.prompt] * copies, spec.tokens).ids[0] for model in (base, tuned)]


def measure_scoring(spec: Spec, rounds: int = 2) -> dict[str, Any]:
    """Measure the seconds for scoring all conversations with both sides in one pass and in two, and both sides' losses.

    The two methods alternate.
    """
    model = _tuned(spec)
    loaded_sides = (LoadedSide(model, is_base=True), LoadedSide(model, ADAPTER_NAME))
    models = SimpleNamespace(lock=threading.Lock())
    pair: Any = SimpleNamespace(loaded_sides=loaded_sides, models=models, can_share_batch=lambda: True)
    conversations = load_rows(Path(spec.rows_file))

    def in_two_passes() -> list[list[RowScore]]:
        scores = []
        for loaded in loaded_sides:
            with activate_side(loaded, 1.0) as alone:
                scores.append(score_conversations(alone, conversations))
        return scores

    methods: dict[str, Callable[[], Any]] = {"one": lambda: score_both(pair, conversations), "two": in_two_passes}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    losses = {name: [[score.loss for score in side] for side in method()] for name, method in methods.items()}
    for number in range(rounds):
        for name in list(methods) if number % 2 else reversed(list(methods)):
            began = _now()
            methods[name]()
            seconds[name].append(_now() - began)
    return {"conversations": len(conversations), "seconds": seconds, "losses": losses}


def save_random_adapter(spec: Spec) -> None:
    """Save an adapter like the app's default, but with random values where a fresh one has zeros."""
    torch.manual_seed(0)
    model = attach_lora(_base(spec), RunSettings())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(spec.adapter_dir)


def load_rows(path: Path) -> list[RenderedConversation]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [RenderedConversation(row["input_ids"], row["labels"], len(row["input_ids"])) for row in rows]


def _arms(spec: Spec) -> dict[str, Callable[[], Callable[[int], list[Timeline]]]]:
    """Return a loader per arm; each loader returns a function from the number of tokens to the timelines."""
    one, two = [spec.prompt], [spec.prompt] * 2

    def base_alone() -> Callable[[int], list[Timeline]]:
        model = _base(spec)
        return lambda tokens: [_timed(model, one, tokens)]

    def ours() -> Callable[[int], list[Timeline]]:
        model = _tuned(spec)
        return lambda tokens: [_timed(model, two, tokens, apply_row_adapters(model, BOTH))]

    def in_turn() -> Callable[[int], list[Timeline]]:
        model = _tuned(spec)
        return lambda tokens: [_timed(model, one, tokens, only_active(model, name)) for name in (None, ADAPTER_NAME)]

    def adapter_names() -> Callable[[int], list[Timeline]]:
        model = _tuned(spec)
        return lambda tokens: [_generated(model, two, tokens, adapter_names=["__base__", ADAPTER_NAME])]

    def two_models() -> Callable[[int], list[Timeline]]:
        models = _base(spec), _tuned(spec)
        return lambda tokens: [_timed(model, one, tokens) for model in models]

    return {
        "base alone": base_alone,
        "ours": ours,
        "one after the other": in_turn,
        "adapter_names": adapter_names,
        "two loaded models": two_models,
    }


def _timed(model: Any, prompts: Any, tokens: int, inside: AbstractContextManager[Any] | None = None) -> Timeline:
    """Time the app's own generation loop; no token ends an answer early."""
    began, times, steps = _now(), [], []
    with inside or nullcontext():
        for ids in generate_tokens(model, prompts, Sampling(max_new_tokens=tokens), (), 0):
            times.append(_now() - began)
            steps.append(ids)
    return Timeline([list(row) for row in zip(*steps, strict=True)], times[0], times[-1])


def _generated(model: Any, prompts: Any, tokens: int, **options: Any) -> Timeline:
    """Time `model.generate`, which reports each step through a stopping criterion."""
    from transformers import StoppingCriteriaList

    times: list[float] = []

    def note(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        times.append(_now() - began)
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    ids = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    began = _now()
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([note]),
            **options,
        )
    return Timeline(output[:, ids.shape[1] :].tolist(), times[0], times[-1])


def _base(spec: Spec) -> Any:
    ref = ModelRef("bench", spec.model_dir, None, "local folder")
    model = load_base(ref, Path(spec.model_dir), detect_hardware(), spec.dtype, in_4bit=spec.method == "qlora")
    if spec.dtype == "float32":
        keep_4bit_differentiable(model, True)
    return model


def _tuned(spec: Spec) -> Any:
    return load_adapter(_base(spec), Path(spec.adapter_dir))


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

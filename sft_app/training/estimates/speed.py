"""Estimate how long a run will take, from its arithmetic, its memory traffic, and the machine's measured speed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sft_app.data.split import validation_size
from sft_app.evaluation.forgetting.known import ANSWER_TOKENS
from sft_app.evaluation.prompt_sets import PROMPTS_AT_ONCE
from sft_app.evaluation.sides.examples import MAX_PROMPT_TOKENS
from sft_app.models.shapes import ModelShape
from sft_app.runs.strength import CHOOSING_QUESTIONS, STRENGTHS
from sft_app.settings import RunSettings
from sft_app.settings.recipe import REPLAY_PROMPTS
from sft_app.training.estimates.memory import (
    NF4_BYTES,
    bytes_per_number,
    checkpointed_layers,
    layer_bytes,
    weight_bytes,
)
from sft_app.training.estimates.workload import REPLAY_TOKENS, DryRunResult, Workload
from sft_app.training.fast_paths.step_plan import MIN_SHARED_TOKENS

PROBE_SECONDS, LEAST_PROBES = 0.15, 4
# The speed of a model's thin matrix products, relative to the square ones of the probe.
MATRIX_EFFICIENCY = 0.8
# The slowdown of a step with a 4-bit base on a CPU, which has no kernel for it.
FOUR_BIT_ON_CPU = 2.5
# How often a byte saved for the backward pass is read or written, over all small operations.
WALKS = 10.0
# Seconds for starting Python and the libraries, loading, and saving.
START_SECONDS = 15.0
# Overhead of the libraries for the forward pass of a layer, whatever its size. A backward pass takes twice as much.
LAYER_SECONDS = 0.0004
WATCH_TOKENS = 100
# Seconds for loading the base model and the adapter again to measure what was saved.
LOADING_SECONDS = 5.0
TOKENS_PER_GENERAL_PROMPT = 50
# How many general questions the app has; a file of your own may have more.
GENERAL_QUESTIONS = 142
# How many prompts of `training/replay` the base model answers at once, and how many of its answers are usable.
REPLAYED_AT_ONCE, REPLAY_USABLE = 32, 0.5


@dataclass(frozen=True)
class MachineSpeed:
    """The machine's speed: `flops` of a matrix product in this dtype, and `bytes` through memory, both per second."""

    device: str
    dtype: str
    flops: float
    bytes: float


@lru_cache
def measure_speed(device: str, dtype: str) -> MachineSpeed:
    """Measure the device's speed in this process."""
    import torch

    size, copied = (512, 2**27) if device == "cpu" else (4096, 2**28)
    left = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
    source, target = (torch.empty(copied, dtype=torch.uint8, device=device) for _ in range(2))
    product = _fastest(lambda: left @ left, device)
    copy = _fastest(lambda: target.copy_(source), device)
    return MachineSpeed(device, dtype, 2 * size**3 / product, 2 * copied / copy)


def _fastest(work: Any, device: str) -> float:
    """Return the seconds of the fastest of many tries, because other work on the machine only slows them down."""
    import torch

    best, end, done = float("inf"), time.perf_counter() + PROBE_SECONDS, 0
    while done < LEAST_PROBES or time.perf_counter() < end:
        done, start = done + 1, time.perf_counter()
        work()
        if device != "cpu":
            getattr(torch, device).synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def seconds_for(
    settings: RunSettings,
    work: Workload,
    shape: ModelShape,
    speed: MachineSpeed,
    steps: int,
    measured: DryRunResult | None = None,
) -> float:
    """Estimate the seconds of the whole run. With `measured`, training uses its pace instead of the formula's."""
    computed, trained = computed_per_step(settings, work, speed.device)
    if measured is None:
        step = step_seconds(settings, shape, speed, computed, trained)
    else:
        useful = tokens_per_step(settings, work) / settings.num_processes
        step = measured.seconds_per_step * useful / measured.tokens_per_step
    evaluations = count_evaluations(settings, steps)
    forward = work.mean_tokens * 2 * shape.linear_weights + work.mean_trained * 2 * shape.vocabulary * shape.hidden_size
    choosing = validation_size(work.heldout, settings)
    scored: float = evaluations * (choosing or work.heldout) + (2 * (work.heldout - choosing) if choosing else 0)
    token = token_seconds(settings, shape, speed)
    answers = len(settings.watch_prompts) * min(settings.max_new_tokens, WATCH_TOKENS)
    if settings.choose_strength and settings.method != "full":
        scored += (1 + len(STRENGTHS)) * (choosing + CHOOSING_QUESTIONS * TOKENS_PER_GENERAL_PROMPT / work.mean_tokens)
    replaying = replay_seconds(settings, work, shape, speed)
    evaluating = scored * forward / (speed.flops * MATRIX_EFFICIENCY) + evaluations * answers * token
    return START_SECONDS + replaying + steps * step + evaluating + scoring_seconds(settings, work, shape, speed)


def replay_seconds(settings: RunSettings, work: Workload, shape: ModelShape, speed: MachineSpeed) -> float:
    """Estimate the seconds in which the base model answers the prompts that are replayed, in batches."""
    prompts = min(REPLAY_PROMPTS, math.ceil(work.replayed / REPLAY_USABLE))
    rows = min(prompts, REPLAYED_AT_ONCE)
    arithmetic = 2 * shape.linear_weights / (speed.flops * MATRIX_EFFICIENCY)
    step = token_seconds(settings, shape, speed) + rows * arithmetic
    return -(-prompts // REPLAYED_AT_ONCE) * REPLAY_TOKENS * step


def token_seconds(settings: RunSettings, shape: ModelShape, speed: MachineSpeed) -> float:
    """Estimate the seconds per generated token, for which every weight is read once."""
    read = weight_bytes(shape, settings, bytes_per_number(speed.dtype))
    return read / speed.bytes + shape.layers * LAYER_SECONDS


def scoring_seconds(settings: RunSettings, work: Workload, shape: ModelShape, speed: MachineSpeed) -> float:
    """Estimate the seconds of the scorecard: loading, general questions, and both sides' answers to held-out questions
    in batches, each of which takes as long as its longest answer. The base answers one batch once more with
    examples in front, which it also reads for the loss."""
    prompts = min(settings.scorecard_prompts, work.heldout)
    batches = -(-prompts // PROMPTS_AT_ONCE)
    rows = 2 * prompts / batches if batches else 0
    arithmetic = 2 * shape.linear_weights / (speed.flops * MATRIX_EFFICIENCY)
    step = token_seconds(settings, shape, speed) + rows * arithmetic
    general = min(settings.general_prompts, GENERAL_QUESTIONS) * TOKENS_PER_GENERAL_PROMPT
    seconds = LOADING_SECONDS + 2 * general * arithmetic + batches * settings.max_new_tokens * step
    if not prompts:
        return seconds
    known = min(settings.general_answers, settings.general_prompts, GENERAL_QUESTIONS)
    full = token_seconds(settings, shape, speed) + 2 * PROMPTS_AT_ONCE * arithmetic
    seconds += -(-known // PROMPTS_AT_ONCE) * ANSWER_TOKENS * full
    if not settings.scorecard_prompted:
        return seconds
    again, prompted = token_seconds(settings, shape, speed) + rows / 2 * arithmetic, min(prompts, PROMPTS_AT_ONCE)
    read = 2 * prompted * min((1 + settings.scorecard_prompted) * work.mean_tokens, MAX_PROMPT_TOKENS) * arithmetic
    return seconds + settings.max_new_tokens * again + read


def step_seconds(settings: RunSettings, shape: ModelShape, speed: MachineSpeed, tokens: float, trained: float) -> float:
    """Estimate the seconds of an optimizer step: `tokens` computed tokens per device, of which `trained` have logits.

    Forward takes 2 operations per weight and token, backward takes 2 more, and 2 more again if the weights themselves
    get a gradient; checkpointing repeats the forward pass of the layers it recomputes.
    """
    every = checkpointed_layers(settings, speed.device)
    repeated = 1 / every if every else 0.0
    passes = 2 + 2 + (2 if settings.method == "full" else 0) + 2 * repeated
    adapter = 0 if settings.method == "full" else 6 * shape.trainable(settings)
    head = trained * shape.vocabulary * shape.hidden_size * (6 if settings.method == "full" else 4)
    arithmetic = tokens * (passes * shape.linear_weights + adapter) + head
    compute = bytes_per_number(speed.dtype)
    kept = tokens * shape.layers * layer_bytes(shape, settings, speed.device, compute)
    walked = WALKS * kept * (1 + 0.5 * repeated)
    if settings.method == "full":
        walked += 7 * 4 * shape.parameters  # AdamW reads weight, gradient and two moments, and writes three of them
    seconds = arithmetic / (speed.flops * MATRIX_EFFICIENCY) + walked / speed.bytes
    if speed.device == "cuda":
        return seconds + settings.batches_per_step() * _batch_seconds(settings, shape, speed, repeated)
    return FOUR_BIT_ON_CPU * seconds if settings.method == "qlora" and speed.device == "cpu" else seconds


def _batch_seconds(settings: RunSettings, shape: ModelShape, speed: MachineSpeed, repeated: float) -> float:
    """Return the seconds a GPU spends on a micro-batch of any size: it starts kernels, and in each pass it unpacks
    4-bit weights, whose 16-bit copy is written and read."""
    passes = 2 + repeated
    unpacked = shape.linear_weights * (NF4_BYTES + 2 * 2) if settings.method == "qlora" else 0.0
    return (1 + passes) * shape.layers * LAYER_SECONDS + passes * unpacked / speed.bytes


def shared_prefix_tokens(settings: RunSettings, work: Workload, device: str) -> int:
    """Return how many tokens a batch computes once for all its conversations (`fast_paths/cpu_shared_prefix`)."""
    is_plain = settings.is_packed() and not settings.lora_dropout and not settings.neftune_noise_alpha
    is_shared = work.beginning >= MIN_SHARED_TOKENS and not work.replayed  # which begin in another way
    return work.beginning if device == "cpu" and is_plain and is_shared else 0


def computed_per_step(settings: RunSettings, work: Workload, device: str) -> tuple[float, float]:
    """Return how many tokens a device computes per optimizer step, padding included, and how many have logits."""
    rows = settings.rows_per_step() / settings.num_processes
    filled = settings.row_length(work.max_length)
    if filled is not None:
        share = 1.0 if settings.trainer == "classic" else work.row_trained / work.row_tokens
        return rows * filled, rows * filled * share
    if settings.is_packed():
        batches = rows / settings.per_device_train_batch_size
        saved = (rows - batches) * shared_prefix_tokens(settings, work, device)
        return rows * work.row_tokens - saved, rows * work.row_trained
    padded = rows * expected_longest(work.row_lengths, settings.per_device_train_batch_size)
    return padded, padded


def tokens_per_step(settings: RunSettings, work: Workload) -> float:
    """Return the mean number of useful tokens per optimizer step."""
    filled = settings.row_length(work.max_length)
    return settings.rows_per_step() * (work.row_tokens if filled is None else filled)


def expected_longest(tokens: np.ndarray, rows: int) -> float:
    """Return the expected maximum of `rows` draws from `tokens`, which is in descending order."""
    share = np.linspace(1.0, 0.0, len(tokens) + 1) ** rows
    return float(np.sum(tokens * (share[:-1] - share[1:])))


def count_evaluations(settings: RunSettings, steps: int) -> int:
    """Return the number of evaluations: at step 0, at every `eval_steps` and at the end."""
    interval = max(1, round(settings.eval_steps * steps if settings.eval_steps < 1 else settings.eval_steps))
    return 1 + -(-steps // interval)

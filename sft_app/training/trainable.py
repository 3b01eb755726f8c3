"""Load the model that a run trains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sft_app.models.apple_gpu import apple_gpu_problem, has_apple_gpu
from sft_app.models.catalog import recorded_model
from sft_app.models.loading import free_memory, keep_4bit_differentiable, load_base
from sft_app.models.lora_targets import attach_lora
from sft_app.models.precision import overflows
from sft_app.runs.folder import Run
from sft_app.settings import RunSettings
from sft_app.training.auto_settings import resolve_precision
from sft_app.training.distributed import this_rank_hardware, unchecked_on_apple_gpu

OVERFLOW_HINT = (
    "The model's numbers become too large for float16, this GPU's precision, so the run computes in float32, which "
    "takes longer and more memory."
)


def load_trainable(run: Run, settings: RunSettings, ids: Sequence[int] = ()) -> Any:
    """Load the base with a fresh adapter, or for `full` the base itself in float32, which small steps need.

    A model that cannot compute `ids`, some tokens of the run, in float16 is loaded in float32.
    """
    hardware = this_rank_hardware(settings)
    if hardware.device == "cpu" and has_apple_gpu():
        run.update_status(hint=apple_gpu_problem() or unchecked_on_apple_gpu(settings))
    dtype = resolve_precision(run, settings, hardware)
    load = partial(load_base, recorded_model(run), run.home, hardware, in_4bit=settings.method == "qlora")
    base = load(dtype)
    if dtype == "float16" and ids and overflows(base, ids):
        del base
        free_memory()
        run.update_status(precision="float32", hint=OVERFLOW_HINT)
        base = load("float32")
    if settings.method == "full":
        return base
    keep_4bit_differentiable(base, True)
    return attach_lora(base, settings)

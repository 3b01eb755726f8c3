"""Choose the settings that depend on the data and the model, where they are left empty.

The values come from `bench/recipe`; `docs/RECIPE.md` has the measurements and the sources.
"""

from __future__ import annotations

import math

from sft_app.settings.run import RunSettings

# Conversations per optimizer step, by the number of conversations: small data needs many steps, not large ones.
ROWS_PER_STEP = ((500, 4), (2_000, 8), (10_000, 16))
MOST_ROWS_PER_STEP = 32
PASSES = ((2_000, 3.0), (10_000, 2.0))
LEAST_PASSES, MOST_PASSES = 1.0, 8.0
BEST_SHARE = 1.5
"""How many more passes `best` may take than `good` before it stops."""
LEAST_STEPS, QUICK_STEPS, QUICK_PASSES = 100, 60, 4
# The rate of adapters: 5e-4 x (2000 / hidden size) ** 0.78, nearly flat for Qwen. Source: Thinking Machines,
# tinker-cookbook, `hyperparam_utils` (fitted on models from 1 to 70 billion parameters; shape trusted more than level).
RATE, RATE_WIDTH, RATE_POWER, QWEN_POWER = 5e-4, 2000, 0.78, 0.08
MOST_RATE = 2e-3
REPLAY_PROMPTS, MOST_REPEATS = 176, 4
MOST_REPLAYED = MOST_REPEATS * REPLAY_PROMPTS // 2
"""The app has so many prompts for replay. About half of the answers are usable, and each is seen at most four times per
pass."""
# Source: TRL, "PEFT integration": adapters need about ten times the rate of full fine-tuning.
FULL_SHARE = 0.1


def with_recipe(settings: RunSettings, conversations: int, hidden_size: int, model_type: str = "") -> RunSettings:
    """Return the settings without empty ones among epochs, steps and learning rate.

    `conversations` are those to train on, `hidden_size` and `model_type` are of the model's config.
    """
    chosen = with_schedule(settings, conversations)
    if chosen.learning_rate is None:
        rate = automatic_rate(hidden_size, model_type) * (FULL_SHARE if chosen.method == "full" else 1)
        chosen = chosen.model_copy(update={"learning_rate": float(f"{rate:.2g}")})
    return chosen


def with_schedule(settings: RunSettings, conversations: int) -> RunSettings:
    """Return the settings with the conversations per step and the epochs for this many conversations of one's own."""
    if settings.gradient_accumulation_steps is None:
        at_once = settings.per_device_train_batch_size * settings.num_processes
        batches = max(1, round(_wanted_rows(settings, conversations) / at_once))
        settings = settings.model_copy(update={"gradient_accumulation_steps": batches})
    if settings.num_train_epochs is None:
        settings = settings.model_copy(update=_duration(settings, max(1, conversations)))
    return settings


def rows_per_pass(settings: RunSettings, conversations: int) -> int:
    """Return how many conversations a pass over this many of one's own has, with the replayed ones."""
    return conversations + replayed_conversations(settings, conversations)


def replayed_conversations(settings: RunSettings, conversations: int) -> int:
    """Return how many general conversations are mixed in, so that they are the share `replay` of all, up to a limit."""
    wanted = round(conversations * settings.replay / (1 - settings.replay))
    return 0 if replay_obstacle(settings) else min(wanted, MOST_REPLAYED)


def replay_obstacle(settings: RunSettings) -> str:
    """Return why answers of the base model would be nothing to hold on to in such a run; "" if they can be."""
    if settings.block_size is not None or settings.format == "text":
        return "the run learns running text"
    if settings.fsdp:
        return "the model is split across the GPUs"
    if settings.chat_template:
        return "the chat template is not the base model's own"
    return "the base model would have to think first" if settings.enable_thinking else ""


def without_replay_of_text(settings: RunSettings, is_text: bool) -> RunSettings:
    """Return the settings for data of this layout: answers have no place in running text."""
    return settings.model_copy(update={"replay": 0.0}) if is_text else settings


def automatic_rate(hidden_size: int, model_type: str = "") -> float:
    """Return the learning rate of an adapter for a model of this width."""
    power = QWEN_POWER if model_type.startswith("qwen") else RATE_POWER
    return min(MOST_RATE, float(RATE * (RATE_WIDTH / hidden_size) ** power))


def _wanted_rows(settings: RunSettings, conversations: int) -> int:
    if settings.preset == "quick":
        return ROWS_PER_STEP[0][1]
    return next((rows for below, rows in ROWS_PER_STEP if conversations < below), MOST_ROWS_PER_STEP)


def _duration(settings: RunSettings, conversations: int) -> dict[str, float]:
    """Return the epochs, and the steps if these are what counts."""
    steps_per_pass = rows_per_pass(settings, conversations) / settings.rows_per_step()
    if settings.preset == "quick":
        steps = min(QUICK_STEPS, math.ceil(QUICK_PASSES * steps_per_pass))
        limit = {} if settings.max_steps > 0 or _fills_rows(settings) else {"max_steps": steps}
        return {"num_train_epochs": _rounded(steps / steps_per_pass), **limit}
    usual = next((passes for below, passes in PASSES if conversations < below), LEAST_PASSES)
    passes = min(MOST_PASSES, max(usual, LEAST_STEPS / steps_per_pass))
    return {"num_train_epochs": _rounded(passes * (BEST_SHARE if settings.preset == "best" else 1))}


def _fills_rows(settings: RunSettings) -> bool:
    """Return whether a row holds many conversations, so that steps say little about how many there are in each."""
    return settings.block_size is not None or (settings.packing and settings.packing_strategy == "bfd")


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")

"""Define the recipes that the bench compares: the app's own, the documented ones of others, and single changes.

Sources: TRL 1.16, "PEFT integration" and `ModelConfig` (rank 16, alpha 32, dropout 0.05, 2e-4 for adapters, batches of
8, 3 epochs, linear); Unsloth's notebooks (2e-4, rank and alpha 16, 2 x 4, 60 steps, 5 of them warm-up, linear, weight
decay 0.01); LLaMA-Factory's `examples/train_lora` (1e-4, rank 8, alpha 16, 1 x 8, 3 epochs, cosine, warm-up 0.1). The
former presets of this app are kept as they were in November 2026.
"""

from __future__ import annotations

from typing import Any

_LAST_WEIGHTS = {"max_steps": -1, "replay": 0.0, "load_best_model_at_end": False, "eval_steps": 0.5}
_ONE_BY_ONE = {"max_steps": -1, "replay": 0.0, "gradient_accumulation_steps": 1}

PEERS: dict[str, dict[str, Any]] = {
    "trl": {
        **_LAST_WEIGHTS,
        "learning_rate": 2e-4,
        "lora_dropout": 0.05,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 3,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.0,
    },
    "unsloth": {
        **_LAST_WEIGHTS,
        "learning_rate": 2e-4,
        "lora_alpha": 16,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "max_steps": 60,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 5 / 60,
        "weight_decay": 0.01,
    },
    "llama-factory": {
        **_LAST_WEIGHTS,
        "learning_rate": 1e-4,
        "lora_r": 8,
        "lora_alpha": 16,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "num_train_epochs": 3,
        "warmup_ratio": 0.1,
    },
}
FORMER: dict[str, dict[str, Any]] = {
    "quick-2026-11": {**_ONE_BY_ONE, "max_steps": 44, "learning_rate": 1e-3, "eval_steps": 0.5},
    "balanced-2026-11": {
        "max_steps": -1,
        "replay": 0.0,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": 3,
        "learning_rate": 2e-4,
        "eval_steps": 0.25,
    },
    "thorough-2026-11": {
        "max_steps": -1,
        "replay": 0.0,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": 5,
        "learning_rate": 2e-4,
        "lora_r": 32,
        "lora_alpha": 64,
        "eval_steps": 0.1,
    },
}
_THREE_PASSES = {**_ONE_BY_ONE, "num_train_epochs": 3, "eval_steps": 0.125, "learning_rate": 1.3e-3}
CHANGES: dict[str, dict[str, Any]] = {
    "3 passes, 1.3e-3": _THREE_PASSES,
    "3 passes, 7e-4": {**_THREE_PASSES, "learning_rate": 7e-4},
    "3 passes, 2e-3": {**_THREE_PASSES, "learning_rate": 2e-3},
    "2 passes, 1.3e-3": {**_THREE_PASSES, "num_train_epochs": 2, "eval_steps": 0.2},
    "rank 8": {**_THREE_PASSES, "lora_r": 8, "lora_alpha": 16},
    "dropout 0.1": {**_THREE_PASSES, "lora_dropout": 0.1},
    "NEFTune 5": {**_THREE_PASSES, "neftune_noise_alpha": 5.0},
    "weight decay 0.1": {**_THREE_PASSES, "weight_decay": 0.1},
}
REPLAY: dict[str, dict[str, Any]] = {
    f"good, replay {share:g}": {"preset": "good", "replay": share} for share in (0.0, 0.1, 0.2, 0.4)
}
OURS: dict[str, dict[str, Any]] = {name: {"preset": name} for name in ("quick", "good", "best")}
ARMS = OURS | REPLAY | FORMER | PEERS | CHANGES

"""Define all settings of a run. Names are spelled as in TRL and PEFT."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from sft_app.settings.data import setting
from sft_app.settings.method import MethodSettings

Preset = Literal["quick", "good", "best"]
FORMER_PRESETS: dict[str, Preset] = {"balanced": "good", "thorough": "best"}
"""The presets of earlier versions, which their runs still name, and those that took their place."""
PackingStrategy = Literal["step", "bfd"]

# A small adapter of the starter, trained on the bundled data, to compare with before the first run.
EXAMPLE_ADAPTER = "examples/adapter"
EXAMPLE_PROMPT = "My order hasn't arrived yet. What should I do?"


class RunSettings(MethodSettings):
    """All settings of a run; the same settings and data give the same run.

    Raises:
        pydantic.ValidationError: a value is out of range or a name is unknown; `parse_settings` turns it into a
            `SettingsError` that lists every fault.
    """

    preset: Preset = setting(
        "training",
        "quick",
        "quick: a first look in at most 60 small steps; good: several passes, ended early when they no longer help, "
        "with the adapter's strength chosen so that it forgets less; best: the same with more passes and patience. All "
        "mix general conversations into the examples (replay).",
    )
    num_train_epochs: float | None = setting(
        "training",
        2.0,
        "Number of passes over the examples. Leave empty for a number that suits their count.",
        gt=0.0,
        le=100.0,
    )
    max_steps: int = setting("training", -1, "Stop after this many optimizer steps; -1: use num train epochs.", ge=-1)
    learning_rate: float | None = setting(
        "training",
        None,
        "Step size. Leave empty for a rate that suits the model's size and the method.",
        gt=0.0,
        le=0.1,
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = setting(
        "training", "cosine", "How the learning rate decreases over the run."
    )
    warmup_ratio: float = setting(
        "training", 0.05, "Share of the steps during which the learning rate rises.", ge=0.0, le=0.5
    )
    weight_decay: float = setting(
        "training", 0.0, "How strongly trained weights are pulled towards zero.", ge=0.0, le=1.0
    )
    max_grad_norm: float = setting("training", 1.0, "Clip gradients to this norm.", gt=0.0, le=100.0)
    neftune_noise_alpha: float | None = setting(
        "training",
        None,
        "NEFTune: noise on the embeddings to reduce memorising, e.g. 5. Leave empty for none.",
        gt=0.0,
        le=100.0,
    )
    per_device_train_batch_size: int = setting("training", 4, "Conversations per batch on each GPU.", ge=1, le=512)
    gradient_accumulation_steps: int | None = setting(
        "training",
        4,
        "Batches accumulated per step. Leave empty for steps that suit the number of examples.",
        ge=1,
        le=1024,
    )
    packing: bool = setting("training", True, "Pack conversations end to end instead of padding them; faster.")
    packing_strategy: PackingStrategy = setting(
        "training",
        "step",
        "step: packs each batch, so a step has as many conversations as without packing; bfd: TRL's strategy, "
        "fills rows of max_length.",
    )
    block_size: int | None = setting(
        "training",
        None,
        "For the classic trainer: split all text into blocks of this many tokens. Leave empty for whole conversations.",
        ge=16,
        le=131_072,
    )
    auto_find_batch_size: bool = setting(
        "training",
        True,
        "On a GPU, compute as many of a step's conversations at once as memory allows. Each step stays the same.",
    )
    gradient_checkpointing: bool | None = setting(
        "training",
        None,
        "Save memory by recomputing activations, which takes longer. Automatic: as far as a GPU's memory requires.",
    )
    checkpoint_every_n_layers: int = setting(
        "training", 1, "With gradient checkpointing, recompute only every n-th layer.", ge=1, le=100
    )
    eval_steps: float = setting(
        "training",
        0.25,
        "Steps between evaluations and checkpoints; below 1, a share of the run.",
        gt=0.0,
        le=1e6,
    )
    save_minutes: float = setting(
        "training",
        10.0,
        "Maximum minutes between checkpoints; a power cut costs no more than this.",
        gt=0.0,
        le=1e5,
    )
    early_stopping_patience: int | None = setting(
        "training",
        None,
        "Stop after this many measurements without a better held-out loss. Leave empty for no early stopping.",
        ge=1,
        le=100,
    )
    load_best_model_at_end: bool = setting("training", True, "Keep the adapter with the best held-out loss.")
    choose_strength: bool = setting(
        "training",
        False,
        "After training, apply the adapter only as strongly as it helps and loses nothing the base model knew.",
    )
    replay: float = setting(
        "training",
        0.0,
        "Share of general conversations among the examples, answered by the base model itself, so that the model "
        "forgets less; at most 352 of them per pass. 0: none.",
        ge=0.0,
        le=0.9,
    )
    num_processes: int = setting("training", 1, "Number of GPUs to train on.", ge=1, le=64)
    fsdp: Literal["", "full_shard", "shard_grad_op"] = setting(
        "training", "", "Split the model across the GPUs (PyTorch FSDP) instead of copying it. Leave empty to copy it."
    )
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = setting(
        "training", "none", "Also send the curves to this tracker, if installed."
    )
    seed: int = setting(
        "training", 42, "Random seed for the split, order, initial adapter and sampling.", ge=0, le=2**31 - 1
    )

    watch_prompts: tuple[str, ...] = setting(
        "generation", (EXAMPLE_PROMPT,), "Prompts answered during training, so you can watch it learn.", max_length=8
    )
    scorecard_prompts: int = setting(
        "generation", 16, "Held-out questions both models answer at the end of a run, for comparison.", ge=0, le=1000
    )
    scorecard_prompted: int = setting(
        "generation",
        3,
        "Nearest training examples in the base model's prompt, to check whether a prompt does as well. 0: no check.",
        ge=0,
        le=32,
    )
    general_prompts: int = setting(
        "generation", 64, "General questions, unrelated to your data, asked to see what the model forgot.", ge=0
    )
    general_answers: int = setting(
        "generation",
        24,
        "General questions both models also answer, to be checked. Not if scorecard prompts is 0 or thinking is on.",
        ge=0,
    )
    general_questions: str = setting(
        "generation", "", "A .jsonl, .json or .yaml file with general questions of your own. Leave empty for the app's."
    )
    system_prompt: str = setting(
        "generation", "", "Added before every prompt in Compare. Leave empty for the model's own."
    )
    temperature: float = setting("generation", 0.0, "0: always the most likely token; higher: more varied.", ge=0, le=2)
    max_new_tokens: int = setting("generation", 160, "Maximum length of an answer, in tokens.", ge=1, le=8192)

    def resolved_learning_rate(self) -> float:
        """Return the learning rate; of a run of an earlier version that left it empty, the one it used.

        A new run's is in its settings from the start (`settings/recipe`).
        """
        if self.learning_rate is not None:
            return self.learning_rate
        rate = 2e-5 if self.method == "full" else 2e-4
        return 5 * rate if self.preset == "quick" else rate  # few steps must be large ones

    def chooses_weights(self) -> bool:
        """Return whether evaluations during training decide which weights are kept."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None

    def rows_per_step(self) -> int:
        """Return the number of rows per optimizer step; a row is a conversation unless `row_length` says otherwise."""
        return self.per_device_train_batch_size * self.batches_per_step() * self.num_processes

    def batches_per_step(self) -> int:
        """Return the batches accumulated per step. Raises: ValueError before `settings/recipe` has chosen them."""
        if self.gradient_accumulation_steps is None:
            raise ValueError("gradient_accumulation_steps is not chosen yet")
        return self.gradient_accumulation_steps

    def passes(self) -> float:
        """Return the number of passes over the examples. Raises: ValueError before `settings/recipe` has chosen it."""
        if self.num_train_epochs is None:
            raise ValueError("num_train_epochs is not chosen yet")
        return self.num_train_epochs

    def compute_dtype(self, fastest: str) -> str:
        """Return the dtype of the base's weights; `fastest` is the machine's fastest. `full` needs float32 for its
        small steps."""
        if self.method == "full":
            return "float32"
        return fastest if self.dtype == "auto" else self.dtype

    def step_dtype(self, fastest: str, device: str) -> str:
        """Return the dtype a training step computes in: on a GPU, `full` computes in half precision (autocast)."""
        if self.method == "full" and device == "cuda":
            return fastest if self.dtype == "auto" else self.dtype
        return self.compute_dtype(fastest)

    def is_packed(self) -> bool:
        """Return whether conversations are packed end to end instead of padded."""
        return self.trainer == "sft" and self.packing

    def target_modules(self) -> list[str] | None:
        """Return the names of the modules that get an adapter; None for every linear layer."""
        if self.lora_target_modules == "all-linear":
            return None
        return [name.strip() for name in self.lora_target_modules.split(",") if name.strip()]

    def row_length(self, max_length: int) -> int | None:
        """Return the number of tokens in a row that holds several conversations; None if each row is a conversation."""
        if self.trainer == "classic":
            return self.block_size
        return max_length if self.packing and self.packing_strategy == "bfd" else None

    @field_validator("preset", mode="before")
    @classmethod
    def _name_of_today(cls, value: Any) -> Any:
        return FORMER_PRESETS.get(value, value) if isinstance(value, str) else value

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:
            raise ValueError("must be -1 (use num train epochs) or at least 1")
        return value

    @field_validator("watch_prompts", mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _methods_that_go_together(self) -> RunSettings:
        if self.block_size is not None and self.trainer != "classic":
            raise ValueError("block_size is only for the classic trainer; SFTTrainer uses whole conversations")
        if self.fsdp and self.num_processes == 1:
            raise ValueError("fsdp splits a model across several GPUs: num_processes must be at least 2")
        if self.fsdp and self.method == "qlora":
            raise ValueError("fsdp does not work with a 4-bit model here; choose lora")
        if self.method == "full" and (self.use_dora or self.use_rslora):
            raise ValueError("use_dora and use_rslora are for adapters; full trains every weight")
        return self

"""Everything that can be asked of a run, written once.

The form on the page, the flags of the command line, `settings.json` and the trainer's arguments all come from
`RunSettings`. Names are spelled as TRL and PEFT spell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sft_app.errors import SettingsError

Method = Literal["qlora", "lora", "full"]
TrainerKind = Literal["sft", "classic"]
Preset = Literal["quick", "balanced", "thorough"]
Format = Literal[
    "auto",
    "messages",
    "sharegpt",
    "prompt_completion",
    "alpaca",
    "dolly",
    "gpteacher",
    "gpt4all",
    "question_answer",
    "preference",
    "oasst",
    "code_contests",
    "text",
    "columns",
]
CodeLanguage = Literal["python3", "python2", "cpp", "java", "any"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
PackingStrategy = Literal["step", "bfd"]
Section = Literal["data", "model", "method", "training", "generation"]

COLUMN_ROLES = ("user", "assistant", "system", "context")

EXAMPLE_DATA = "examples/customer_service.jsonl"
# A small adapter of the starter, trained on the bundled data: there is something to compare before the first run.
EXAMPLE_ADAPTER = "examples/adapter"
EXAMPLE_PROMPT = "My order hasn't arrived yet. What should I do?"


def _setting(section: Section, default: Any, help: str, **limits: Any) -> Any:
    """A field with its section and help; `limits` are pydantic's `ge`, `gt`, `le`, `lt`, `min_length`, `max_length`."""
    return Field(default, description=help, json_schema_extra={"section": section}, **limits)


class DataSettings(BaseModel):
    """How rows are got and become conversations: the same values read the same file the same way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = _setting(
        "data", EXAMPLE_DATA, "A file with examples, or the id of a data set on the Hub.", min_length=1
    )
    format: Format = _setting("data", "auto", "Layout of the rows; auto detects it.")
    columns: tuple[str, ...] = _setting(
        "data",
        (),
        "For a table of your own: user=COLUMN, assistant=COLUMN, optionally system= and context=.",
        max_length=4,
    )
    max_rows: int | None = _setting("data", None, "Read at most this many rows; empty: all.", ge=1)
    dataset_config: str | None = _setting("data", None, "Config (subset) of a Hub data set; empty: its default.")
    dataset_split: str = _setting("data", "train", "Split of a Hub data set.", min_length=1)
    dataset_revision: str | None = _setting("data", None, "Branch, tag or commit of a Hub data set; empty: main.")
    reply_paths: Literal["best", "all"] = _setting(
        "data", "best", "For reply trees (OASST): the best-ranked reply at every level, or every path."
    )
    text_language: str = _setting("data", "", "For reply trees (OASST): only this language, e.g. en; empty: all.")
    code_language: CodeLanguage = _setting("data", "python3", "For contest problems: solutions in this language.")
    solutions_per_problem: int = _setting(
        "data", 1, "For contest problems: at most this many solutions each.", ge=1, le=1000
    )

    def reading(self) -> DataSettings:
        """These settings alone, which a whole run's hold too."""
        return DataSettings(**{name: getattr(self, name) for name in DataSettings.model_fields})

    def column_map(self) -> dict[str, str]:
        """`{"user": COLUMN, "assistant": COLUMN, …}`; empty when no columns are named."""
        return {role: column for role, _, column in (entry.partition("=") for entry in self.columns)}

    @field_validator("columns", mode="before")
    @classmethod
    def _one_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        roles = [entry.partition("=")[0] for entry in entries]
        for entry, role in zip(entries, roles, strict=True):
            if role not in COLUMN_ROLES or not entry.partition("=")[2]:
                raise ValueError(f"{entry!r} is not ROLE=COLUMN, where ROLE is one of {', '.join(COLUMN_ROLES)}")
        if len(set(roles)) < len(roles):
            raise ValueError("a role is given twice")
        if entries and not {"user", "assistant"} <= set(roles):
            raise ValueError("both user=COLUMN and assistant=COLUMN are required")
        return entries


class RunSettings(DataSettings):
    """One run, complete: the same settings and the same data give the same run.

    Raises:
        pydantic.ValidationError: a value is out of range or a name is unknown; `parse_settings` turns it into one
            `SettingsError` that lists every fault.
    """

    name: str = _setting("data", "", "A name that helps you recognise the run.", max_length=80)
    heldout_fraction: float = _setting(
        "data", 0.1, "Share of the conversations held out of training for evaluation.", ge=0.0, le=0.5
    )
    heldout_min: int = _setting("data", 8, "Hold out at least this many conversations.", ge=1, le=1000)
    heldout_max: int = _setting("data", 200, "Hold out at most this many conversations.", ge=1, le=10_000)
    max_length: int | None = _setting(
        "data",
        None,
        "Maximum tokens per conversation; longer ones are cut off at the end. Empty: enough for 99 of 100 "
        "conversations.",
        ge=16,
        le=131_072,
    )

    model: str = _setting("model", "starter", "starter, a Hugging Face model id, or a local folder.", min_length=1)
    revision: str | None = _setting("model", None, "Branch, tag or commit of a Hub model; empty: its main branch.")
    dtype: Dtype = _setting("model", "auto", "Precision of the weights; auto picks what is fast on this machine.")

    method: Method = _setting(
        "method", "lora", "qlora: adapter on a 4-bit base; lora: adapter; full: trains every weight."
    )
    trainer: TrainerKind = _setting(
        "method", "sft", "sft: TRL's SFTTrainer with packing; classic: transformers' Trainer."
    )
    lora_r: int = _setting("method", 16, "Rank of the adapter: how much it can learn.", ge=1, le=512)
    lora_alpha: int = _setting("method", 32, "Scaling of the adapter; usually twice the rank.", ge=1, le=1024)
    use_rslora: bool = _setting(
        "method", False, "Scale the adapter by the square root of its rank; for ranks of 64 and up."
    )
    use_dora: bool = _setting(
        "method", False, "DoRA: train the magnitude and direction of each weight separately; slower."
    )
    lora_dropout: float = _setting("method", 0.0, "Share of adapter inputs dropped while training.", ge=0.0, le=0.5)
    lora_target_modules: str = _setting(
        "method", "all-linear", "all-linear, or module names separated by commas.", min_length=1
    )

    preset: Preset = _setting(
        "training", "quick", "quick: minutes, to see it work; balanced: everyday use; thorough: long and careful."
    )
    num_train_epochs: float = _setting("training", 2.0, "Number of passes over the examples.", gt=0.0, le=100.0)
    max_steps: int = _setting("training", -1, "Stop after this many optimizer steps; -1: decided by epochs.", ge=-1)
    learning_rate: float | None = _setting(
        "training",
        None,
        "Step size; empty: 2e-4 for adapters, 2e-5 for full; five times that for quick.",
        gt=0.0,
        le=0.1,
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = _setting(
        "training", "cosine", "How the learning rate decreases over the run."
    )
    warmup_ratio: float = _setting(
        "training", 0.05, "Share of the steps during which the learning rate rises.", ge=0.0, le=0.5
    )
    weight_decay: float = _setting(
        "training", 0.0, "How strongly trained weights are pulled towards zero.", ge=0.0, le=1.0
    )
    max_grad_norm: float = _setting("training", 1.0, "Clip gradients to this norm.", gt=0.0, le=100.0)
    neftune_noise_alpha: float | None = _setting(
        "training",
        None,
        "NEFTune: noise on the embeddings to reduce memorising, e.g. 5; empty: none.",
        gt=0.0,
        le=100.0,
    )
    per_device_train_batch_size: int = _setting("training", 4, "Conversations per batch on each GPU.", ge=1, le=512)
    gradient_accumulation_steps: int = _setting("training", 4, "Batches accumulated per step.", ge=1, le=1024)
    packing: bool = _setting("training", True, "Pack conversations end to end instead of padding them; faster.")
    packing_strategy: PackingStrategy = _setting(
        "training",
        "step",
        "step: packs each batch, so a step learns from as many as without packing; bfd: TRL's, fills rows "
        "of max_length.",
    )
    block_size: int | None = _setting(
        "training",
        None,
        "For the classic trainer: split all text into blocks of this many tokens; empty: whole conversations.",
        ge=16,
        le=131_072,
    )
    gradient_checkpointing: bool | None = _setting(
        "training", None, "Save memory by recomputing activations; empty: on for a GPU, off for a CPU."
    )
    eval_steps: float = _setting(
        "training",
        0.25,
        "Measure held-out loss and save every this many steps; below 1: share of the run.",
        gt=0.0,
        le=1e6,
    )
    save_minutes: float = _setting(
        "training",
        10.0,
        "Save a checkpoint at least this often, so that a power cut loses no more than that.",
        gt=0.0,
        le=1e5,
    )
    early_stopping_patience: int | None = _setting(
        "training",
        None,
        "Stop after this many measurements without a better held-out loss; empty: never.",
        ge=1,
        le=100,
    )
    load_best_model_at_end: bool = _setting("training", True, "Keep the adapter with the best held-out loss.")
    torch_compile: bool = _setting("training", False, "Compile the model first: takes minutes, then trains faster.")
    num_processes: int = _setting("training", 1, "Number of GPUs that share each step; 1: no sharing.", ge=1, le=64)
    fsdp: Literal["", "full_shard", "shard_grad_op"] = _setting(
        "training", "", "Split the model across the GPUs (PyTorch FSDP) instead of copying it; empty: copy."
    )
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = _setting(
        "training", "none", "Also send the curves to this tracker, if installed."
    )
    seed: int = _setting(
        "training", 42, "Random seed for the split, order, initial adapter and sampling.", ge=0, le=2**31 - 1
    )

    watch_prompts: tuple[str, ...] = _setting(
        "generation", (EXAMPLE_PROMPT,), "Prompts answered during training, so you can watch it learn.", max_length=8
    )
    scorecard_prompts: int = _setting(
        "generation",
        16,
        "Held-out questions both models answer at the end of a run, for comparison.",
        ge=0,
        le=1000,
    )
    system_prompt: str = _setting("generation", "", "Added before every prompt in Compare; empty: the model's own.")
    temperature: float = _setting(
        "generation", 0.0, "0: always the most likely token; higher: more varied.", ge=0, le=2
    )
    max_new_tokens: int = _setting("generation", 160, "Maximum length of an answer, in tokens.", ge=1, le=8192)

    def resolved_learning_rate(self) -> float:
        """The rate the trainer gets.

        Source: TRL, "PEFT integration": adapters want about ten times the rate of full fine-tuning.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        rate = 2e-5 if self.method == "full" else 2e-4
        return 5 * rate if self.preset == "quick" else rate  # few steps have to be long ones

    def rows_per_step(self) -> int:
        """Rows that one optimizer step learns from; a row is a conversation, or else as `row_length` says."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_processes

    def compute_dtype(self, fastest: str) -> str:
        """What the base computes in, where `fastest` is the machine's best: `full` takes small steps, which only
        float32 can express."""
        if self.method == "full":
            return "float32"
        return fastest if self.dtype == "auto" else self.dtype

    def is_packed(self) -> bool:
        """Whether conversations lie end to end instead of being padded."""
        return self.trainer == "sft" and self.packing

    def target_modules(self) -> list[str] | None:
        """The names of the modules that get an adapter; None for every linear layer."""
        if self.lora_target_modules == "all-linear":
            return None
        return [name.strip() for name in self.lora_target_modules.split(",") if name.strip()]

    def row_length(self, max_length: int) -> int | None:
        """Tokens of a row that is filled with several conversations; None where each row is one of them."""
        if self.trainer == "classic":
            return self.block_size
        return max_length if self.packing and self.packing_strategy == "bfd" else None

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:
            raise ValueError("must be -1 (decided by epochs) or at least 1")
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

    @model_validator(mode="after")
    def _heldout_range(self) -> RunSettings:
        if self.heldout_min > self.heldout_max:
            raise ValueError(f"heldout_min {self.heldout_min} is more than heldout_max {self.heldout_max}")
        return self


PRESETS: dict[Preset, dict[str, Any]] = {
    "quick": {
        "max_steps": 44,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "eval_steps": 0.5,
    },
    "balanced": {
        "num_train_epochs": 3.0,
    },
    "thorough": {
        "num_train_epochs": 5.0,
        "lora_r": 32,
        "lora_alpha": 64,
        "eval_steps": 0.1,
    },
}


def parse_settings(values: Mapping[str, Any]) -> RunSettings:
    """Settings from plain values; what is not given comes from the preset, then from the field's default.

    Raises:
        SettingsError: one line per fault, all of them at once.
    """
    preset = values.get("preset", "quick")
    if preset not in get_args(Preset):
        raise SettingsError(f"preset: got {preset!r}, expected one of {', '.join(get_args(Preset))}.")
    try:
        return RunSettings.model_validate({**PRESETS[preset], "preset": preset, **values})
    except ValidationError as error:
        raise SettingsError(faults_told(error)) from error


def faults_told(error: ValidationError) -> str:
    """One line per fault, all of them."""
    return "\n".join(_fault_line(fault) for fault in error.errors())


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["max_steps=20", "packing=false"]` to values; text is left for pydantic to convert.

    Nothing after the `=`, or `none`, empties a setting that can be empty.

    Raises:
        SettingsError: a part has no `=`.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise SettingsError(f"--set {assignment}: expected NAME=VALUE, for example max_steps=20.")
        name, text = name.strip(), text.strip()
        values[name] = None if text.lower() in ("", "none") and takes_none(name) else text
    return values


def takes_none(name: str) -> bool:
    """Whether a setting can be left empty for its default to be worked out."""
    field = RunSettings.model_fields.get(name)
    return field is not None and NoneType in get_args(field.annotation)


def choices_of(name: str) -> list[str]:
    """What a setting can be that is one of a few words."""
    return list(get_args(RunSettings.model_fields[name].annotation))


def fields_of(section: Section) -> list[str]:
    """The names of a section's settings, in the order they are written."""
    return [name for name, field in RunSettings.model_fields.items() if _section(field) == section]


def _section(field: Any) -> str:
    return field.json_schema_extra["section"]


def _fault_line(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"]) or "settings"
    if fault["type"] == "extra_forbidden":
        return f"{name}: there is no setting with this name."
    told = fault["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")  # pydantic's words, not ours
    return f"{name}: {told}, got {fault['input']!r}."

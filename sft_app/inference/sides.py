"""Find what can be a side of a comparison: a base model, a run, a checkpoint, or an adapter from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.data.chat_templates import stored_chat_template, stored_eos_token
from sft_app.errors import ModelError, RunError
from sft_app.hub.ids import is_hub_id
from sft_app.models.catalog import ModelRef, fetch_adapter, recorded_model, resolve_model
from sft_app.models.loading import ADAPTER_CONFIG, holds_full_model
from sft_app.models.starter import STARTER_HUB_ID
from sft_app.runs.checkpoints import checkpoint_step, complete_checkpoints
from sft_app.runs.directory import find_run, list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.environment import BUNDLED_DIR
from sft_app.settings import EXAMPLE_ADAPTER, RunSettings, parse_settings

if TYPE_CHECKING:
    from sft_app.inference.generation import Sampling

BASE = "base"
BASE_CHOICE = ("Base model", BASE)
EXAMPLE_CHOICE = ("Bundled example: customer service", EXAMPLE_ADAPTER)
"""The (label, name) of sides that exist without a run."""


@dataclass(frozen=True)
class Side:
    """Describes a side.

    `name` is what `find_sides` finds it by. `folder` holds an adapter or a full model; None is the base. `note` says
    how the base differs from the one the adapter was made for. `chat_template` is the setting of its run, or the text
    stored with an adapter from elsewhere, and `eos_token` the EOS stored there; the base has those of the other side.
    `enable_thinking` is the same for both.
    """

    name: str
    label: str
    base: ModelRef
    folder: Path | None = None
    in_4bit: bool = False
    dtype: str = "auto"
    note: str = ""
    chat_template: str = ""
    eos_token: str = ""
    enable_thinking: bool = False

    def is_full_model(self) -> bool:
        """Return whether the side is a full fine-tuned model."""
        return self.folder is not None and holds_full_model(self.folder)


def list_sides(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """List (label, name) of everything to compare: the base model, these runs and their checkpoints, the example."""
    sides = [BASE_CHOICE]
    for run in runs:
        try:
            name = run.record().settings.name
        except RunError:
            continue  # the list of runs shows what is wrong with it
        label = f"{name} · {run.id}" if name else run.id
        if run.has_adapter():
            sides.append((label, run.id))
        for checkpoint in complete_checkpoints(run.checkpoints_dir):
            sides.append((f"{label}, step {checkpoint_step(checkpoint)}", f"{run.id}/{checkpoint.name}"))
    return [*sides, EXAMPLE_CHOICE]


def find_sides(left: str, right: str, home: Path, enable_thinking: bool | None = None) -> tuple[Side, Side]:
    """Find two sides that share one base model.

    A name is `base` (the other side's), a run as in `find_run`, `RUN/checkpoint-STEP`, a folder with an adapter, or an
    adapter on the Hub. The base is loaded in 4 bits if either side was trained that way. If `enable_thinking` is None,
    both sides think if the right one was trained to.

    Raises:
        ModelError: both are the base, their bases differ, or a name is none of these.
        RunError: the run does not exist or has saved nothing yet.
    """
    one, other, *_ = find_all_sides((left, right), home, enable_thinking)
    return one, other


def find_all_sides(names: Sequence[str], home: Path, enable_thinking: bool | None = None) -> tuple[Side, ...]:
    """Find two or more sides that share one base model, as `find_sides` does; the second one is the right side.

    Raises: as `find_sides`.
    """
    names = [name.strip() or BASE for name in names]
    if set(names) == {BASE}:
        raise ModelError("Both sides are the base model. Choose a run or an adapter for at least one side.")
    found = [None if name == BASE else _find(name, home) for name in names]
    named = [side for side in found if side is not None]
    right = found[1] or named[0]
    sides = [side or _base_of(right) for side in found]
    base = _shared_base(sides)
    if not base.source:
        base = resolve_model("starter" if base.location == STARTER_HUB_ID else base.location, base.revision, home)
    in_4bit = any(side.in_4bit for side in sides)
    asked = {side.dtype for side in sides} - {"auto"}
    dtype = asked.pop() if len(asked) == 1 else "auto"
    thinking = sides[1].enable_thinking if enable_thinking is None else enable_thinking
    return tuple(
        replace(
            side, note=_revision_note(side, base), enable_thinking=thinking, base=base, in_4bit=in_4bit, dtype=dtype
        )
        for side in sides
    )


def run_of_side(name: str, runs: Iterable[Run]) -> Run | None:
    """Return the run a side belongs to; None for the base and for adapters from elsewhere."""
    run_id = name.partition("/checkpoint-")[0]
    return next((run for run in runs if run.id == run_id), None)


def side_settings(side: Side, home: Path) -> RunSettings:
    """Return the settings of the side's run, or the defaults for an adapter from elsewhere."""
    run = run_of_side(side.name, list_runs(home))
    return run.record().settings if run else RunSettings()


def conditions_of(
    side: Side,
    home: Path,
    system: str | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
) -> tuple[str, Sampling]:
    """Return the system prompt and sampling: the given values, and the rest from the side's run.

    Raises: SettingsError.
    """
    from sft_app.inference.generation import Sampling

    asked = {"system_prompt": system, "max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    settings = side_settings(side, home)
    given = {name: value for name, value in asked.items() if value is not None}
    settings = parse_settings({**settings.model_dump(), **given})
    return settings.system_prompt, Sampling(settings.temperature, settings.seed, settings.max_new_tokens)


def _find(name: str, home: Path) -> Side:
    run_id, _, step = name.partition("/checkpoint-")
    if step:
        return _checkpoint_side(find_run(home, run_id), step)
    if name == EXAMPLE_ADAPTER:
        return replace(_adapter_side(name, BUNDLED_DIR / EXAMPLE_ADAPTER), label="Bundled example")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _adapter_side(name, folder.resolve())
    if is_hub_id(name):
        side = _adapter_side(name, fetch_adapter(name))
        if not is_hub_id(side.base.location) or Path(side.base.location).expanduser().exists():
            raise ModelError(
                f"{name} names {side.base.location[:80]!r} as its base model, which is not a model on the Hub."
            )
        return side
    if "/" in name:
        raise ModelError(f"{name!r} is neither a folder on this machine nor a name on the Hub.")
    return _run_side(find_run(home, name))


def _run_side(run: Run) -> Side:
    if not run.has_adapter():
        raise RunError(f"Run {run.id} is {run.status().state} and has no adapter to compare yet.")
    return _side_of_run(run, run.id, _run_label(run), run.adapter_dir)


def _checkpoint_side(run: Run, step: str) -> Side:
    checkpoints = {path.name: path for path in complete_checkpoints(run.checkpoints_dir)}
    folder = checkpoints.get(f"checkpoint-{step}")
    if folder is None:
        kept = ", ".join(str(checkpoint_step(path)) for path in reversed(checkpoints.values())) or "none"
        raise RunError(f"Run {run.id} has no checkpoint for step {step}. Saved checkpoints: {kept}.")
    return _side_of_run(run, f"{run.id}/{folder.name}", _checkpoint_label(run, folder), folder)


def _side_of_run(run: Run, name: str, label: str, folder: Path) -> Side:
    settings = run.record().settings
    dtype = run.status().precision or settings.dtype
    is_4bit = settings.method == "qlora"
    template, thinking = settings.chat_template, settings.enable_thinking
    return Side(
        name, label, recorded_model(run), folder, is_4bit, dtype, chat_template=template, enable_thinking=thinking
    )


def _adapter_side(name: str, folder: Path) -> Side:
    """Build the side of an adapter from anywhere, which knows its base only by name."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"{name} has no {ADAPTER_CONFIG}, so it is not an adapter.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"The {ADAPTER_CONFIG} of {name} cannot be read.") from error
    kind, base = (
        config.get(key) if isinstance(config, dict) else None for key in ("peft_type", "base_model_name_or_path")
    )
    if kind != "LORA" or not isinstance(base, str) or not base:
        raise ModelError(f"{name} is not a LoRA adapter that names its base model (peft_type {kind}, base {base}).")
    revision = config.get("revision")
    named = revision if isinstance(revision, str) and revision not in ("", "main") else None
    ref = ModelRef(base, base, named, source="")
    template, eos_token = stored_chat_template(folder), stored_eos_token(folder)
    return Side(name, Path(name).name, ref, folder, chat_template=template, eos_token=eos_token)


def _base_of(side: Side) -> Side:
    return replace(side, name=BASE, label=BASE_CHOICE[0], folder=None)


def _shared_base(sides: Sequence[Side]) -> ModelRef:
    """Return the base of all sides. An adapter from elsewhere uses the other sides' base if the names match."""
    one = sides[0]
    for other in sides[1:]:
        if one.base.public_id != other.base.public_id:
            raise ModelError(
                f"{'Both' if len(sides) == 2 else 'All'} sides must share one base model, but {one.label} belongs to "
                f"{one.base.public_id} and {other.label} to {other.base.public_id}."
            )
    known = {(side.base.location, side.base.revision): side for side in sides if side.base.source}
    if len(known) > 1:
        one, other = list(known.values())[:2]
        raise ModelError(f"{one.label} and {other.label} were trained on different copies of {one.base.public_id}.")
    return next((side.base for side in known.values()), one.base)


def _revision_note(side: Side, base: ModelRef) -> str:
    """Say that an adapter from elsewhere is compared on another revision of its base than it names."""
    made_for = "" if side.base.source else side.base.revision
    if not made_for or made_for == base.revision:
        return ""
    used = f"revision {base.revision[:12]}" if base.revision else "a copy of unknown revision"
    return f"{side.label} was made for revision {made_for[:12]} of {base.public_id}, but is compared on {used}."


def _run_label(run: Run) -> str:
    return run.record().settings.name or run.id


def _checkpoint_label(run: Run, checkpoint: Path) -> str:
    return f"{_run_label(run)}, step {checkpoint_step(checkpoint)}"

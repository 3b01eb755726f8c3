"""Whether a merged model says the same as base and adapter did: what was measured, and what that means in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import AppError, ExportError
from sft_app.evaluation.score_run import Row, read_rows
from sft_app.evaluation.scorecard import RowScore, mean_loss, score_copies
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.inference.pair import load_pair, side_alone
from sft_app.inference.sides import BASE, find_sides
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import Hardware
from sft_app.models.loading import free_memory, load_base
from sft_app.runs.folder import Run
from sft_app.runs.summary import as_float
from sft_app.runtime.files import write_json_atomically

FIDELITY_FILE = "fidelity.json"
PROMPTS = 8
MEASURED = ("reference_loss", "merged_loss", "largest_change", "shared_beginning")
# In nats a token. Rounding the merged weights of the starter to bfloat16 moved the held-out loss by 0.0003; an adapter
# merged at nine tenths of its strength by 0.007, one without its `v_proj` by 0.011, without its adapter by 1.06.
MOST_BY_ROUNDING = 0.005
# The base that the adapter learnt on was itself rounded to 4 bits, and the one it is merged into is not: the starter's
# loss fell by 0.07 with that, and none of 8 answers stayed the same. Only a rise is to be warned of.
MOST_BY_4BIT = 0.05
# Enough to see a wrong weight in the loss, and few enough to be read while one waits.
MOST_CONVERSATIONS = 16
ANSWER_TOKENS = 64
AT_ONCE = 4
# What a conversation takes beside the weights.
ROOM = 1.1

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Fidelity:
    """The merged model, read back from disk, beside what the run was compared as.

    Losses are means over the trained tokens of `conversations` held-out ones; `largest_change` is that of the one
    conversation whose loss changed most, either way. `equal_answers` of `prompts` greedy answers are the same to the
    last token, and `shared_beginning` is the mean share of an answer before the first token that differs.
    `unchecked` says why nothing could be measured; empty where it was. `arithmetic` is the dtype of both sides.
    `adapter_ns` is when the adapter that was merged had been saved.
    """

    run: str
    arithmetic: str = ""
    conversations: int = 0
    reference_loss: float = 0.0
    merged_loss: float = 0.0
    largest_change: float = 0.0
    prompts: int = 0
    equal_answers: int = 0
    shared_beginning: float = 0.0
    is_in_4bit: bool = False
    is_copy: bool = False
    unchecked: str = ""
    adapter_ns: int = 0

    @property
    def difference(self) -> float:
        return self.merged_loss - self.reference_loss

    def as_record(self) -> dict[str, object]:
        return {**asdict(self), "difference": self.difference, "is_warning": is_warning(self)}


def write_fidelity(fidelity: Fidelity, folder: Path) -> None:
    write_json_atomically(folder / FIDELITY_FILE, fidelity.as_record())


def read_fidelity(folder: Path) -> Fidelity | None:
    """None where the folder has none that this version can read."""
    try:
        record = json.loads((folder / FIDELITY_FILE).read_bytes())
        known = {key: value for key, value in record.items() if key in Fidelity.__dataclass_fields__}
        return Fidelity(**{**known, **{key: as_float(known[key]) for key in MEASURED if key in known}})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def is_warning(fidelity: Fidelity) -> bool:
    """Whether the merged model predicts the held-out answers otherwise than rounding explains, or nobody could look.

    Better is no less suspicious, but after 4 bits, where it is usual.
    """
    if fidelity.unchecked:
        return True
    if fidelity.is_in_4bit:
        return not fidelity.difference <= MOST_BY_4BIT  # also a loss that is no number
    return not abs(fidelity.difference) <= MOST_BY_ROUNDING


def fidelity_sentence(fidelity: Fidelity) -> str:
    """What the page, the command line and the model card say of it."""
    if fidelity.is_copy:
        return "A full fine-tune is already a single model, so its files are copied unchanged."
    if fidelity.unchecked:
        return f"The app could not check whether it answers like base and adapter. {fidelity.unchecked}"
    before = "the adapter on its 4-bit base" if fidelity.is_in_4bit else "base and adapter"
    if not math.isfinite(fidelity.difference):
        return _no_number_told(fidelity, before)
    losses = f"loss {fidelity.merged_loss:.4f} vs. {fidelity.reference_loss:.4f}, {fidelity.difference:+.4f}"
    if is_warning(fidelity):
        allowed = MOST_BY_4BIT if fidelity.is_in_4bit else MOST_BY_ROUNDING
        how = "worse than" if fidelity.difference > 0 else "differently from"
        return (
            f"The merged model predicts the held-out answers {how} {before}: {losses}, more than the "
            f"{allowed:g} that rounding explains. Compare some answers before you rely on it; "
            "the measured results are those of the adapter."
        )
    if fidelity.is_in_4bit:
        return (
            "Unlike the base model in training and in Compare, the merged model is not rounded to 4 bits, "
            "so its answers can "
            f"differ. On the held-out answers: {losses} (lower is better).{_equal_told(fidelity)}"
        )
    return f"The merged model predicts the held-out answers as well as {before}: {losses}.{_equal_told(fidelity)}"


def _no_number_told(fidelity: Fidelity, before: str) -> str:
    """Whose loss it is; where it is that of the run itself, the merged model is not to blame."""
    if math.isfinite(fidelity.reference_loss):
        return (
            f"The merged model predicts the held-out answers differently from {before}: its loss is not a number. "
            "Do not use it; the measured results are those of the adapter."
        )
    return f"The loss of {before} is not a number, so the merged model cannot be judged. Train again before you use it."


def _equal_told(fidelity: Fidelity) -> str:
    if not fidelity.prompts:
        return ""
    told = f" {fidelity.equal_answers} of {fidelity.prompts} greedy answers are identical word for word"
    if fidelity.equal_answers == fidelity.prompts or fidelity.is_in_4bit:
        return f"{told}."
    return f"{told}; on average they agree for the first {fidelity.shared_beginning:.0%}, then rounding changes a word."


@dataclass(frozen=True)
class Measured:
    """One side: a score for each conversation, an answer to each prompt."""

    scores: list[RowScore]
    answers: list[Answer]


def check_fidelity(run: Run, merged: Path, prompts: int, tell: Progress) -> Fidelity:
    """The run as Compare loads it (its base in 4 bits if it was trained so), then the merged model from its folder.

    Where that cannot be done the result says why; the merged model is whole all the same.
    """
    import torch

    home = run.home
    try:
        pair = load_pair(find_sides(BASE, run.id, home), home)
        hardware, in_4bit, arithmetic = pair.models.hardware, pair.models.in_4bit, pair.models.hardware.dtype
        _refuse_without_memory(merged, hardware, arithmetic)
        check = _Check(run, pair.tokenizer, prompts)
        with side_alone(pair.loaded_sides[1], 1.0) as model:
            reference = check.measure(model, lambda share: tell(share / 2))
        del pair, model
        free_memory()
        model = load_base(ModelRef("the merged model", str(merged), None, "merged"), home, hardware)
        found = check.measure(model, lambda share: tell(0.5 + share / 2))
    except AppError as error:
        return Fidelity(run.id, unchecked=str(error))
    except torch.OutOfMemoryError:  # something else took it meanwhile
        return Fidelity(run.id, unchecked="The GPU's memory ran out.")
    known = Fidelity(run.id, arithmetic=arithmetic, is_in_4bit=in_4bit)
    return compare_sides(known, reference, found)


def compare_sides(known: Fidelity, reference: Measured, merged: Measured) -> Fidelity:
    """`known` with the numbers of both sides."""
    scores = list(zip(reference.scores, merged.scores, strict=True))
    answers = list(zip(reference.answers, merged.answers, strict=True))
    shared = [_shared_share(one, other) for one, other in answers]
    return replace(
        known,
        conversations=len(scores),
        reference_loss=mean_loss(reference.scores),
        merged_loss=mean_loss(merged.scores),
        largest_change=float(np.max([abs(after.loss - before.loss) for before, after in scores])),  # NaN where one is
        prompts=len(answers),
        equal_answers=sum(one.ids == other.ids and not (one.broken or other.broken) for one, other in answers),
        shared_beginning=sum(shared) / len(shared) if shared else 0.0,
    )


def shared_beginning(one: Sequence[int], other: Sequence[int]) -> float:
    """The share of the longer one that comes before the first difference; 1.0 for two that are empty."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
    return same / max(len(one), len(other)) if one or other else 1.0


def _shared_share(one: Answer, other: Answer) -> float:
    """None of an answer that broke off is known to be shared."""
    return 0.0 if one.broken or other.broken else shared_beginning(one.ids, other.ids)


class _Check:
    """The conversations and prompts, the same for both sides."""

    def __init__(self, run: Run, tokenizer: Any, prompts: int) -> None:
        self.tokenizer, self.settings = tokenizer, run.record().settings
        self.rows: list[Row] = read_rows(run.heldout_file, tokenizer, self.settings.max_length)[:MOST_CONVERSATIONS]
        asked = [row.conversation for row in self.rows if not row.conversation.is_text()][:prompts]
        self.prompts = [render_prompt(tokenizer, conversation.as_dicts()[:-1]) for conversation in asked]

    def measure(self, model: Any, tell: Progress) -> Measured:
        scores = []
        for place, row in enumerate(self.rows):
            tell(place / (len(self.rows) + 1) * 0.6)
            scores += score_copies(model, row.rendered, 1)
        tell(0.6)
        sampling = Sampling(0.0, self.settings.seed, min(self.settings.max_new_tokens, ANSWER_TOKENS))
        answers = []
        for place in range(0, len(self.prompts), AT_ONCE):
            batch = self.prompts[place : place + AT_ONCE]
            answers += answer_prompts(model, self.tokenizer, batch, sampling, stop_ids(self.tokenizer))
            tell(0.6 + 0.4 * len(answers) / len(self.prompts))
        return Measured(scores, answers)


def _refuse_without_memory(merged: Path, hardware: Hardware, arithmetic: str) -> None:
    """`hardware` as it was before the run's own side took some of it, which it gives back. Raises: ExportError."""
    files = sum(file.stat().st_size for file in merged.glob("*.safetensors")) / 2**30
    needed, free = ROOM * files * (2 if arithmetic == "float32" else 1), hardware.memory_free_gib
    if needed > free:
        where = "of the GPU's memory" if hardware.device == "cuda" else "of memory"
        raise ExportError(f"It needs {needed:.1f} GiB {where} in {arithmetic}, but only {free:.1f} GiB is free.")

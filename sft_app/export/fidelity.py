"""Whether a merged model says the same as base and adapter did: what was measured, and what that means in words."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from sft_app.runs.summary import as_float
from sft_app.runtime.files import write_json_atomically

FIDELITY_FILE = "fidelity.json"
PROMPTS = 8
MEASURED_FIELDS = ("reference_loss", "merged_loss", "largest_change", "shared_beginning")
# In nats a token. Rounding the merged weights of the starter to bfloat16 moved the held-out loss by 0.0003; an adapter
# merged at nine tenths of its strength by 0.007, one without its `v_proj` by 0.011, without its adapter by 1.06.
MAX_ROUNDING_DIFFERENCE = 0.005
# The base that the adapter learnt on was itself rounded to 4 bits, and the one it is merged into is not: the starter's
# loss fell by 0.07 with that, and none of 8 answers stayed the same. Only a rise is to be warned of.
MAX_4BIT_INCREASE = 0.05


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
        return Fidelity(**{**known, **{key: as_float(known[key]) for key in MEASURED_FIELDS if key in known}})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def is_warning(fidelity: Fidelity) -> bool:
    """Whether the merged model predicts the held-out answers otherwise than rounding explains, or nobody could look.

    Better is no less suspicious, but after 4 bits, where it is usual.
    """
    if fidelity.unchecked:
        return True
    if fidelity.is_in_4bit:
        return not fidelity.difference <= MAX_4BIT_INCREASE  # also a loss that is no number
    return not abs(fidelity.difference) <= MAX_ROUNDING_DIFFERENCE


def fidelity_sentence(fidelity: Fidelity) -> str:
    """What the page, the command line and the model card say of it."""
    if fidelity.is_copy:
        return "A full fine-tune is already a single model, so its files are copied unchanged."
    if fidelity.unchecked:
        return f"The app could not check whether it answers like base and adapter. {fidelity.unchecked}"
    before = "the adapter on its 4-bit base" if fidelity.is_in_4bit else "base and adapter"
    if not math.isfinite(fidelity.difference):
        return _non_finite_sentence(fidelity, before)
    losses = f"loss {fidelity.merged_loss:.4f} vs. {fidelity.reference_loss:.4f}, {fidelity.difference:+.4f}"
    if is_warning(fidelity):
        allowed = MAX_4BIT_INCREASE if fidelity.is_in_4bit else MAX_ROUNDING_DIFFERENCE
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
            f"differ. On the held-out answers: {losses} (lower is better).{_equal_answers_sentence(fidelity)}"
        )
    equal = _equal_answers_sentence(fidelity)
    return f"The merged model predicts the held-out answers as well as {before}: {losses}.{equal}"


def _non_finite_sentence(fidelity: Fidelity, before: str) -> str:
    """Whose loss it is; where it is that of the run itself, the merged model is not to blame."""
    if math.isfinite(fidelity.reference_loss):
        return (
            f"The merged model predicts the held-out answers differently from {before}: its loss is not a number. "
            "Do not use it; the measured results are those of the adapter."
        )
    return f"The loss of {before} is not a number, so the merged model cannot be judged. Train again before you use it."


def _equal_answers_sentence(fidelity: Fidelity) -> str:
    if not fidelity.prompts:
        return ""
    sentence = f" {fidelity.equal_answers} of {fidelity.prompts} greedy answers are identical word for word"
    if fidelity.equal_answers == fidelity.prompts or fidelity.is_in_4bit:
        return f"{sentence}."
    share = f"{fidelity.shared_beginning:.0%}"
    return f"{sentence}; on average they agree for the first {share}, then rounding changes a word."

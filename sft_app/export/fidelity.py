"""Record how closely a merged model matches the base model with the adapter, and say in words what that means."""

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
# In nats per token. On the starter, rounding the merged weights to bfloat16 changed the held-out loss by 0.0003,
# merging the adapter at 0.9 of its strength by 0.007, omitting its `v_proj` by 0.011, omitting the adapter by 1.06.
MAX_ROUNDING_DIFFERENCE = 0.005
# The base that the adapter was trained on was rounded to 4 bits, and the base it is merged into is not: on the starter,
# this lowered the loss by 0.07 and changed all of 8 answers. So only an increase is a warning.
MAX_4BIT_INCREASE = 0.05


@dataclass(frozen=True)
class Fidelity:
    """How closely the merged model, read back from disk, matches the run as shown in Compare.

    Losses are means over the trained tokens of `conversations` held-out conversations; `largest_change` is the largest
    change of one conversation's loss, in either direction. `equal_answers` of `prompts` greedy answers are the same to
    the last token, and `shared_beginning` is the mean share of an answer before the first different token. `unchecked`
    says why nothing could be measured, "" otherwise. `arithmetic` is the dtype of both sides. `adapter_ns` is when the
    merged adapter was saved.
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
    """Read the folder's fidelity record; None if there is none that this version can read."""
    try:
        record = json.loads((folder / FIDELITY_FILE).read_bytes())
        known = {key: value for key, value in record.items() if key in Fidelity.__dataclass_fields__}
        return Fidelity(**{**known, **{key: as_float(known[key]) for key in MEASURED_FIELDS if key in known}})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def is_warning(fidelity: Fidelity) -> bool:
    """Return whether the predictions differ more than rounding explains, or could not be checked.

    An improvement is suspicious too, except after training in 4 bits, where it is usual.
    """
    if fidelity.unchecked:
        return True
    if fidelity.is_in_4bit:
        return not fidelity.difference <= MAX_4BIT_INCREASE  # also true if a loss is not a number
    return not abs(fidelity.difference) <= MAX_ROUNDING_DIFFERENCE


def fidelity_sentence(fidelity: Fidelity) -> str:
    """Return the sentence for the page, the command line and the model card."""
    if fidelity.is_copy:
        return "A full fine-tune is already a single model, so its files are copied unchanged."
    if fidelity.unchecked:
        return f"The app could not check whether it answers like the base model with the adapter. {fidelity.unchecked}"
    before = "the adapter on its 4-bit base" if fidelity.is_in_4bit else "the base model with the adapter"
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
    """Say whose loss is not a number; if it is the run's own, the merged model is not to blame."""
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

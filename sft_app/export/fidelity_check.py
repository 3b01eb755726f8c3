"""Compare a merged model with the run as shown in Compare, on the same prompts and in the same precision.

On a CPU, both compute in float32 if there is enough memory, as in Compare. The merged weights are still those on the
disk, rounded to bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.tokens import render_last_prompt, stop_ids
from sft_app.errors import AppError, ExportError
from sft_app.evaluation.scorable_rows import ScorableRow, read_scorable_rows
from sft_app.evaluation.scorecard import RowScore, mean_loss, score_copies
from sft_app.export.fidelity import Fidelity
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.inference.pair import activate_side, load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import Hardware
from sft_app.models.loading import free_memory, load_base
from sft_app.runs.folder import Run
from sft_app.runtime.progress import ProgressCallback
from sft_app.runtime.resources import LOADED_MODEL_FACTOR, is_out_of_memory, shortage

# Enough to see a wrong weight in the loss, and few enough not to keep the user waiting.
MAX_CONVERSATIONS = 16
ANSWER_TOKENS = 64
ANSWER_BATCH_SIZE = 4


@dataclass(frozen=True)
class SideResults:
    """One side's score for each conversation and answer to each prompt."""

    scores: list[RowScore]
    answers: list[Answer]


def check_fidelity(run: Run, merged: Path, prompts: int, on_progress: ProgressCallback) -> Fidelity:
    """Measure the run as Compare loads it (in 4 bits if it was trained that way), then the merged model.

    If that is not possible, the result says why; the merged model is complete in any case.
    """
    home = run.home
    try:
        pair = load_pair(find_sides(BASE, run.id, home), home)
        hardware, in_4bit, arithmetic = pair.models.hardware, pair.models.in_4bit, pair.models.hardware.dtype
        _refuse_without_memory(merged, hardware, arithmetic)
        check = _Check(run, pair.tokenizer, prompts)
        with activate_side(pair.loaded_sides[1], 1.0) as model:
            reference = check.measure(model, lambda share: on_progress(share / 2))
        del pair, model
        free_memory()
        model = load_base(ModelRef("the merged model", str(merged), None, "merged"), home, hardware)
        results = check.measure(model, lambda share: on_progress(0.5 + share / 2))
    except AppError as error:
        return Fidelity(run.id, unchecked=str(error))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return Fidelity(run.id, unchecked="The memory ran out.")  # another process took it in the meantime
    fidelity = Fidelity(run.id, arithmetic=arithmetic, is_in_4bit=in_4bit)
    return compare_sides(fidelity, reference, results)


def compare_sides(fidelity: Fidelity, reference: SideResults, merged: SideResults) -> Fidelity:
    """Return `fidelity` with the numbers of both sides filled in."""
    scores = list(zip(reference.scores, merged.scores, strict=True))
    answers = list(zip(reference.answers, merged.answers, strict=True))
    shared = [_shared_share(one, other) for one, other in answers]
    return replace(
        fidelity,
        conversations=len(scores),
        reference_loss=mean_loss(reference.scores),
        merged_loss=mean_loss(merged.scores),
        largest_change=float(np.max([abs(after.loss - before.loss) for before, after in scores])),  # NaN where one is
        prompts=len(answers),
        equal_answers=sum(one.ids == other.ids and not (one.broken or other.broken) for one, other in answers),
        shared_beginning=sum(shared) / len(shared) if shared else 0.0,
    )


def shared_beginning(one: Sequence[int], other: Sequence[int]) -> float:
    """Return how much of the longer sequence comes before the first difference; 1.0 if both are empty."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))
    return same / max(len(one), len(other)) if one or other else 1.0


def _shared_share(one: Answer, other: Answer) -> float:
    """Return the shared beginning of two answers; 0.0 if either is broken."""
    return 0.0 if one.broken or other.broken else shared_beginning(one.ids, other.ids)


class _Check:
    """Holds the conversations and prompts that both sides are measured on."""

    def __init__(self, run: Run, tokenizer: Any, prompts: int) -> None:
        self.tokenizer, self.settings = tokenizer, run.record().settings
        self.rows: list[ScorableRow] = read_scorable_rows(run.heldout_file, tokenizer, self.settings.max_length)[
            :MAX_CONVERSATIONS
        ]
        chats = [row.conversation for row in self.rows if not row.conversation.is_text()][:prompts]
        self.prompts = [render_last_prompt(tokenizer, conversation) for conversation in chats]

    def measure(self, model: Any, on_progress: ProgressCallback) -> SideResults:
        scores = []
        for index, row in enumerate(self.rows):
            on_progress(index / (len(self.rows) + 1) * 0.6)
            scores += score_copies(model, row.rendered, 1)
        on_progress(0.6)
        sampling = Sampling(0.0, self.settings.seed, min(self.settings.max_new_tokens, ANSWER_TOKENS))
        answers = []
        for start in range(0, len(self.prompts), ANSWER_BATCH_SIZE):
            batch = self.prompts[start : start + ANSWER_BATCH_SIZE]
            answers += answer_prompts(model, self.tokenizer, batch, sampling, stop_ids(self.tokenizer))
            on_progress(0.6 + 0.4 * len(answers) / len(self.prompts))
        return SideResults(scores, answers)


def _refuse_without_memory(merged: Path, hardware: Hardware, arithmetic: str) -> None:
    """Check the memory for the merged model. Raises: ExportError if there is not enough.

    `hardware` was detected before the run's own side was loaded, whose memory is freed first.
    """
    files = sum(file.stat().st_size for file in merged.glob("*.safetensors")) / 2**30
    needed, free = LOADED_MODEL_FACTOR * files * (2 if arithmetic == "float32" else 1), hardware.memory_free_gib
    if needed > free:
        memory = "the GPU's memory" if hardware.device == "cuda" else "memory"
        raise ExportError(f"{shortage('It', needed, free, f'{memory} in {arithmetic}')}.")

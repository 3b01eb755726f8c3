"""Merge an adapter into its base model, in a separate process.

`export/merge_worker` runs as a process because only a process that has ended returns all its memory, and because it can
be ended at any time. It writes into its own folder, which is moved into place once the model is complete.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
from pydantic import BaseModel, ValidationError

from sft_app.errors import ExportError
from sft_app.export.adapter import Files, description_files, write_files
from sft_app.export.fidelity import PROMPTS, Fidelity, fidelity_sentence, read_fidelity
from sft_app.export.model_card import model_card
from sft_app.hub.ids import is_hub_id
from sft_app.models.catalog import ModelRef, recorded_model
from sft_app.models.loading import holds_full_model
from sft_app.runs.checkpoints import read_safetensors_header
from sft_app.runs.folder import Run
from sft_app.runtime.children import describe_exit, running_python, until_ended
from sft_app.runtime.files import last_lines, put_on_disk, write_json_atomically
from sft_app.runtime.resources import free_disk_gib, free_memory_gib, shortage
from sft_app.training.supervisor import worker_environment

PROGRESS_FILE, LOG_FILE, DRAFT = "progress.json", "merge.log", "model"
Returned = TypeVar("Returned")
# Bytes per weight in bfloat16.
BYTES_WRITTEN = 2
# Tokenizer, configs and model card, in addition to the weights.
OTHER_FILES_GIB = 0.05
# Python with its libraries, and a factor for the weights. Layers are merged one at a time, and nothing is generated.
MERGING_GIB, MERGING_FACTOR = 0.6, 1.1


@dataclass(frozen=True)
class Step:
    """How far an export is: the share that is done, and the current stage in a word or two."""

    share: float
    what: str


class MergeProgress(BaseModel):
    """The process's report: how far it is, why merging failed, or that it is done."""

    share: float = 0.0
    what: str = "Starting"
    error: str = ""
    is_done: bool = False


@dataclass(frozen=True)
class MergedModel:
    """A model folder for transformers, vLLM, llama.cpp and others; `fidelity` says how closely it matches the run."""

    folder: Path
    fidelity: Fidelity


def follow(steps: Generator[Step, None, Returned], on_progress: Callable[[Step], None]) -> Returned:
    """Run a generator of steps to its end and return its result; close it if `on_progress` raises."""
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: Returned = end.value
                return result
            on_progress(step)


def merge_steps(run: Run, folder: Path, prompts: int = PROMPTS) -> Generator[Step, None, MergedModel]:
    """Write the merged model of a run to `folder`; closing the generator ends the process and cleans up.

    An earlier merged model there is replaced once the new one is complete. To check the result, the merged model and
    the run both answer `prompts` held-out prompts.

    Raises:
        ExportError: there is nothing to merge, there is not enough room, the folder contains something else, or the
            process failed.
    """
    if not run.has_adapter():
        raise ExportError(f"Run {run.id} has not saved anything to merge yet; it is {run.status().state}.")
    folder = folder.absolute()
    refuse_other_folder(folder)
    check_room(run, folder)
    scratch = _make_scratch(folder)
    try:
        exit_status = yield from _work(run, scratch, prompts)
        fidelity = _result(run, scratch, exit_status)
        write_files(describe_merged(run, folder.name, fidelity), scratch / DRAFT)
        _put_in_place(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return MergedModel(folder, fidelity)


def find_merged(run: Run, folder: Path) -> MergedModel | None:
    """Return the merged model in the folder if it belongs to this run and the run has not been saved since."""
    fidelity = read_fidelity(folder)
    if fidelity is None or fidelity.run != run.id or not run.has_adapter():
        return None
    return MergedModel(folder, fidelity) if fidelity.adapter_ns == saved_ns(run) else None


def saved_ns(run: Run) -> int:
    """Return when the run last saved its adapter or model, in nanoseconds; an active run may save again."""
    return max((file.stat().st_mtime_ns for file in run.adapter_dir.glob("*.safetensors")), default=0)


def describe_merged(run: Run, name: str, fidelity: Fidelity, chosen: Sequence[str] | None = None) -> Files:
    """Build the card, settings and scores of a merged model; `name`, `chosen` and errors are as in `model_card`."""
    notes = [] if fidelity.is_copy else [fidelity_sentence(fidelity)]
    card = model_card(run, name, "full" if fidelity.is_copy else "merged", notes, chosen)
    return description_files(run, card)


def merged_size_gib(run: Run) -> float:
    """Return the size of the merged model's weights; 0 if it is unknown because the base is not downloaded."""
    ref, home = recorded_model(run), run.home
    if holds_full_model(run.adapter_dir):
        return sum(file.stat().st_size for file in run.adapter_dir.glob("*.safetensors")) / 2**30
    return _count_weights(_weights_folder(ref, home)) * BYTES_WRITTEN / 2**30


def check_room(run: Run, folder: Path) -> None:
    """Check that there is enough disk space and memory. Raises: ExportError with the numbers if not."""
    size = merged_size_gib(run)
    needed, free = size + OTHER_FILES_GIB, free_disk_gib(folder)
    if needed > free:
        message = f"{shortage('The merged model', needed, free, 'disk space')} at {folder}"
        raise ExportError(f"{message}. Free up space, or choose another folder.")
    if holds_full_model(run.adapter_dir):
        return  # its files are copied
    needed, free = size * MERGING_FACTOR + MERGING_GIB, free_memory_gib("cpu")
    if needed > free:
        raise ExportError(
            f"{shortage('Merging', needed, free)}. Close other programs, or merge on a larger machine. "
            "You can still export just the adapter here."
        )


def refuse_other_folder(folder: Path) -> None:
    """Check that writing would only replace an earlier merged model. Raises: ExportError."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and read_fidelity(folder) is None):
        raise ExportError(f"{folder} already exists and is not a merged model from this app. Choose another folder.")


def _make_scratch(folder: Path) -> Path:
    """Make a folder next to the target, so that renaming moves it into place; remove those of killed processes."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}-merging-*"):
            if not psutil.pid_exists(int(left.name.split("-")[-2])):
                shutil.rmtree(left, ignore_errors=True)
        scratch = folder.with_name(f".{folder.name}-merging-{os.getpid()}-{secrets.token_hex(4)}")
        scratch.mkdir()
    except OSError as error:
        raise ExportError(f"{folder.parent} cannot be written to: {error.strerror or error}.") from error
    return scratch


def _work(run: Run, scratch: Path, prompts: int) -> Generator[Step, None, int]:
    """Run the process to its end and return its exit status."""
    arguments = ["-m", "sft_app.export.merge_worker", str(run.path), str(scratch), str(prompts), str(os.getpid())]
    with running_python(arguments, scratch / LOG_FILE, worker_environment(1)) as child:
        yield Step(0.0, "Starting")
        for _ in until_ended(child):
            progress = _read_progress(scratch)
            yield Step(progress.share, progress.what)
        return child.wait()


def _result(run: Run, scratch: Path, exit_status: int) -> Fidelity:
    progress, fidelity = _read_progress(scratch), read_fidelity(scratch / DRAFT)
    if progress.error:
        raise ExportError(f"Run {run.id} could not be merged. {progress.error}")
    if fidelity is None or not progress.is_done:
        reason = " ".join(last_lines(scratch / LOG_FILE, 1)) or describe_exit("It", exit_status)
        raise ExportError(f"The merge of run {run.id} ended early. {reason}")
    return fidelity


def write_progress(scratch: Path, progress: MergeProgress) -> None:
    """Replace the process's report; do nothing if its folder has been removed."""
    if scratch.is_dir():
        write_json_atomically(scratch / PROGRESS_FILE, progress.model_dump())


def _read_progress(scratch: Path) -> MergeProgress:
    try:
        return MergeProgress.model_validate_json((scratch / PROGRESS_FILE).read_bytes())
    except (OSError, ValidationError):  # nothing has been reported yet
        return MergeProgress()


def _put_in_place(scratch: Path, folder: Path) -> None:
    """Swap the finished model with what is at `folder`, which is restored if that fails."""
    old = scratch / "old"
    try:
        if folder.is_dir():
            folder.rename(old)
        (scratch / DRAFT).rename(folder)
        put_on_disk(folder.parent)
    except OSError as error:
        if old.is_dir():
            old.rename(folder)
        raise ExportError(f"{folder} could not be moved into place: {error.strerror or error}.") from error


def _weights_folder(ref: ModelRef, home: Path) -> Path:
    """Return the folder of the base's weights; for a model on the Hub, its folder in the Hub's cache."""
    folder = ref.folder(home)
    if folder.is_dir() or not is_hub_id(ref.location):
        return folder
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(ref.location, "config.json", revision=ref.revision or "main")
    return Path(config).parent if isinstance(config, str) else folder


def _count_weights(folder: Path) -> int:
    """Count the weights in a folder's files, shared ones once; 0 if the folder does not exist."""
    total = 0
    for file in folder.glob("*.safetensors"):
        if file.name.startswith("consolidated"):  # the same weights again, in Mistral's own format
            continue
        with suppress(OSError, ValueError):
            tensors, _ = read_safetensors_header(file)
            total += sum(math.prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
    return total

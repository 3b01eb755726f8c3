"""Merge a run and check the result, in a separate process.

Run as `python -m sft_app.export.merge_worker RUN_DIR SCRATCH PROMPTS PARENT_PID`. It writes the merged model to
`SCRATCH/model` and its progress to `SCRATCH/progress.json`. If its parent ends, it removes SCRATCH and ends too.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_app.errors import AppError, ExportError, first_line, kind_and_first_line
from sft_app.export.fidelity import Fidelity, write_fidelity
from sft_app.export.fidelity_check import check_fidelity
from sft_app.export.merged import DRAFT, MergeProgress, check_room, merged_size_gib, saved_ns, write_progress
from sft_app.models.adapters import load_adapter
from sft_app.models.catalog import fetch_base, recorded_model
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import (
    free_memory,
    holds_full_model,
    load_base,
    load_config,
    load_tokenizer,
)
from sft_app.runs.folder import Run
from sft_app.runtime.children import end_with_parent
from sft_app.runtime.files import put_on_disk, write_json_atomically
from sft_app.runtime.progress import StageCallback

MAX_TRIES = 100
SHARD = "5GB"
# Where the stages start, as shares of the whole. On a CPU, the check takes longest.
MERGING, WRITING, CHECKING = 0.1, 0.2, 0.3
WEIGHTS = "*.safetensors*"
OTHER_MODEL_FILES = ("config.json", "generation_config.json", "chat_template.jinja", "tokenizer*", "*.model")
# Valid only on the machine that wrote them.
LOCAL_KEYS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")


def main(run_dir: str, scratch: str, prompts: str, parent: str) -> int:
    """Merge the run; if that fails, write a sentence about it into `progress.json`."""
    folder = Path(scratch)
    end_with_parent(int(parent), lambda: _clear(folder))
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    try:
        merge(
            Run(Path(run_dir)),
            folder,
            int(prompts),
            lambda share, what: write_progress(folder, MergeProgress(share=share, what=what)),
        )
        write_progress(folder, MergeProgress(share=1.0, what="Done", is_done=True))
    except AppError as error:
        write_progress(folder, MergeProgress(error=str(error)))
    except Exception as error:  # last chance to tell the user; the traceback goes to the log
        traceback.print_exc()
        write_progress(folder, MergeProgress(error=kind_and_first_line(error)))
    return 0


def merge(run: Run, scratch: Path, prompts: int, on_progress: StageCallback) -> None:
    """Write the merged model to `scratch/model`, with a `fidelity.json`. Raises: AppError."""
    draft, is_copy, adapter_ns = scratch / DRAFT, holds_full_model(run.adapter_dir), saved_ns(run)
    on_progress(0.0, "Loading the base model")
    settings = run.record().settings
    tokenizer = load_tokenizer(recorded_model(run), run.home, settings.chat_template, settings.enable_thinking)
    if is_copy:
        _copy_full_model(run, draft, on_progress)
    else:
        _merge_adapter(run, draft, on_progress)
    tokenizer.save_pretrained(draft)
    finish_configs(draft, tokenizer)
    on_progress(CHECKING, "Checking that it answers the same")
    fidelity = Fidelity(run.id, is_copy=True)
    if not is_copy:
        free_memory()
        fidelity = check_fidelity(
            run,
            draft,
            prompts,
            lambda share: on_progress(CHECKING + share * (1 - CHECKING), "Checking that it answers the same"),
        )
    write_fidelity(replace(fidelity, adapter_ns=adapter_ns), draft)
    put_on_disk(*draft.rglob("*"), draft)


def _merge_adapter(run: Run, draft: Path, on_progress: StageCallback) -> None:
    """Merge the adapter into its base in bfloat16, even if it was trained on the base in 4 bits.

    Merging into 4-bit weights would round away what the adapter learned.
    """
    ref, home = recorded_model(run), run.home
    if getattr(load_config(ref, home), "quantization_config", None) is not None:
        raise ExportError(
            f"{ref.name} is stored quantised, and merging into rounded weights would lose what was learned. "
            "Export the adapter, or train on the unquantised model."
        )
    if merged_size_gib(run) == 0:  # not downloaded, so its size could not be checked before
        on_progress(0.0, "Fetching the base model")
        fetch_base(ref, home)
        check_room(run, draft)
    base = load_base(ref, home, replace(detect_hardware(), device="cpu"), "bfloat16")
    on_progress(MERGING, "Merging")
    adapted = load_adapter(base, run.adapter_dir)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ExportError(f"The adapter cannot be merged: {first_line(error)}") from error
    on_progress(WRITING, "Writing")
    merged.save_pretrained(draft, max_shard_size=SHARD)


def _copy_full_model(run: Run, draft: Path, on_progress: StageCallback) -> None:
    """Copy the run's full model unchanged, in its own precision."""
    draft.mkdir()
    names = (WEIGHTS, *OTHER_MODEL_FILES)
    files = sorted({file for name in names for file in run.adapter_dir.glob(name)})
    for index, file in enumerate(files):
        on_progress(CHECKING * index / len(files), "Copying")
        shutil.copyfile(file, draft / file.name)


def finish_configs(folder: Path, tokenizer: Any) -> None:
    """Remove this machine's paths from the configs and write all stop tokens into `generation_config.json`.

    transformers, vLLM and Ollama look there for the tokens that end an answer.
    """
    from sft_app.data.tokens import stop_ids

    def name_stops(config: dict[str, Any]) -> dict[str, Any]:
        eos = config.get("eos_token_id") or []
        stops = sorted(stop_ids(tokenizer) | set(eos if isinstance(eos, list) else [eos]))
        config["eos_token_id"] = stops if len(stops) > 1 else stops[0]
        config.setdefault("pad_token_id", tokenizer.pad_token_id)
        return config

    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        _edit_json(folder / name, lambda config: {key: config[key] for key in config if key not in LOCAL_KEYS})
    _edit_json(folder / "generation_config.json", name_stops)


def _edit_json(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    config = json.loads(file.read_bytes()) if file.is_file() else {}
    write_json_atomically(file, change(config))


def _clear(scratch: Path) -> None:
    """Remove the folder, although the merge in the main thread may still be writing into it."""
    for _ in range(MAX_TRIES):
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            break


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

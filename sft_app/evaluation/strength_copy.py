"""Copy a run with its adapter at another strength. Imports no torch before something is copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from sft_app.errors import SettingsError
from sft_app.runs.directory import appearing_run
from sft_app.runs.folder import Run
from sft_app.runs.records import RunStatus
from sft_app.runs.strength import StrengthChoice
from sft_app.runtime.files import write_json_atomically

LEAST, MOST = 0.05, 1.5
COPIED = ("data", "metrics.jsonl", "base_scores.jsonl", "evaluations.jsonl", "tests.yaml")
"""What describes the training. Everything that was measured of the adapter stays with the run."""


@contextmanager
def at_strength(run: Run, strength: float | None) -> Iterator[Run]:
    """Yield the run, or with `strength` a copy of it whose adapter has that share of its trained strength.

    The run itself is never changed. If the block, which measures the copy, fails, the copy is deleted.

    Raises:
        SettingsError: the strength is not between `LEAST` and `MOST`, or the run has it already.
        ModelError: the adapter's strength cannot be changed.
        RunError: the copy cannot be written.
    """
    if strength is None:
        yield run
        return
    copy = copy_at_strength(run, strength)
    try:
        yield copy
    except BaseException:
        shutil.rmtree(copy.path, ignore_errors=True)
        raise


def copy_at_strength(run: Run, strength: float) -> Run:
    """Copy a run with its adapter at a share of its trained strength. Raises: as `at_strength`."""
    from sft_app.models.adapter_strength import check_scalable, scale_saved_adapter

    before = run.strength() or StrengthChoice()
    if not LEAST <= strength <= MOST:
        raise SettingsError(f"The strength must be between {LEAST} and {MOST}; 1 is as trained.")
    if strength == before.chosen:
        raise SettingsError(f"The adapter of this run has a strength of {strength:g} already.")
    check_scalable(run.adapter_dir)  # a full fine-tune is gigabytes to copy
    with appearing_run(run.home, "copy") as (draft, copy):
        _copy_files(run, draft)
        scale_saved_adapter(draft.adapter_dir, strength / before.chosen)
        if strength != 1.0 or before.tried:  # else it is as it was trained, and no one has chosen anything
            draft.keep_strength(before.model_copy(update={"chosen": strength, "by_hand": True}))
        _describe(run, draft, before, strength)
    return copy


def _copy_files(run: Run, draft: Run) -> None:
    for source in [run.path / name for name in COPIED] + ([run.adapter_dir] if run.has_adapter() else []):
        if source.is_dir():
            shutil.copytree(source, draft.path / source.name)
        elif source.is_file():
            shutil.copy2(source, draft.path / source.name)


def _describe(run: Run, draft: Run, before: StrengthChoice, strength: float) -> None:
    """Write the settings and the status of the copy."""
    record, status = run.record(), run.status()
    name = record.settings.name or run.id
    if before.by_hand:  # a copy itself, with its own strength in its name
        name = name.removesuffix(_suffix(before.chosen))
    name += _suffix(strength)
    settings = record.settings.model_copy(update={"name": name})
    write_json_atomically(draft.settings_file, record.model_copy(update={"settings": settings}).model_dump())
    told = f"A copy of run {run.id} with its adapter at {strength:g} of the trained strength."
    kept = RunStatus.model_validate({**status.model_dump(), "message": told, "hint": "", "pid": None})
    write_json_atomically(draft.status_file, kept.model_dump())


def _suffix(strength: float) -> str:
    return f" at {strength:g}"

"""Find the sides of a prompt set by their names, beyond the two of a pair. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sft_app.errors import RunError, SettingsError
from sft_app.evaluation.sides.more_sides import PROMPTED, ModelSide, MoreSide, PromptedSide, base_side
from sft_app.evaluation.sides.recorded import is_recorded_file, read_recorded
from sft_app.inference.sides import Side, find_all_sides, run_of_side
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run

DEFAULT_EXAMPLES = 3
USED_COLUMNS = {"number", "prompt", "reference", "change", "problem", "tuned"}


def find_pair_and_more(
    left: str,
    right: str,
    more: Sequence[str],
    home: Path,
    enable_thinking: bool | None = None,
    examples: int = DEFAULT_EXAMPLES,
) -> tuple[tuple[Side, Side], tuple[MoreSide, ...]]:
    """Find the two sides of a pair and further ones; all models share one base and are asked in the same way.

    A further name is anything that a side can be, `prompted` for the base with the `examples` nearest training examples
    of the right run in front of each prompt, or a file of recorded answers.

    Raises:
        SettingsError: a side is named twice.
        RunError: `prompted` is named and the right side is not a run.
        AppError: a side cannot be found or a file cannot be read.
    """
    models = [name for name in more if name != PROMPTED and not is_recorded_file(name)]
    one, other, *rest = find_all_sides((left, right, *models), home, enable_thinking)
    found = dict(zip(models, rest, strict=True))
    sides = tuple(_more_side(name, found, other, home, examples) for name in more)
    _check_names(one, other, sides)
    return (one, other), sides


def _more_side(name: str, models: dict[str, Side], right: Side, home: Path, examples: int) -> MoreSide:
    if name in models:
        return ModelSide(models[name])
    if is_recorded_file(name):
        return read_recorded(Path(name).expanduser())
    run = run_of_side(right.name, list_runs(home))
    return PromptedSide(base_side(right), _train_file(run), examples)


def _train_file(run: Run | None) -> Path:
    if run is None or not run.train_file.is_file():
        raise RunError("`prompted` takes its examples from the training data of a run. Choose a run as the right side.")
    return run.train_file


def _check_names(left: Side, right: Side, more: Sequence[MoreSide]) -> None:
    taken = {left.name, right.name, *USED_COLUMNS}
    for side in more:
        if side.name in taken:
            what = "is already one of the sides" if side.name not in USED_COLUMNS else "is the name of a column"
            raise SettingsError(f"The side {side.name!r} {what}. Name each side once, and rename a file if necessary.")
        taken.add(side.name)

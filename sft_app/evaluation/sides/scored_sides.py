"""Find the sides of a scorecard beyond the base and the run. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sft_app.errors import SettingsError
from sft_app.evaluation.sides.more_sides import PROMPTED, ModelSide, MoreSide
from sft_app.evaluation.sides.side_names import find_pair_and_more
from sft_app.inference.sides import BASE, Side, find_all_sides, find_sides

OTHER_PRECISION = "It was trained on a base model in another precision, and is measured in that of this run."


def find_scored_sides(run_id: str, more: Sequence[str], home: Path) -> tuple[tuple[Side, Side], tuple[MoreSide, ...]]:
    """Find the base and a run, and further sides as `find_pair_and_more` does.

    A further side never changes how the base and the run are measured, such as their precision.

    Raises:
        SettingsError: `prompted` is named, which every scorecard has by itself.
        AppError: as `find_pair_and_more`.
    """
    if PROMPTED in more:
        raise SettingsError(
            "The base with the nearest examples is part of every scorecard already. Leave out `prompted`; "
            "`scorecard_prompted` sets the number of examples."
        )
    pair = find_sides(BASE, run_id, home)
    _, sides = find_pair_and_more(BASE, run_id, more, home)
    return pair, tuple(_measured_as(side, pair[1], home) if isinstance(side, ModelSide) else side for side in sides)


def _measured_as(further: ModelSide, right: Side, home: Path) -> ModelSide:
    """Return a further model in the precision of the right side, with a note if it would change that."""
    together = find_all_sides((BASE, right.name, further.name), home)[1]
    is_same = (together.in_4bit, together.dtype) == (right.in_4bit, right.dtype)
    side = replace(further.side, in_4bit=right.in_4bit, dtype=right.dtype)
    return ModelSide(side, "" if is_same else OTHER_PRECISION)

"""The two sides of a comparison: the available choices, and the run that a side belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.errors import RunError, SettingsError
from sft_app.runs.directory import check_settled
from sft_app.runs.folder import Run
from sft_app.runtime.progress import ProgressCallback
from sft_app.ui.services.access import Access
from sft_app.ui.services.models import ModelService
from sft_app.ui.services.runs import RunService

if TYPE_CHECKING:
    from sft_app.evaluation.sides.more_sides import MoreSide
    from sft_app.inference.sides import Side


@dataclass(frozen=True)
class SideService:
    """A side is the base model, a run, a checkpoint of one, or an adapter on the Hub."""

    home: Path
    access: Access
    models: ModelService
    runs: RunService

    def choices(self) -> list[tuple[str, str]]:
        """Return (label, name) of the base model, then of runs and their checkpoints, newest first."""
        from sft_app.inference.sides import list_sides

        return list_sides(self.runs.visible())

    def default_right(self) -> str:
        """Return the newest run, or the bundled example while there is none."""
        return self.choices()[1][1]

    def find(self, left: str, right: str | None, enable_thinking: bool | None = None) -> tuple[Side, Side]:
        """Return both sides, which think first as the run was trained if `enable_thinking` is None.

        Raises: AppError if one does not exist, or the two have different base models.
        """
        from sft_app.inference.sides import find_sides

        return find_sides(*self._pair_names(left, right), self.home, enable_thinking)

    def find_with_more(
        self, left: str, right: str | None, more: Sequence[str], enable_thinking: bool | None = None
    ) -> tuple[tuple[Side, Side], tuple[MoreSide, ...]]:
        """Return both sides and further ones, such as `prompted`. Raises: AppError as `find`."""
        from sft_app.evaluation.sides.side_names import find_pair_and_more

        names = [self._name_of_more(name) for name in more]
        return find_pair_and_more(*self._pair_names(left, right), names, self.home, enable_thinking)

    def find_run(self, name: str | None) -> Run | None:
        """Return the run of a side that is a run or its checkpoint; None for other sides."""
        from sft_app.inference.sides import run_of_side

        return run_of_side(name or "", self.runs.visible())

    def get_run(self, name: str | None) -> Run:
        """Return the run of a side. Raises: RunError if the side is not a run, or none is chosen."""
        run = self.find_run(name)
        if not name:
            raise RunError("No run is chosen on the right yet. Choose a run on the right, or train one first.")
        if run is None:
            raise RunError("The right side is not a run. Choose a run on the right to compare it with its base model.")
        return run

    def score(
        self,
        name: str | None,
        prompts: int,
        on_progress: ProgressCallback,
        more: Sequence[str] = (),
        strength: float | None = None,
    ) -> Run:
        """Measure the run of this side, and further sides on the same questions, and replace its scorecard.

        With `strength`, a copy of the run with its adapter at that share of its trained strength is made and measured
        instead. Return the run that was measured.

        Raises: AppError.
        """
        from sft_app.evaluation.score_run import keep_score
        from sft_app.evaluation.sides.scored_sides import find_scored_sides
        from sft_app.evaluation.strength_copy import at_strength
        from sft_app.inference.sides import BASE

        run = self.get_run(name)
        check_settled(run, "measure it once it has ended")
        names = [self._name_of_more(name) for name in more]
        names = [name for name in names if name not in (BASE, run.id)]  # both are measured anyway
        if names and not prompts:
            raise SettingsError("Further sides need questions to answer. Set their number above 0.")
        if strength is not None and name != run.id:
            raise SettingsError("Choose the run itself on the right, not one of its checkpoints.")
        with at_strength(run, strength) as measured:
            sides, further = find_scored_sides(measured.id, names, self.home)
            keep_score(measured, self.models.load_pair(sides), prompts, on_progress, more=further)
        return measured

    def _pair_names(self, left: str, right: str | None) -> tuple[str, str]:
        """Complete both names. The right one is None on a page that has not yet been told which run is the newest."""
        return self._full_name(left or ""), self._full_name(self.default_right() if right is None else right)

    def _name_of_more(self, name: str) -> str:
        """Complete the name of a further side. Raises: AppError if the visitor may not use it."""
        from sft_app.evaluation.sides.more_sides import PROMPTED
        from sft_app.evaluation.sides.recorded import is_recorded_file

        if not is_recorded_file(name):
            return name if name == PROMPTED else self._full_name(name)
        self.access.check_recorded(name)
        return name

    def _full_name(self, side: str) -> str:
        """Complete the id of a run. Raises: AppError if the visitor may not see the run."""
        from sft_app.inference.sides import BASE

        name = side.strip() or BASE
        self.access.check_side(name)
        run_id, *step = name.split("/checkpoint-")
        if not self.access.hosting.is_hosted or name == BASE or "/" in run_id:
            return name
        return "/checkpoint-".join([self.runs.get(run_id).id, *step])

"""Measure what changed at the end of a run, with the adapter as it was saved."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from sft_app.errors import AppError
from sft_app.evaluation.score_run import keep_score
from sft_app.evaluation.scorecard import RowScore, correct_for_several, make_scorecard, read_base_scores
from sft_app.evaluation.selection import without_selection
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.models.loading import free_memory
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl
from sft_app.runtime.resources import is_out_of_memory
from sft_app.training.termination import StopRequested, Termination

logger = logging.getLogger(__name__)
# A small model scores many rows per second, and each report waits for the disk.
REPORT_SECONDS = 0.5


def write_heldout_scorecard(run: Run, tuned: Sequence[RowScore]) -> None:
    """Write the scorecard as far as training can compute it. The base's scores are those of the evaluation at step 0,
    where a fresh adapter changes nothing; if they are incomplete, both sides are measured afterwards instead."""
    base = read_base_scores(run)
    if len(base) == len(tuned):
        numbers = [row.get("group", row["row"]) for row in iterate_jsonl(run.heldout_file)]
        groups = np.array(numbers) if len(numbers) == len(tuned) else None
        judged, selection = without_selection(run, tuned, groups)
        changes: dict[str, Any] = {"primary": run.record().settings.primary_measure}
        changes |= {"selection": selection} if selection else {}
        card = make_scorecard(base, tuned, groups=groups, judged=judged).model_copy(update=changes)
        run.keep_scorecard(correct_for_several(card))


def complete_scorecard(run: Run, tuned: Sequence[RowScore], prompts: int, termination: Termination) -> str:
    """Add what requires generated answers, and return why if that fails.

    A run that cannot be measured has still been trained and saved, so nothing is raised. A stop ends the measuring.
    """
    free_memory()
    was_stopped = run.stop_is_requested()

    reported = 0.0

    def report_progress(share: float) -> None:
        nonlocal reported
        if run.stop_is_requested() and not was_stopped:
            raise StopRequested
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            run.update_status(message=f"Measuring what changed: {share:.0%}.")

    home = run.home
    try:
        with nullcontext() if was_stopped else termination.stoppable():
            pair = load_pair(find_sides(BASE, run.id, home), home)
            # All numbers of a scorecard use the same precision, and training may have used another.
            status = run.status()
            used = {status.precision, status.step_precision or status.precision}
            is_same = used == {pair.models.hardware.dtype}
            known = (read_base_scores(run), tuned) if is_same else None
            keep_score(run, pair, prompts, report_progress, known, runs_tests=not was_stopped)
    except StopRequested:
        return "Stopped while measuring: the scorecard only has the held-out loss."
    except AppError as error:
        return f"The scorecard only has the held-out loss: {error}"
    except Exception as error:  # the adapter is saved whatever fails here; the traceback goes to the run's log
        if is_out_of_memory(error):
            return "The scorecard only has the held-out loss: there was not enough memory to generate answers."
        logger.exception("the scorecard could not be completed")
        return "The scorecard only has the held-out loss; the run's log says why."
    return ""

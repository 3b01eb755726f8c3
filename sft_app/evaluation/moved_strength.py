"""Move the strength of a run's adapter by hand. Imports no torch before something is moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sft_app.errors import SettingsError
from sft_app.runs.folder import Run
from sft_app.runs.strength import StrengthChoice

LEAST, MOST = 0.05, 1.5


@contextmanager
def moved_strength(run: Run, strength: float | None) -> Iterator[None]:
    """Keep the adapter at another share of its trained strength, if the block, which measures it, succeeds.

    Meanwhile the run has no scorecard, so that nothing shows numbers of another strength. If the block fails, adapter,
    strength and scorecard are as before. None changes nothing.

    Raises:
        SettingsError: the strength is not between `LEAST` and `MOST`.
        ModelError: the adapter's strength cannot be changed.
    """
    before, card = run.strength(), run.scorecard()
    now = 1.0 if before is None else before.chosen
    if strength is None or strength == now:
        yield
        return
    if not LEAST <= strength <= MOST:
        raise SettingsError(f"The strength must be between {LEAST} and {MOST}; 1 is as trained.")
    from sft_app.models.adapter_strength import scale_saved_adapter

    scale_saved_adapter(run.adapter_dir, strength / now)
    run.scorecard_file.unlink(missing_ok=True)
    run.keep_strength((before or StrengthChoice()).model_copy(update={"chosen": strength, "by_hand": True}))
    try:
        yield
    except BaseException:
        scale_saved_adapter(run.adapter_dir, now / strength)
        run.keep_strength(before) if before else run.strength_file.unlink(missing_ok=True)
        if card is not None:
            run.keep_scorecard(card)
        raise

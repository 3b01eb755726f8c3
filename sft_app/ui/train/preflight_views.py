"""Show what a run will take, as a card on the page and as lines in the terminal. Without Gradio."""

from __future__ import annotations

from pathlib import Path

from sft_app.data.checkup.finding import count_of
from sft_app.data.sources.data_files import SUFFIXES, data_suffix
from sft_app.evaluation.power import rows_sentence
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE
from sft_app.models.apple_gpu import apple_gpu_problem
from sft_app.models.gpu_support import gpu_problem
from sft_app.templating import render_html
from sft_app.training.preflight.fitting import Suggestion
from sft_app.training.preflight.plan import Preflight

PARTS = {
    "process": "Python and libraries",
    "weights": "Weights",
    "trained": "Trained weights, gradients, optimizer",
    "activations": "Activations",
    "loss_head": "Loss head",
    "margin": "Margin",
}
GUESSED = "The row layout is a guess: check the example on the Data tab first."


def preflight_facts(found: Preflight) -> list[tuple[str, str]]:
    """Return (name, value) of each fact that fits on one line."""
    rows = f"{found.steps:,} × {found.rows_per_step:,} {found.row_name}, {found.tokens_per_step:,.0f} tokens each"
    share = found.trainable / found.parameters
    trained = "all" if share == 1 else f"{short_count(found.trainable)} of"
    return [
        ("Memory", f"{found.memory_gib:.1f} of {found.memory_free_gib:.1f} GiB"),
        ("Time", rounded_duration(found.seconds)),
        ("Steps", rows),
        ("Learning", f"{found.passes:.3g} passes over the examples, rate {found.learning_rate:.2g}"),
        *([("Replay", replay_sentence(found))] if found.replayed or found.why_not_replayed else []),
        *([("At once", step_on_gpu(found))] if found.device == "cuda" else []),
        ("Trained", f"{trained} {short_count(found.parameters)} weights" + (f" ({share:.1%})" if share < 1 else "")),
        *([("Experts", found.experts)] if found.experts else []),
        ("Max length", f"{found.max_length:,} tokens"),
        ("Disk", f"{found.disk_needed_gib:.1f} of {found.disk_free_gib:,.0f} GiB"),
    ]


def replay_sentence(found: Preflight) -> str:
    """Say how many general conversations are mixed in, or why there are none."""
    if found.why_not_replayed:
        return f"none, because {found.why_not_replayed}"
    mixed = count_of(found.replayed, "general conversation")
    return f"{mixed} next to your {found.conversations:,}"


def step_on_gpu(found: Preflight) -> str:
    """Describe how a GPU computes a step: how many rows at once, and which activations it recomputes."""
    rows = found.row_name if found.batch > 1 else found.row_name.replace("conversations", "conversation")
    every = {0: "no layer", 1: "every layer", 2: "every second layer", 3: "every third layer"}
    recomputed = every.get(found.checkpoint_every, f"every {found.checkpoint_every}th layer")
    return f"{found.batch} {rows}, activations recomputed in {recomputed}"


def preflight_card(found: Preflight, suggestion: Suggestion | None, is_guess: bool = False) -> str:
    """Show the numbers, the memory by part, and what to do if the run does not fit.

    `is_guess`: the layout of the data is a guess too.
    """
    return render_html(
        "train/preflight.html",
        is_problem=not (found.fits_memory and found.fits_disk),
        how="measured" if found.measured else "estimated",
        data=" ".join([data_sentence(found), *([GUESSED] if is_guess else [])]),
        heldout=heldout_sentence(found, "Press Measure"),
        facts=preflight_facts(found),
        parts=_memory_segments(found),
        notes=preflight_notes(found, suggestion),
    )


def data_sentence(found: Preflight) -> str:
    """Return a sentence on the training data. Near duplicates stay together, so the held-out count is approximate."""
    data, total = Path(found.data), found.conversations + found.heldout
    name = data.name if data_suffix(data) in SUFFIXES else found.data
    heldout = f"about {found.heldout:,} of them held out for evaluation" if found.heldout else "none of them held out"
    return f"Training on {name}: {total:,} conversations, {heldout}."


def heldout_sentence(found: Preflight, how: str = "") -> str:
    """Say which changes the held-out rows can show; `how` says how to measure those of the loss."""
    if found.judging is None:
        return "Your held-out file judges the result. Its conversations are counted when the run starts."
    spread = found.measured.loss_spread if found.measured else None
    choosing = found.heldout - found.judging
    divided = f"Of the held-out ones, {choosing:,} choose which weights are kept, and the others judge the result."
    measuring = f"{how} to see how small a change in the loss can show." if how and spread is None else ""
    enough = found.judging >= FEWEST_TO_JUDGE
    once = "Copies and related conversations count once." if found.judging > 1 else ""
    parts = [divided if choosing else "", rows_sentence(found.judging, spread), measuring if enough else "", once]
    return " ".join(filter(None, parts))


def preflight_notes(found: Preflight, suggestion: Suggestion | None) -> list[str]:
    """Return the reasons why the run cannot start, or not on the GPU, and what to change; none if all is well."""
    notes = []
    if found.fits_memory and suggestion:
        notes.append(suggestion.sentence)
    if not found.fits_memory:
        lacking = found.memory_gib - found.memory_free_gib
        tried = "The run does not fit: the dry run ran out of memory."
        needed = f"The run does not fit: it needs {lacking:.1f} GiB more memory."
        notes.append(tried if found.ran_out_of_memory else needed)
        notes.append(suggestion.sentence if suggestion else "No change to the settings makes it fit on this machine.")
    if not found.fits_disk:
        notes.append(
            f"The disk is too full: the run needs {found.disk_needed_gib - found.disk_free_gib:.1f} GiB more space."
        )
    if problem := gpu_problem() or apple_gpu_problem():
        notes.append(f"The run uses the processor. {problem}" if found.device == "cpu" else problem)
    return notes


def memory_parts(found: Preflight) -> list[tuple[str, float]]:
    """Return (name, GiB) of each part of the estimate above zero."""
    parts = [(label, getattr(found.memory, name)) for name, label in PARTS.items()]
    return [(label, gib) for label, gib in parts if gib > 0]


def short_count(number: int) -> str:
    """Shorten a number to `4.9 million` or `8.0 billion`."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,}"


def rounded_duration(seconds: float) -> str:
    """Round a time as an estimate: `under a minute`, `about 4 minutes`, `about 2.5 hours`."""
    minutes = seconds / 60
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        rounded = round(minutes) if minutes < 10 else 5 * round(minutes / 5)
        return f"about {rounded} minute{'s' if rounded > 1 else ''}"
    hours = minutes / 60
    if hours < 48:
        return f"about {hours:.1f} hours".replace(".0 ", " ")
    return f"about {hours / 24:.0f} days"


def _memory_segments(found: Preflight) -> list[tuple[str, str, float, str]]:
    """Return (class, name, percent, GiB in words) of each part of the memory bar.

    The full bar is the free memory, or the memory needed if larger. A measured run has only a peak and a margin.
    """
    whole = max(found.memory_free_gib, found.memory_gib)
    parts = memory_parts(found)
    if found.measured is not None:
        parts = [("Measured peak", found.measured.peak_gib), ("Margin", found.memory.margin)]
    return [
        (f"ft-part-{index}" if label != "Margin" else "ft-margin", label, 100 * gib / whole, _gib(gib))
        for index, (label, gib) in enumerate(parts)
    ]


def _gib(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{1024 * gib:.0f} MiB"

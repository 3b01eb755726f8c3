"""What a run will take, in words: the card on the page and the lines of the terminal. No Gradio here."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sft_app.data.sources.data_files import SUFFIXES, data_suffix
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
    """(name, value) of everything in one line each."""
    rows = f"{found.steps:,} of {found.rows_per_step:,} {found.row_name}, {found.tokens_per_step:,.0f} tokens"
    share = found.trainable / found.parameters
    trained = "all" if share == 1 else f"{count(found.trainable)} of"
    return [
        ("Memory", f"{found.memory_gib:.1f} of {found.memory_free_gib:.1f} GiB"),
        ("Time", duration(found.seconds)),
        ("Steps", rows),
        ("Trained", f"{trained} {count(found.parameters)} weights" + (f" ({share:.1%})" if share < 1 else "")),
        ("Max length", f"{found.max_length:,} tokens"),
        ("Disk", f"{found.disk_needed_gib:.1f} of {found.disk_free_gib:,.0f} GiB"),
    ]


def preflight_card(found: Preflight, suggestion: Suggestion | None, is_guess: bool = False) -> str:
    """Numbers, memory by part, and where it does not fit what to do. `is_guess`: so is how the data is read."""
    how = "measured" if found.measured else "estimated"
    facts = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in preflight_facts(found))
    notes = "".join(f"<p>{escape(note)}</p>" for note in preflight_notes(found, suggestion))
    data = " ".join([data_sentence(found), *([GUESSED] if is_guess else [])])
    kind = "" if found.fits_memory and found.fits_disk else " ft-problem"
    return (
        f'<section class="ft-card ft-preflight{kind}"><header><strong>Before you start</strong><span>{how}</span>'
        f"</header><p>{escape(data)}</p><dl>{facts}</dl>{_memory_bar(found)}{notes}</section>"
    )


def data_sentence(found: Preflight) -> str:
    """What will be trained on. Near copies are held out together, so the split can differ by a few from its size."""
    data, total = Path(found.data), found.conversations + found.heldout
    name = data.name if data_suffix(data) in SUFFIXES else found.data
    return f"Training on {name}: {total:,} conversations, about {found.heldout:,} of them held out for evaluation."


def preflight_notes(found: Preflight, suggestion: Suggestion | None) -> list[str]:
    """What stands in the way, as sentences; none when nothing does."""
    notes = []
    if not found.fits_memory:
        lacking = found.memory_gib - found.memory_free_gib
        notes.append(f"The run does not fit: it needs {lacking:.1f} GiB more memory.")
        notes.append(suggestion.sentence if suggestion else "No change to the settings makes it fit on this machine.")
    if not found.fits_disk:
        notes.append(
            f"The disk is too full: the run needs {found.disk_needed_gib - found.disk_free_gib:.1f} GiB more space."
        )
    return notes


def memory_parts(found: Preflight) -> list[tuple[str, float]]:
    """(name, GiB) of the parts of the estimate that are not nothing."""
    parts = [(label, getattr(found.memory, name)) for name, label in PARTS.items()]
    return [(label, gib) for label, gib in parts if gib > 0]


def count(number: int) -> str:
    """`4.9 million`, `8.0 billion`."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Rounded as a guess is: `under a minute`, `about 4 minutes`, `about 2.5 hours`."""
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


def _memory_bar(found: Preflight) -> str:
    """Each part as long as its share of what is free, or of the need where that is more; where it is measured, only
    that."""
    whole = max(found.memory_free_gib, found.memory_gib)
    if found.measured is not None:
        parts = list(enumerate([("Measured peak", found.measured.peak_gib), ("Margin", found.memory.margin)]))
    else:
        parts = list(enumerate(memory_parts(found)))
    drawn = [(f"ft-part-{place}" if label != "Margin" else "ft-margin", label, gib) for place, (label, gib) in parts]
    bar = "".join(f'<i class="{name}" style="width:{100 * gib / whole:.2f}%"></i>' for name, _, gib in drawn)
    legend = "".join(f'<li><i class="{name}"></i>{label} <b>{_gib(gib)}</b></li>' for name, label, gib in drawn)
    picture = f'<div class="ft-memory" role="img" aria-label="Memory by part">{bar}</div>'
    return f'{picture}<ul class="ft-legend">{legend}</ul>'


def _gib(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{1024 * gib:.0f} MiB"

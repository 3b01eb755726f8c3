"""Print what a scorecard says besides base and fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from sft_app.runs.scorecard import Scorecard

SHOWN_REPEATED = 3


def print_beside_training(card: Scorecard, console: Console) -> None:
    """Print whether a prompt does as well, and how much of the answers repeats training answers."""
    from sft_app.evaluation.beside.beside_training import beside_training

    found = beside_training(card)
    if (prompted := found.prompted) and prompted.lines:
        columns = ("", "base", "base with prompt", "fine-tuned", "difference from the prompt (95% interval)", "")
        table = Table(*columns, title="Prompt or fine-tune?", title_justify="left")
        table.columns[0].no_wrap = True
        for one in prompted.lines:
            line = one.line
            interval = f" ({line.interval})" if line.interval else ""
            change = f"{line.difference}{interval}"
            table.add_row(line.label, one.plain, line.base, line.tuned, change, line.verdict)
        console.print(table)
    for side in found.sides:
        heads = ("", side.label, "fine-tuned", "difference (95% interval)", "")
        table = Table(*heads, title=side.label, title_justify="left")
        for line in side.lines:
            interval = f" ({line.interval})" if line.interval else ""
            table.add_row(line.label, line.base, line.tuned, f"{line.difference}{interval}", line.verdict)
        if side.lines:
            console.print(table)
        if side.note:
            console.print(side.note, style="yellow")
    if found.memorised:
        for repeated in found.memorised.worst[:SHOWN_REPEATED]:
            title = f"{repeated.share:.0%} repeated from training row {repeated.training_row}: {repeated.question}"
            table = Table("fine-tuned answer", "training answer", title=title, title_justify="left", expand=True)
            table.add_row(repeated.answer, repeated.training_answer)
            console.print(table)
    for sentence in found.sentences():
        console.print(sentence)

"""Show the recipe bench's results as a table."""

from __future__ import annotations

from statistics import mean
from typing import Any


def show(cells: list[dict[str, Any]]) -> None:
    """Print a table for each data set, the mean over the seeds in each cell."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for data in dict.fromkeys(cell["data"] for cell in cells):
        table = Table(
            "arm", "seeds", "steps", "minutes", "held-out loss", "change", "general", "lost of known", title=data
        )
        for arm in dict.fromkeys(cell["arm"] for cell in cells if cell["data"] == data):
            table.add_row(*row([cell for cell in cells if (cell["data"], cell["arm"]) == (data, arm)]))
        console.print(table)


def row(cells: list[dict[str, Any]]) -> list[str]:
    """Return the table's row for the cells of one arm, one per seed."""
    losses = [cell["loss"]["tuned"] for cell in cells]
    spread = f" ({min(losses):.2f} to {max(losses):.2f})" if len(losses) > 1 else ""
    known = [cell["known"] for cell in cells if cell["known"]]
    general = [cell["general"]["change"] for cell in cells if cell["general"]]
    return [
        cells[0]["arm"],
        str(len(cells)),
        f"{mean(cell['steps'] for cell in cells):.0f}",
        f"{mean(cell['training_seconds'] for cell in cells) / 60:.1f}",
        f"{mean(losses):.3f}{spread}",
        f"{mean(cell['loss']['change'] for cell in cells):+.3f}",
        f"{mean(general):+.3f}" if general else "",
        f"{sum(k['lost'] for k in known)} of {sum(k['known'] for k in known)}" if known else "",
    ]

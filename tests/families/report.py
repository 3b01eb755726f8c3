"""Try every family and write `docs/MODELS.md`."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TRANSFORMERS_VERBOSITY="error")

from tests.families.prove import Finding, prove
from tests.families.table import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "MODELS.md"
HEADER = """# Models

What this app makes of each family of models, found by `make models`: a tiny random model of the family goes through
training, comparing and exporting, and every result is checked against plain PyTorch, PEFT and transformers. Each row
was measured, none was typed. Sizes, speed and GPUs are not part of it.

- **trained**: what an adapter changes by default. Routers of mixtures are never trained.
- **step**: packed means conversations end to end without padding; padded and one by one are slower, with equal results.
- **answers**: both sides in one batch, or one after the other where a batch would change them.
- **4-bit**: QLoRA works.
"""


def main(families: list[str]) -> int:
    """Try these families, or all, and put their rows into the page; 1 if one has a problem, else 0."""
    findings = list(try_all(families or list(FAMILIES)))
    PAGE.write_text(as_page(findings))
    return int(any(finding.problems for finding in findings))


def try_all(families: Iterable[str]) -> Iterable[Finding]:
    """Each family in a process of its own, since a model that was not made for something may fail in any way."""
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=8) as pool:
        for finding in pool.imap(try_one, families):
            told = (finding.family, "refused" if finding.refused else "ok", *finding.problems)
            sys.stdout.write(" · ".join(told) + "\n")
            sys.stdout.flush()
            yield finding


def try_one(family: str) -> Finding:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SFT_APP_HOME"] = folder
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # what training says of itself
            return prove(family, Path(folder))


def as_page(findings: Iterable[Finding]) -> str:
    """The page with these rows, and those of the other families as they were."""
    before = PAGE.read_text() if PAGE.exists() else ""
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines()}
    rows |= {finding.family: as_row(finding) for finding in findings}
    head = ["| family | trained | step | answers | 4-bit | notes |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([HEADER, *head, *(rows[family] for family in FAMILIES if family in rows)]) + "\n"


def as_row(found: Finding) -> str:
    notes = " ".join(filter(None, [found.refused, found.notice, *found.problems]))
    cells = (found.family, found.trained, found.layout, found.answers, found.in_4bit, notes)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

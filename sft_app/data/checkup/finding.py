"""Define a finding: one problem in a dataset, how serious it is, and the rows that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["serious", "check", "note"]
"""In order: probably wrong, such as the wrong column learned; worth a look; good to know."""
SEVERITIES: tuple[Severity, ...] = ("serious", "check", "note")
RowsAt = Callable[[Iterable[int]], list[int]]
"""Returns the row numbers of the conversations at these indexes."""


@dataclass(frozen=True)
class Finding:
    """One problem in a dataset.

    `rows` are numbered from 1, as in the file. `fix` is a key of `fixes.LABELS`, or "" if there is no fix.
    """

    kind: str
    rows: list[int]
    message: str
    fix: str = ""
    severity: Severity = "check"


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: the most serious first, and of these the ones with a fix first."""
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), not finding.fix))


def rows_are(rows: int, one: str = "was", several: str = "were") -> str:
    """Return a phrase such as "1 row was" or "1,200 rows were"."""
    return f"{count_of(rows, 'row')} {one if rows == 1 else several}"


def count_of(number: int, noun: str) -> str:
    """Return a phrase such as "1 row" or "1,200 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

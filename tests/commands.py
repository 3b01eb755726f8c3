"""How a command of the command line ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Ended:
    """What the process would leave behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Strictly: one document, no NaN."""

        def refuse(name: str) -> None:
            raise ValueError(f"{name} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


def assert_one_clear_line(ended: Ended, *parts: str) -> None:
    """Exit status 1, one line on stderr, no traceback, nothing on stdout."""
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1 and ended.err.endswith("\n")
    for part in parts:
        assert part in ended.err

"""Other processes: waiting for what they do, for a condition and never for a time; and which they are."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.warm.forked import ADDRESS


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)
    return value


def supervisors() -> list[psutil.Process]:
    """Those that this test process has started and that still run."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "sft_app.training.supervisor" in child.cmdline()
    ]


def started_by(parent: int, module: str) -> list[psutil.Process]:
    """The running processes of this module that a process has started, itself or through the template."""
    found = []
    for process in (*_children(parent, module), *_forked(parent, module)):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _children(parent: int, module: str) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(parent).children():
            with suppress(psutil.NoSuchProcess):
                if module in child.cmdline():
                    yield child


def _forked(parent: int, module: str) -> Iterator[psutil.Process]:
    """Those of the template are nobody's children but its own, and show its command; it writes down what they are."""
    address = Path(os.environ.get(ADDRESS, "/nowhere"))
    for file in address.parent.glob(f"{address.name}.*"):
        told, pid = json.loads(file.read_bytes()), int(file.suffix[1:])
        with suppress(psutil.NoSuchProcess):
            if (told["parent"], told["module"]) == (parent, module) and psutil.Process(pid).ppid() == told["template"]:
                yield psutil.Process(pid)

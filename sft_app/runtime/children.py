"""Child processes: how they start, are watched, report how they ended, and end when their parent does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sft_app.runtime.environment import PROJECT_DIR

CHILD_POLL_SECONDS = 0.2
Child = subprocess.Popen[bytes]


def start_python(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
    is_detached: bool = False,
) -> Child:
    """Start this Python with these arguments in the project's folder; its output is appended to `log`.

    Output goes to a file and not to a pipe, so that no one has to read it for the child to go on. The child has the
    file descriptors in `inherited`. A detached one is not ended with the terminal that its parent runs in.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=tuple(inherited),
            start_new_session=is_detached,
        )


@contextmanager
def running_python(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """A child started as by `start_python`; one that is still running at the end of the block is killed."""
    child = start_python(arguments, log, environment)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def run_python(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run this Python with these arguments to its end and keeps what it prints."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def until_ended(child: Child) -> Iterator[None]:
    """Yield several times a second until the child has ended."""
    while child.poll() is None:
        yield
        time.sleep(CHILD_POLL_SECONDS)


def wait_for(child: Child, seconds: float) -> int | None:
    """The child's exit status; None if it is still running after `seconds`."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def describe_exit(process: str, status: int) -> str:
    """How a process ended, as a sentence; `process` is its subject, such as "The training process"."""
    if status == -signal.SIGKILL:
        return f"{process} was killed (signal 9), by someone or because the machine's memory ran out."
    if status < 0:
        return f"{process} was ended by signal {-status} ({signal.Signals(-status).name})."
    return f"{process} exited with status {status}."


def end_with_parent(parent: int, clean_up: Callable[[], None] = lambda: None) -> None:
    """End this process, after `clean_up`, once the process `parent` is no longer its parent.

    A parent that was killed cannot end its children. A thread in the background watches for it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHILD_POLL_SECONDS)
        clean_up()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

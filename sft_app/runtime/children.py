"""Start child processes, watch them, describe how they ended, and end them when their parent ends."""

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

import psutil

from sft_app.runtime.environment import JUDGE_KEY_VARIABLE, PROJECT_DIR
from sft_app.runtime.operating_system import IS_WINDOWS, KILL_SIGNAL, child_options
from sft_app.runtime.processes import process_is_alive, process_started

CHILD_POLL_SECONDS = 0.2
Child = subprocess.Popen[bytes]


def start_python(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
    is_detached: bool = False,
) -> Child:
    """Start this Python with these arguments in the project's folder, and append its output to `log`.

    Output goes to a file instead of a pipe, because a child blocks when no one reads its pipe. The child inherits the
    file descriptors in `inherited`, except on Windows. A detached child survives the terminal its parent runs in.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT_DIR,
            env=_without_judge_key(os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **child_options(inherited, is_detached),
        )


def ask_program(command: Sequence[str], seconds: float, folder: Path | None = None) -> tuple[int, str] | None:
    """Run a program to its end, in `folder` or the current one.

    Returns its exit status and everything it wrote; None if it cannot run or takes longer.
    """
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=_without_judge_key(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.returncode, ended.stdout


def ask_python(arguments: Sequence[str], seconds: float) -> tuple[int, str] | None:
    """Run this Python with these arguments in the project's folder, and answer as `ask_program` does."""
    return ask_program([sys.executable, *arguments], seconds, PROJECT_DIR)


@contextmanager
def running_python(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Start a child as `start_python` does, and kill it at the end of the block if it is still running."""
    child = start_python(arguments, log, environment)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def run_python(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run this Python with these arguments to the end and capture what it prints."""
    environment = _without_judge_key(os.environ)
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def _without_judge_key(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child: only this process asks a judge."""
    return {name: value for name, value in environment.items() if name != JUDGE_KEY_VARIABLE}


def until_ended(child: Child) -> Iterator[None]:
    """Yield several times per second until the child has ended."""
    while child.poll() is None:
        yield
        time.sleep(CHILD_POLL_SECONDS)


def wait_for(child: Child, seconds: float) -> int | None:
    """Return the child's exit status; None if it is still running after `seconds`."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def describe_exit(process: str, status: int) -> str:
    """Describe in a sentence how a process ended; `process` is the subject, such as "The training process"."""
    if status == -KILL_SIGNAL:
        return f"{process} was killed (signal 9), by a user or because the machine ran out of memory."
    if status < 0:
        return f"{process} was ended by signal {-status} ({signal.Signals(-status).name})."
    return f"{process} exited with status {status}."


def end_with_parent(parent: int, clean_up: Callable[[], None] = lambda: None) -> None:
    """End this process, after `clean_up`, once the process `parent` is no longer its parent.

    A killed parent cannot end its children, so a background thread watches for that.
    """
    started = process_started(parent) if IS_WINDOWS and psutil.pid_exists(parent) else None

    def has_parent() -> bool:  # Windows keeps the pid of a parent that has ended
        return os.getppid() == parent and (not IS_WINDOWS or process_is_alive(parent, started))

    def watch() -> None:
        while has_parent():
            time.sleep(CHILD_POLL_SECONDS)
        clean_up()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

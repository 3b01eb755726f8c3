"""`subprocess.Popen` that lets the template fork where it can."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

ADDRESS = "SFT_TEST_TEMPLATE"
TEMPLATE_ENVIRONMENT = "SFT_TEST_TEMPLATE_ENVIRONMENT"
STARTING_SECONDS = 90.0
# Beginnings of the variables that libraries read when they are imported.
READ_AT_IMPORT = ("GRADIO", "HF_", "HUGGING", "MKL", "OMP", "OPENBLAS", "PYTHONPATH", "TRANSFORMERS")
READ_WHEN_NEEDED = ("HF_TOKEN",)
FORKED_MODULES = (
    "sft_app",
    "sft_app.training.worker",
    "sft_app.training.distributed",
    "sft_app.training.preflight.dry_run",
    "sft_app.export.merge_worker",
    "bench.compare",
    "bench.data",
    "bench.gpu",
    "bench.page",
    "bench.train",
    "tests.training.launching_stand_in",
)
# Those of `subprocess.Popen` that the template can follow.
OPTIONS = {"cwd", "env", "stdin", "stdout", "stderr", "pass_fds", "start_new_session", "text"}
Plain = subprocess.Popen


def importing(environment: Any) -> dict[str, str]:
    """What of an environment makes a difference to a process that has imported everything already."""
    names = [name for name in sorted(environment) if name.startswith(READ_AT_IMPORT) and name not in READ_WHEN_NEEDED]
    return {**{name: environment[name] for name in names}, "executable": sys.executable}


def can_fork(command: Any, environment: Any) -> bool:
    """Whether the template's process would be the same: one of the app's, with the variables the template had."""
    if not isinstance(command, list | tuple) or command[0] != sys.executable or ADDRESS not in os.environ:
        return False
    if not (command[1:] == ["app.py"] or _module_of(command) in FORKED_MODULES):
        return False
    told = json.loads(os.environ[TEMPLATE_ENVIRONMENT])
    return importing(os.environ if environment is None else environment) == told


def _module_of(command: Any) -> str | None:
    options = [word for word in command[1:3] if word in ("-u", "-m")]
    return command[len(options) + 1] if "-m" in options and len(command) > len(options) + 1 else None


class Forked(Plain):  # type: ignore[type-arg]
    """A process of the template's. It is not a child of this process, but can be waited for and killed like one."""

    _connection: socket.socket | None = None

    def __init__(self, args: Any, *positional: Any, **options: Any) -> None:
        if positional or options.keys() - OPTIONS or not can_fork(args, options.get("env")):
            super().__init__(args, *positional, **options)
            return
        self.args, self.returncode, self._communication_started, self._input = args, None, False, None
        self.text_mode, self.encoding, self.errors, self.pipesize = bool(options.get("text")), None, None, -1
        self.stdin = self.stdout = self.stderr = None
        self._connection = self._ask(list(map(str, args)), **options)
        self._child_created = False  # there is nothing of it for this process to reap

    def _ask(
        self,
        command: list[str],
        cwd: Any = None,
        env: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        pass_fds: Any = (),
        start_new_session: bool = False,
        text: bool = False,
    ) -> socket.socket:
        null = os.open(os.devnull, os.O_RDWR)
        out, self.stdout = _end_of(stdout, 1, null, text)
        err, self.stderr = (out, None) if stderr == subprocess.STDOUT else _end_of(stderr, 2, null, text)
        given = 0 if stdin is None else null if stdin == subprocess.DEVNULL else stdin.fileno()
        descriptors = [given, out, err]
        module = _module_of(command)
        arguments = command[command.index(module or "app.py") :]
        request = {
            "module": arguments[0],
            "is_module": module is not None,
            "arguments": arguments,
            "cwd": os.fspath(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
            "new_session": start_new_session,
            "parent": os.getpid(),
            "numbers": [0, 1, 2, *pass_fds],
        }
        connection = _connected(os.environ[ADDRESS])
        sent = array.array("i", [*descriptors, *pass_fds])
        connection.sendmsg([json.dumps(request).encode() + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
        self.pid = int(_line(connection))
        for own in {null, *([out] if self.stdout else []), *([err] if self.stderr else [])}:
            os.close(own)
        return connection

    def poll(self) -> int | None:
        if self._connection is None:
            return super().poll()
        if self.returncode is None:
            self._connection.setblocking(False)
            with suppress(BlockingIOError):
                self._take(self._connection.recv(64))
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self._connection is None:
            return super().wait(timeout)
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self._take(self._connection.recv(64))
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
        assert self.returncode is not None
        return self.returncode

    def _take(self, told: bytes) -> None:
        assert self._connection is not None
        self.returncode = int(told) if told else -signal.SIGKILL  # the template itself was ended
        self._connection.close()

    def send_signal(self, number: int) -> None:
        if self._connection is None:
            super().send_signal(number)
        elif self.poll() is None:
            os.kill(self.pid, number)

    def __del__(self, *_: Any, **__: Any) -> None:
        if self._connection is None:
            super().__del__()


def _end_of(given: Any, usual: int, null: int, text: bool) -> tuple[int, Any]:
    """The descriptor for the process to write to, and the file to read it from where that is a pipe."""
    if given == subprocess.PIPE:
        reading, writing = os.pipe()
        return writing, os.fdopen(reading, "r" if text else "rb")
    if given is None:
        return usual, None
    if given == subprocess.DEVNULL:
        return null, None
    return (given if isinstance(given, int) else int(given.fileno())), None


def _connected(address: str) -> socket.socket:
    """The template may still be importing."""
    connection, until = socket.socket(socket.AF_UNIX), time.monotonic() + STARTING_SECONDS
    while True:
        try:
            connection.connect(address)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _line(connection: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        if not (more := connection.recv(1)):
            raise ChildProcessError("the template has ended")
        text += more
    return text


def use_template() -> None:
    """From here on this process starts others from the template, where it can."""
    subprocess.Popen = Forked  # type: ignore[misc]

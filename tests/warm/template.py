"""The template: imports what workers and pages need, and forks one process for each request.

Run as `python -m tests.warm.template SOCKET`. It ends with the process that started it. A request is one JSON line with
up to `MOST_DESCRIPTORS` descriptors; the answer is a line with the pid, and later one with the exit status.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

MODULES = (
    "sft_app.cli",
    "sft_app.training.worker",
    "sft_app.training.distributed",
    "sft_app.training.preflight.dry_run",
    "sft_app.export.merge_worker",
    "sft_app.ui.page",
    "sft_app.inference.stream",
    "sft_app.evaluation.score_run",
    # what they import only when they need it
    "sft_app.training.trainers.sft",
    "sft_app.training.trainers.classic",
    "rouge_score.rouge_scorer",
    "sacrebleu",
    "transformers.models.llama.modeling_llama",
)
MOST_DESCRIPTORS = 64


def main(address: str) -> None:
    if os.fork():
        return  # some tests end all children that they find they have; this is none of theirs
    import_all()
    assert threading.active_count() == 1, f"only a process with one thread may fork: {threading.enumerate()}"
    gc.collect()
    gc.freeze()  # so that the collector does not write to pages that all processes share
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    clients: dict[int, socket.socket] = {}
    parent = sys.stdin.fileno()
    while True:
        readable, _, _ = select.select([listener, wake, parent], [], [])
        if parent in readable:  # its end was closed with the process that had it
            return
        if wake in readable:
            os.read(wake, 4096)
            tell_endings(clients)
        if listener in readable:
            client, _ = listener.accept()
            if (pid := fork_for(client, [listener], address)) is not None:
                clients[pid] = client


def import_all() -> None:
    """Also builds the table that transformers makes when it loads its first model: a second for a thousand patterns."""
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")


def tell_endings(clients: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        client = clients.pop(pid)
        with suppress(OSError):  # the process that asked has exited
            client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        client.close()


def fork_for(client: socket.socket, inherited: list[socket.socket], address: str) -> int | None:
    """The pid of the new process; it never returns from here.

    A file beside the address tells who has asked for it and its module, which the system does not: see `started_by`.
    """
    request, descriptors = receive(client)
    if request is None:
        client.close()
        return None
    pid = os.fork()
    if pid == 0:
        for other in [client, *inherited]:
            other.close()
        os._exit(run(request, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    told = {"template": os.getpid(), "parent": request["parent"], "module": request["module"]}
    whole = Path(f"{address}-{pid}")
    whole.write_text(json.dumps(told))
    whole.rename(f"{address}.{pid}")
    with suppress(OSError):  # who asked has been killed meanwhile; the process goes on, as its child would
        client.sendall(f"{pid}\n".encode())
    return pid


def receive(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    size = array.array("i").itemsize
    text, ancillary, _, _ = client.recvmsg(2**20, socket.CMSG_SPACE(MOST_DESCRIPTORS * size))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % size])
    while text and not text.endswith(b"\n"):
        text += client.recv(2**20)
    return (json.loads(text) if text else None), list(descriptors)


def run(request: dict[str, Any], descriptors: list[int]) -> int:
    """The exit status of the module, in a process that is as a new one would be."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    if request["new_session"]:
        os.setsid()
    place(descriptors, request["numbers"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, buffering=1, closefd=False) for n, mode in enumerate("rww"))
    importlib.import_module("numpy").random.seed()  # or all would draw the same numbers
    sys.argv = request["arguments"]
    os.getppid = partial(parent_pid, request["parent"])
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", module="runpy")
    try:
        if request["is_module"]:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, request["cwd"])
            runpy.run_path(request["module"], run_name="__main__")
        code: Any = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined] # waits for the other threads, as a process that ends does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return int(code or 0) & 0xFF


def parent_pid(asked_by: int) -> int:
    """That of the process that asked for this one; 1 once it has ended, as the system says it."""
    try:
        state = Path(f"/proc/{asked_by}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return 1
    return 1 if state in "ZX" else asked_by


def place(descriptors: list[int], numbers: list[int]) -> None:
    """Each descriptor under the number that it had for the process that asked; all others are closed."""
    safe = [os.dup2(descriptor, 500 + index, inheritable=False) for index, descriptor in enumerate(descriptors)]
    os.closerange(0, 500)
    for descriptor, number in zip(safe, numbers, strict=True):
        os.dup2(descriptor, number, inheritable=True)
        os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1])

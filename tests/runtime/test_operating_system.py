"""What is decided for other operating systems. None of them is needed: each decision is asked for by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from sft_app.runtime import children, files, locks, operating_system, resources
from sft_app.runtime.children import describe_exit, end_with_parent
from sft_app.runtime.locks import inherited_lock, is_locked, take_lock
from sft_app.runtime.operating_system import child_options, flush_flags, wake_thread, while_open_elsewhere
from tests.conftest import PROJECT
from tests.waiting import wait_until

# Imports every module of the app twice. The second time, what Windows does not have is gone: the libraries are in
# memory already, so only the app's own modules could miss it.
WITHOUT_UNIX = """
import importlib, os, pkgutil, signal, sys, types
import sft_app

names = [module.name for module in pkgutil.walk_packages(sft_app.__path__, "sft_app.")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "sft_app"]:
    del sys.modules[name]
for name in ("fcntl", "resource", "grp", "pwd", "termios", "tty", "pty", "syslog", "readline"):
    sys.modules[name] = None
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
for name in ("SIGKILL", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGCHLD", "SIGALRM", "pthread_kill", "pause", "sigwait"):
    delattr(signal, name)
signal.SIGBREAK = signal.SIGTERM
for name in ("fork", "geteuid", "getuid", "killpg", "setsid", "getpgid", "sched_getaffinity", "register_at_fork"):
    delattr(os, name)
os.name = "nt"
from sft_app.runtime import operating_system
os.name = "posix"  # pathlib would make paths of Windows
assert operating_system.IS_WINDOWS
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_app_imports_without_what_only_unix_has() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_UNIX], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 200


def test_windows_detaches_a_child_with_its_own_flags_and_passes_nothing_on() -> None:
    assert child_options([7], is_detached=True, is_windows=True) == {"creationflags": 0x208}
    assert child_options([7], is_detached=False, is_windows=True) == {"creationflags": 0}
    assert child_options([7], is_detached=True, is_windows=False) == {"pass_fds": (7,), "start_new_session": True}


def test_windows_flushes_files_open_for_writing_and_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flush_flags(is_folder=True, is_windows=True) is None
    assert flush_flags(is_folder=False, is_windows=True) == os.O_RDWR
    assert flush_flags(is_folder=True, is_windows=False) == os.O_RDONLY
    opened: list[Path] = []
    monkeypatch.setattr(files, "flush_flags", lambda is_folder: flush_flags(is_folder, is_windows=True))
    monkeypatch.setattr(files.os, "fsync", opened.append)
    (tmp_path / "file").touch()
    files.put_on_disk(tmp_path, tmp_path / "file", tmp_path / "missing")
    assert len(opened) == 1


def test_file_that_another_process_has_open_for_a_moment_is_tried_again() -> None:
    tries: list[int] = []

    def refused_twice() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError
        return "done"

    assert while_open_elsewhere(refused_twice, is_windows=True) == "done"
    tries.clear()
    with pytest.raises(PermissionError):
        while_open_elsewhere(refused_twice, is_windows=False)


def test_file_that_stays_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError("open elsewhere")

    monkeypatch.setattr(operating_system, "RETRY_SECONDS", 0.0)
    with pytest.raises(PermissionError, match="open elsewhere"):
        while_open_elsewhere(refuse, is_windows=True)


@pytest.mark.parametrize("has_threads", [True, False])
def test_main_thread_is_woken_with_and_without_signals_to_threads(
    has_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    if not has_threads:
        monkeypatch.delattr(signal, "pthread_kill")
    before = signal.signal(operating_system.WAKE_SIGNAL, lambda number, frame: woken.append(threading.get_ident()))
    try:
        main = threading.get_ident()
        thread = threading.Thread(target=wake_thread, args=(main,))
        thread.start()
        thread.join()
        wait_until(lambda: woken == [main])
    finally:
        signal.signal(operating_system.WAKE_SIGNAL, before)


class Msvcrt(ModuleType):
    """Windows' own locks: of a byte, without a shared kind, refused with a PermissionError."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.locked: dict[int, int] = {}

    def locking(self, descriptor: int, mode: int, length: int) -> None:
        self.locked.pop(descriptor, None)  # a number that was closed and is used again
        self.locked = {number: inode for number, inode in self.locked.items() if is_open(number)}
        inode = os.fstat(descriptor).st_ino
        if inode in self.locked.values():
            raise PermissionError(13, "Permission denied")
        self.locked[descriptor] = inode


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_windows_locks_exclude_each_other_and_are_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_system", Msvcrt())
    monkeypatch.setattr(locks, "IS_WINDOWS", True)
    file = tmp_path / "lock"
    lock = take_lock(file)
    assert lock is not None
    assert take_lock(file, seconds=0.05) is None and is_locked(file)
    assert inherited_lock(file, lock) is None
    os.close(lock)
    assert not is_locked(file)
    again = take_lock(file, seconds=0.05)
    assert again is not None
    os.close(again)


def test_exit_is_described_without_the_name_of_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGKILL")
    assert describe_exit("It", -9).startswith("It was killed (signal 9)")
    assert describe_exit("It", 3221225477) == "It exited with status 3221225477."


def test_windows_process_ends_although_its_parents_pid_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a look at the parent itself shows that it has ended."""
    parent = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    ended: list[int] = []
    monkeypatch.setattr(children, "IS_WINDOWS", True)
    monkeypatch.setattr(children, "os", SimpleNamespace(getppid=lambda: parent.pid, _exit=ended.append))
    end_with_parent(parent.pid)
    assert not ended
    parent.kill()
    parent.wait()
    wait_until(lambda: ended == [1])


def test_peak_memory_is_known_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "Path", unreadable)
    assert 0.01 < resources.peak_resident_gib() < 1000  # from `resource`, as on macOS
    of_windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=3 * 2**30))
    monkeypatch.setattr(psutil, "Process", lambda: of_windows)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert resources.peak_resident_gib() == 3.0


def unreadable(path: str) -> Any:
    return Path("/nowhere") / "status"

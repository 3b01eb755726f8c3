"""The Space as its builder would run it: a copy of the repository, a user without rights, a disk that is read-only
around it, and a Space's variables.

With `SFT_TEST_SPACE_PYTHONS` (one or more interpreters, such as `python3.11 python3.12`) each also gets a virtual
environment with nothing but `requirements.txt`, which takes minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
CONFINED = Path(__file__).with_name("confined.sh")
FIRST_PAGE_SECONDS = 60.0
# Source: "Spaces Overview" and "Adding a Sign-In with HF button" in the Hub's documentation.
VARIABLES = {
    "SYSTEM": "spaces",
    "SPACE_ID": "someone/some-space",
    "SPACE_AUTHOR_NAME": "someone",
    "SPACE_REPO_NAME": "some-space",
    "SPACE_TITLE": "Fine-tune & Compare",
    "SPACE_HOST": "someone-some-space.hf.space",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "OAUTH_CLIENT_ID": "11111111-2222-3333-4444-555555555555",
    "OAUTH_CLIENT_SECRET": "not a secret",
    "OAUTH_SCOPES": "openid profile contribute-repos gated-repos",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}


@dataclass
class Space:
    """`box` is all that it may write to: the app and its temporary files."""

    box: Path
    log: Path
    process: subprocess.Popen[bytes]
    seconds: float
    url: str

    def server(self) -> psutil.Process:
        """The process that serves, below those that confine it."""
        return next(
            process
            for process in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(True)]
            if "app.py" in process.cmdline() and "setpriv" not in process.name()
        )


def copy_tracked_files(to: Path) -> None:
    """What a push to the Space would hold."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, to / name)


def give_to_the_user(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 54321, 54321)


def open_space(folder: Path, python: str) -> Space:
    """Raises: AssertionError when it is not open in time, with what it printed."""
    box, log = folder / "box", folder / "space.log"
    copy_tracked_files(box / "app")
    for name in ("home", "tmp"):
        (box / name).mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(box / "home"), "TMPDIR": str(box / "tmp"), **VARIABLES}
    command = [python, "app.py"]
    if os.geteuid() == 0:
        give_to_the_user(box)
        command = ["unshare", "--mount", "bash", str(CONFINED), str(box), *command]
    start = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=box / "app", env={**environment, "PYTHONUNBUFFERED": "1"}, stdout=out, stderr=out
        )
    try:
        found = wait_until(
            lambda: re.search(r"running at (http://\S+)", log.read_text()) or process.poll() is not None,
            FIRST_PAGE_SECONDS,
        )
        assert isinstance(found, re.Match), log.read_text()
        url = found.group(1).replace("0.0.0.0", "127.0.0.1")
        read(url)
    except BaseException:
        process.kill()
        raise
    return Space(box, log, process, time.monotonic() - start, url)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def interpreters() -> list[str]:
    return [sys.executable, *os.environ.get("SFT_TEST_SPACE_PYTHONS", "").split()]


def with_requirements_only(python: str, folder: Path) -> str:
    """A virtual environment as a Space's builder makes it; the path of its interpreter."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(PROJECT / "requirements.txt")], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module", params=interpreters())
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    folder = tmp_path_factory.mktemp("space")
    is_own = request.param == sys.executable
    opened = open_space(folder, sys.executable if is_own else with_requirements_only(request.param, folder / "venv"))
    sys.stdout.write(f"first page of {request.param} after {opened.seconds:.1f} s\n")
    yield opened
    if opened.process.poll() is None:
        for process in [*psutil.Process(opened.process.pid).children(True), opened.process]:
            process.kill()
        opened.process.wait(20)


def test_first_page_comes_in_time(space: Space) -> None:
    assert space.seconds < FIRST_PAGE_SECONDS
    assert "Fine-tune &amp; Compare" in (page := read(space.url)) or "Fine-tune & Compare" in page
    assert '"space_id":"someone/some-space"' in page.replace(" ", "")


def test_no_torch_is_loaded_before_the_first_page(space: Space) -> None:
    maps = Path(f"/proc/{space.server().pid}/maps").read_text()
    assert "libpython" in maps or "python" in maps
    assert [line for line in maps.splitlines() if "torch" in line or "libcuda" in line] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can shut a process in")
def test_it_has_no_rights_and_writes_in_its_own_folder_alone(space: Space) -> None:
    status = Path(f"/proc/{space.server().pid}/status").read_text()
    assert re.search(r"^Uid:\s+54321", status, re.M)
    assert re.search(r"^CapEff:\s+0{15}4$", status, re.M), "it may read what it is shown, and no more"
    mounts = Path(f"/proc/{space.server().pid}/mounts").read_text().splitlines()
    box = [line for line in mounts if line.split()[1] == str(space.box)]
    root = [line for line in mounts if line.split()[1] == "/"]
    assert box and all(line.split()[3].startswith("rw") for line in box)
    assert root and all(line.split()[3].startswith("ro") for line in root)
    assert (space.box / "app" / "workspace").is_dir()


def test_nothing_went_wrong_on_the_way(space: Space) -> None:
    log = space.log.read_text()
    # Gradio's own hot reloading wants the `spaces` package, which the builder adds, and does without.
    known = log.count("`spaces` package is required to run hot-reloading in Spaces")
    assert log.count("Traceback") == known <= 1, log
    assert "Permission denied" not in log and "Read-only file system" not in log
    app_log = space.box / "app" / "workspace" / "app.log"
    assert app_log.read_text() == ""


def test_it_ends_when_the_machine_asks(space: Space) -> None:
    server = space.server()
    server.send_signal(signal.SIGTERM)
    wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 20)
    assert space.process.wait(20) == 0, space.log.read_text()

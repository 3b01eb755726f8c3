"""Children of this process: what they print, how they end, and that they end with the block or with their parent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from sft_app.runtime.children import (
    ask_python,
    describe_exit,
    run_python,
    running_python,
    start_python,
    until_ended,
    wait_for,
)
from sft_app.runtime.files import last_lines
from tests.waiting import wait_until

SLEEPS = ["-S", "-c", "import time; time.sleep(600)"]
WATCHES = """
import sys, time
from pathlib import Path
from sft_app.runtime.children import end_with_parent

end_with_parent(int(sys.argv[1]), lambda: Path(sys.argv[2]).touch())
time.sleep(600)
"""


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with running_python(["-S", "-c", "import sys; print('out'); sys.exit('err')"], log) as child:
        assert list(until_ended(child))[:1] == [None]
    assert child.returncode == 1
    assert sorted(last_lines(log, 9)) == ["before", "err", "out"]


def test_no_child_gets_the_key_of_the_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_APP_JUDGE_KEY", "sk-secret")
    asks = ["-S", "-c", "import os; print(os.environ.get('SFT_APP_JUDGE_KEY'), os.environ.get('GIVEN'))"]
    for environment in (None, {**os.environ, "GIVEN": "yes"}):
        with running_python(asks, tmp_path / "log", environment) as child:
            list(until_ended(child))
    assert last_lines(tmp_path / "log", 9) == ["None None", "None yes"]
    assert ask_python(asks, 60) == (0, "None None\n")
    assert run_python(asks).stdout == "None None\n"


def test_child_that_still_runs_at_the_end_of_the_block_is_killed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), running_python(SLEEPS, tmp_path / "log") as child:
        assert psutil.pid_exists(child.pid)
        raise KeyError
    assert child.returncode == -signal.SIGKILL


def test_waiting_ends_after_the_given_time(tmp_path: Path) -> None:
    with running_python(SLEEPS, tmp_path / "log") as child:
        assert wait_for(child, 0.01) is None
        child.terminate()
        assert wait_for(child, 60) == -signal.SIGTERM


def test_child_has_the_descriptors_it_is_given(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = start_python(["-S", "-c", f"import os; os.write({writing}, b'x')"], tmp_path / "log", inherited=[writing])
    os.close(writing)
    assert (os.read(reading, 9), child.wait()) == (b"x", 0)
    os.close(reading)


def test_child_ends_with_its_parent_and_cleans_up(tmp_path: Path) -> None:
    """Process 1 stands in for a parent that has gone: it is not the child's."""
    arguments = ["-c", WATCHES, "1", str(tmp_path / "cleaned")]
    with running_python(arguments, tmp_path / "log") as child:
        assert child.wait(60) == 1, last_lines(tmp_path / "log", 9)
    wait_until((tmp_path / "cleaned").exists)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (3, "It exited with status 3."),
        (-signal.SIGSEGV, "It was ended by signal 11 (SIGSEGV)."),
        (-signal.SIGKILL, "It was killed (signal 9), by a user or because the machine ran out of memory."),
    ],
)
def test_how_a_process_ended_is_a_sentence(status: int, sentence: str) -> None:
    assert describe_exit("It", status) == sentence


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "log", 3) == []

"""The run folder: what is written is read back, a dead process is noticed, nothing appears by halves."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_app.errors import RunError
from sft_app.runs import directory, folder, records
from sft_app.runs.directory import create_run, delete_run, find_run, list_runs, move_in_queue, new_run_id, queued_runs
from sft_app.runs.folder import Run, process_is_alive
from sft_app.runs.records import ENDED, ModelRecord, RunRecord, RunStatus, Snapshot, SourceRecord, WatchAnswer
from sft_app.runtime import processes
from sft_app.runtime.files import read_jsonl
from sft_app.runtime.home import app_home, runs_dir
from sft_app.runtime.locks import take_lock
from sft_app.runtime.processes import process_started
from sft_app.settings import RunSettings

ROWS = [{"messages": [{"role": "user", "content": "Größe?"}, {"role": "assistant", "content": "£5\n🌱"}]}]
WORKING = ("preparing", "training", "scoring")


def make_record() -> RunRecord:
    return RunRecord(
        settings=RunSettings(name="Größe", watch_prompts=("a", "b")),
        source=SourceRecord(path="a.jsonl", sha256="00", format="messages", rows=2, conversations=1, rejected=1),
        model=ModelRecord(name="starter", location="here", revision=None, source="test"),
        versions={"trl": "1.0"},
        created_utc="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def run(home: Path) -> Run:
    return create_run(home, make_record(), ROWS, ROWS[:0])


@pytest.fixture
def add_run(home: Path) -> Callable[[str], Run]:
    def add(run_id: str) -> Run:
        return Run(create_run(home, make_record(), [], []).path.rename(runs_dir(home) / run_id))

    return add


@pytest.fixture
def own_process() -> dict[str, Any]:
    """This test's own process, which certainly lives, as a run's status names it."""
    return {"pid": psutil.Process().pid, "pid_started": psutil.Process().create_time()}


@pytest.fixture
def dead_child() -> Iterator[subprocess.Popen[bytes]]:
    """A child that has ended and that nobody has waited for: a zombie."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    deadline = time.monotonic() + 20
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield child
    child.wait()


# creating


def test_new_run_is_queued_and_holds_what_it_was_given(run: Run):
    assert run.record() == make_record()
    assert run.status() == RunStatus(state="queued", created_utc="2026-01-01T00:00:00+00:00")
    assert read_jsonl(run.train_file) == ROWS
    assert read_jsonl(run.heldout_file) == []
    assert sorted(path.name for path in run.path.iterdir()) == ["data", "settings.json", "status.json"]


def test_new_run_appears_whole(home: Path):
    seen: list[list[Run]] = []

    def rows_that_look_around() -> Iterator[dict[str, Any]]:
        seen.append(list_runs(home))
        yield from ROWS

    run = create_run(home, make_record(), rows_that_look_around(), rows_that_look_around())
    assert seen == [[], []]
    assert list(runs_dir(home).iterdir()) == [run.path]


def test_full_disk_is_told_and_leaves_nothing(home: Path):
    def rows() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match=r"could not be written to .*runs: No space left on device\.$"):
        create_run(home, make_record(), rows(), [])
    assert list(runs_dir(home).iterdir()) == []


def test_home_that_cannot_hold_runs_is_told(home: Path):
    runs_dir(home).write_text("a file, not a folder")
    with pytest.raises(RunError, match=r"could not be written to .*runs: "):
        create_run(home, make_record(), [], [])


def test_run_id_begins_with_its_time_and_is_safe_as_a_folder_name():
    before = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    run_id = new_run_id()
    assert re.fullmatch(r"\d{8}-\d{6}-[a-km-z2-9]{4}", run_id)
    assert before <= run_id[:15] <= datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


@pytest.mark.parametrize(("value", "expected"), [("elsewhere", "elsewhere"), ("", "workspace"), (None, "workspace")])
def test_home_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
):
    monkeypatch.chdir(tmp_path)
    if value is None:
        monkeypatch.delenv("SFT_APP_HOME", raising=False)
    else:
        monkeypatch.setenv("SFT_APP_HOME", value)
    assert app_home() == tmp_path / expected


# settings.json


def test_missing_settings_are_told(run: Run):
    (run.path / "settings.json").unlink()
    with pytest.raises(
        RunError, match=rf"^The settings\.json of run {run.id} is missing, so the run can only be deleted\.$"
    ):
        run.record()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"settings": {"sed": 1}}', b"\xff"])
def test_unreadable_settings_are_told(run: Run, content: bytes):
    (run.path / "settings.json").write_bytes(content)
    with pytest.raises(
        RunError, match=rf"^The settings\.json of run {run.id} cannot be read, so the run can only be deleted\.$"
    ):
        run.record()


# status.json


@pytest.mark.parametrize("state", WORKING)
def test_working_run_with_a_living_process_is_left_alone(run: Run, own_process: dict[str, Any], state: str):
    run.update_status(state=state, step=3, **own_process)
    assert (run.status().state, run.status().step) == (state, 3)


@pytest.mark.parametrize("state", WORKING)
def test_working_run_whose_process_is_gone_is_interrupted_for_good(
    run: Run, dead_child: subprocess.Popen[bytes], state: str
):
    run.update_status(state=state, step=3, pid=dead_child.pid, pid_started=psutil.Process(dead_child.pid).create_time())
    status = run.status()
    assert (status.state, status.step) == ("interrupted", 3)
    assert status.message == f"The training process exited without an error message while {state}."
    assert "Resume" in status.hint
    assert status.ended_utc is not None
    assert run.status() == status


def test_run_whose_supervisor_lives_is_not_interrupted(
    run: Run, dead_child: subprocess.Popen[bytes], own_process: dict[str, Any]
):
    """It is about to start another worker, or to tell how this one ended."""
    gone = {"pid": dead_child.pid, "pid_started": psutil.Process(dead_child.pid).create_time()}
    supervisor = {"supervisor_pid": own_process["pid"], "supervisor_started": own_process["pid_started"]}
    run.update_status(state="training", **gone, **supervisor)
    assert run.status().state == "training"
    run.update_status(supervisor_started=own_process["pid_started"] - 5)
    assert run.status().state == "interrupted"


@pytest.mark.parametrize("state", ["queued", *sorted(ENDED)])
def test_run_that_is_not_working_needs_no_process(run: Run, state: str):
    run.update_status(state=state, pid=1, pid_started=0.0)
    assert run.status().state == state


def test_end_that_is_written_while_one_looks_is_not_overwritten(
    run: Run, own_process: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The worker writes `finished` and ends after the reader read `scoring` and before it looks for the process."""
    run.update_status(state="scoring", **own_process)

    def end_now(pid: int | None, started: float | None) -> bool:
        run.update_status(state="finished")
        return False

    monkeypatch.setattr(folder, "process_is_alive", end_now)
    assert run.status().state == "finished"
    assert run.status().state == "finished"


@pytest.mark.parametrize("content", [None, b"", b'{"state": "trai', b'{"state": "dancing"}', b"\xff"])
def test_run_without_a_readable_status_is_interrupted(run: Run, content: bytes | None):
    (run.path / "status.json").unlink()
    if content is not None:
        (run.path / "status.json").write_bytes(content)
    assert (run.status().state, run.status().message) == (
        "interrupted",
        "Its status.json is missing or cannot be read.",
    )


def test_setting_of_an_earlier_version_is_left_out_and_another_unknown_one_is_refused(run: Run):
    kept = json.loads(run.settings_file.read_text())
    run.settings_file.write_text(json.dumps(kept | {"settings": kept["settings"] | {"torch_compile": False}}))
    assert run.record().settings.model_dump(mode="json") == kept["settings"]
    run.settings_file.write_text(json.dumps(kept | {"settings": kept["settings"] | {"torch_compiled": False}}))
    with pytest.raises(RunError, match="does not know: torch_compiled"):
        run.record()


def test_update_changes_the_named_fields_only(run: Run):
    run.update_status(message="Loading.", total_steps=40)
    run.update_status(step=7)
    status = run.status()
    assert (status.state, status.message, status.step, status.total_steps) == ("queued", "Loading.", 7, 40)
    assert status.created_utc == "2026-01-01T00:00:00+00:00"


def test_unknown_state_is_refused(run: Run):
    with pytest.raises(ValueError, match="state"):
        run.update_status(state="dancing")
    assert run.status().state == "queued"


def test_times_are_set_by_the_first_and_the_last_working_state(run: Run, monkeypatch: pytest.MonkeyPatch):
    start, end, second_start, second_end = times = [f"2026-01-01T00:00:0{second}+00:00" for second in range(4)]
    clock = iter(times)
    monkeypatch.setattr(folder, "utc_now", lambda: next(clock))
    assert _times(run.update_status(step=0)) == (None, None)
    assert _times(run.update_status(state="preparing")) == (start, None)
    assert _times(run.update_status(state="training")) == (start, None)
    assert _times(run.update_status(state="failed")) == (start, end)
    assert _times(run.update_status(state="queued", started_utc=None)) == (None, None)
    assert _times(run.update_status(state="preparing")) == (second_start, None)
    assert _times(run.update_status(state="finished")) == (second_start, second_end)


def _times(status: RunStatus) -> tuple[str | None, str | None]:
    return status.started_utc, status.ended_utc


@pytest.mark.parametrize(
    ("started", "ended", "expected"),
    [
        (None, None, 0.0),
        ("2026-01-01T00:00:00+00:00", None, 90.0),
        ("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", 60.0),
    ],
)
def test_elapsed_seconds_end_with_the_run(started: str | None, ended: str | None, expected: float):
    now = datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
    assert RunStatus(started_utc=started, ended_utc=ended).elapsed_seconds(now) == expected


# processes


def test_own_process_is_alive(own_process: dict[str, Any]):
    assert process_is_alive(own_process["pid"], own_process["pid_started"])


def test_pid_that_was_given_to_another_process_is_not_alive(own_process: dict[str, Any]):
    assert not process_is_alive(own_process["pid"], own_process["pid_started"] - 5)


@pytest.mark.parametrize(("pid", "started"), [(None, None), (None, 1.0), (1, None)])
def test_process_without_pid_or_start_is_not_alive(pid: int | None, started: float | None):
    assert not process_is_alive(pid, started)


def test_ended_process_is_not_alive_before_and_after_it_is_reaped(dead_child: subprocess.Popen[bytes]):
    started = psutil.Process(dead_child.pid).create_time()
    assert not process_is_alive(dead_child.pid, started)
    dead_child.wait()
    assert not process_is_alive(dead_child.pid, started)


# logs and requests


def test_metrics_and_snapshots_come_back_in_order(run: Run):
    for step in range(3):
        run.log_metric(step=step, loss=0.5)
    run.log_snapshot(step=0, answers=[{"prompt": "Größe?", "answer": "£5"}])
    assert [row.step for row in run.metrics()] == [0, 1, 2]
    assert run.snapshots() == [Snapshot(step=0, answers=[WatchAnswer(prompt="Größe?", answer="£5")])]


def test_resumed_run_forgets_what_came_after_its_checkpoint(run: Run):
    for step in (0, 2, 4, 6):
        run.log_metric(step=step)
        run.log_snapshot(step=step)
    run.forget_after(4)
    assert [row.step for row in run.metrics()] == [0, 2, 4]
    assert [row.step for row in run.snapshots()] == [0, 2, 4]
    run.forget_after(-1)
    assert (run.metrics(), run.snapshots()) == ([], [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, None),
        ("{", None),
        ('{"base": {"loss": 1.5}, "tuned": {"loss": 1.0}}', 1.5),
        ("null", None),
        ('{"base": {}}', None),
    ],
)
def test_scorecard_is_read_when_it_is_whole(run: Run, content: str | None, expected: float | None):
    if content is not None:
        (run.path / "scorecard.json").write_text(content)
    scorecard = run.scorecard()
    assert (scorecard and scorecard.base["loss"]) == expected


def test_stop_can_be_asked_for_twice_and_withdrawn(run: Run):
    assert not run.stop_is_requested()
    run.request_stop()
    run.request_stop()
    assert run.stop_is_requested()
    run.withdraw_stop()
    run.withdraw_stop()
    assert not run.stop_is_requested()


def test_log_tail_is_the_last_lines_of_whatever_was_printed(run: Run):
    assert run.log_tail() == ""
    run.log_file.write_bytes(b"one\ntwo\n\xff three\n")
    assert run.log_tail(2) == "two\n\ufffd three"


def test_adapter_is_there_when_its_folder_is(run: Run):
    assert not run.has_adapter()
    run.adapter_dir.mkdir()
    assert run.has_adapter()


# the queue


@pytest.fixture
def waiting(add_run: Callable[[str], Run]) -> list[Run]:
    """Four queued runs, made in another order than they were filed in."""
    runs = {name: add_run(f"20260101-00000{name}-aaaa") for name in (3, 1, 4, 2)}
    return [runs[name] for name in (1, 2, 3, 4)]


def order(home: Path) -> str:
    return "".join(run.id[14] for run in queued_runs(home))


def test_queue_is_in_the_order_of_filing_and_holds_what_waits_only(home: Path, waiting: list[Run]):
    assert order(home) == "1234"
    waiting[1].update_status(state="finished")
    assert order(home) == "134"


@pytest.mark.parametrize(
    ("which", "places", "expected"),
    [
        (2, -1, "1324"),
        (2, -2, "3124"),
        (3, -100, "4123"),
        (0, 1, "2134"),
        (0, 2, "2314"),
        (1, 100, "1342"),
        (1, 0, "1234"),
        (0, -1, "1234"),
        (3, 1, "1234"),
    ],
)
def test_run_is_moved_by_places(home: Path, waiting: list[Run], which: int, places: int, expected: str):
    move_in_queue(home, waiting[which], places)
    assert order(home) == expected


def test_moves_add_up_and_new_runs_come_last(home: Path, waiting: list[Run], add_run: Callable[[str], Run]):
    move_in_queue(home, waiting[3], -3)
    move_in_queue(home, waiting[0], 1)
    add_run("20260101-000005-aaaa")
    assert order(home) == "42135"
    waiting[3].update_status(state="finished")
    delete_run(waiting[1])
    assert order(home) == "135"
    move_in_queue(home, waiting[2], -1)
    assert order(home) == "315"


def test_run_that_does_not_wait_is_not_moved(home: Path, waiting: list[Run]):
    waiting[0].update_status(state="finished")
    with pytest.raises(RunError, match=rf"^Run {waiting[0].id} is finished; only a queued run can be moved\.$"):
        move_in_queue(home, waiting[0], 1)
    assert list(home.iterdir()) == [runs_dir(home)]


@pytest.mark.parametrize("content", [b"", b"{", b"7", b'[1, null, "20260101-000003-aaaa"]', b"\xff"])
def test_queue_file_that_cannot_be_read_is_no_harm(home: Path, waiting: list[Run], content: bytes):
    (home / "queue.json").write_bytes(content)
    assert order(home) in ("1234", "3124")
    move_in_queue(home, waiting[3], -100)
    assert order(home)[0] == "4"


# finding and deleting


def test_runs_are_listed_newest_first_without_drafts_and_stray_files(home: Path, add_run: Callable[[str], Run]):
    assert list_runs(home) == []
    for run_id in ("20260102-000000-bbbb", "20251231-235959-zzzz", "20260102-000001-aaaa"):
        add_run(run_id)
    (runs_dir(home) / ".20270101-000000-aaaa").mkdir()
    (runs_dir(home) / "notes.txt").write_text("")
    assert [run.id for run in list_runs(home)] == [
        "20260102-000001-aaaa",
        "20260102-000000-bbbb",
        "20251231-235959-zzzz",
    ]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("latest", "20260102-000001-aaaa"),
        ("20260102-000000-bbbb", "20260102-000000-bbbb"),
        ("20260102-000000", "20260102-000000-bbbb"),
        ("2025", "20251231-235959-zzzz"),
    ],
)
def test_run_is_found_by_id_unique_prefix_or_latest(
    home: Path, add_run: Callable[[str], Run], reference: str, expected: str
):
    for run_id in ("20260102-000000-bbbb", "20251231-235959-zzzz", "20260102-000001-aaaa"):
        add_run(run_id)
    assert find_run(home, reference).id == expected


def test_whole_id_wins_over_a_longer_one_that_begins_with_it(home: Path, add_run: Callable[[str], Run]):
    add_run("20260102-000000-bbbb-copy")
    add_run("20260102-000000-bbbb")
    assert find_run(home, "20260102-000000-bbbb").id == "20260102-000000-bbbb"


@pytest.mark.parametrize("reference", ["", "2027", "aaaa", "../runs", ".", "*", "LATEST"])
def test_unknown_run_is_told_with_where_to_look(home: Path, add_run: Callable[[str], Run], reference: str):
    add_run("20260102-000001-aaaa")
    with pytest.raises(RunError, match=rf"There is no run '{re.escape(reference)}'\. `python -m sft_app runs` lists"):
        find_run(home, reference)


def test_prefix_of_several_runs_is_told_with_their_ends(home: Path, add_run: Callable[[str], Run]):
    for run_id in ("20260102-000001-aaaa", "20260102-000002-bbbb", "20260102-000003-cccc"):
        add_run(run_id)
    expected = (
        r"'20260102' matches 3 runs \(20260102-000001-aaaa … 20260102-000003-cccc\)\. Use more characters of the id"
    )
    with pytest.raises(RunError, match=expected):
        find_run(home, "20260102")


@pytest.mark.parametrize("reference", ["latest", "", "2026"])
def test_home_without_runs_is_told(home: Path, reference: str):
    with pytest.raises(RunError, match=r"There are no runs in .*runs yet"):
        find_run(home, reference)


@pytest.mark.parametrize("state", WORKING)
def test_working_run_is_not_deleted(run: Run, own_process: dict[str, Any], state: str):
    run.update_status(state=state, **own_process)
    with pytest.raises(RunError, match=f"^Run {run.id} is {state}; stop it before deleting it"):
        delete_run(run)
    assert run.path.is_dir()


@pytest.mark.parametrize("state", ["queued", *sorted(ENDED), "training"])
def test_run_without_a_living_process_is_deleted_with_everything(home: Path, run: Run, state: str):
    run.update_status(state=state)
    (run.checkpoints_dir / "checkpoint-4").mkdir(parents=True)
    run.merged_dir.mkdir(parents=True)
    delete_run(run)
    assert list_runs(home) == []
    assert not run.path.exists() and not run.merged_dir.exists()


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock so many seconds forward, as this process and psutil see it."""

    def shift(seconds: float) -> None:
        boot_time, now = psutil._psplatform.boot_time, datetime.now

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return now(tz) + timedelta(seconds=seconds)

        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time() + seconds)
        for module in (directory, records):
            monkeypatch.setattr(module, "datetime", Clock)

    return shift


@pytest.mark.parametrize("seconds", [-7200.0, -2.0, 2.0, 7200.0])
def test_a_clock_that_is_set_ends_no_run(run: Run, set_clock: Callable[[float], None], seconds: float):
    me = os.getpid()
    run.update_status(state="training", pid=me, pid_started=process_started(me))
    set_clock(seconds)
    assert process_is_alive(me, process_started(me))
    assert run.status().state == "training"
    with pytest.raises(RunError, match="is training; stop it before deleting it"):
        delete_run(run)
    assert 0 <= run.status().elapsed_seconds() < 60
    assert 0 <= run.update_status(state="finished").elapsed_seconds() < 60


@pytest.mark.parametrize("now", [32230.936, 32230.9385, 32230.9449])
def test_a_run_that_has_just_begun_has_not_taken_less_than_nothing(monkeypatch: pytest.MonkeyPatch, now: float):
    monkeypatch.setattr(processes.time, "monotonic", lambda: now)
    assert processes.seconds_since(processes.moment()) == 0
    beginning = processes.moment()
    monkeypatch.setattr(processes.time, "monotonic", lambda: now + 0.001)
    assert processes.seconds_since(beginning) == pytest.approx(0.001)


def test_a_process_of_before_the_machine_was_started_again_is_not_alive(monkeypatch: pytest.MonkeyPatch):
    """After a boot the same number may have been given at the same tick."""
    me = os.getpid()
    before = process_started(me)
    assert isinstance(before, str)
    monkeypatch.setattr(processes, "boot_id", lambda: "another")
    assert not process_is_alive(me, before)
    assert process_is_alive(me, process_started(me))


def test_a_status_of_an_earlier_version_is_read(run: Run, own_process: dict[str, Any]):
    """Starts in seconds since the epoch, and no measured times."""
    old = RunStatus(state="training", started_utc="2026-01-01T00:00:00+00:00", **own_process).model_dump()
    del old["started_moment"], old["worked_seconds"]
    (run.path / "status.json").write_text(json.dumps(old))
    assert run.status().state == "training"
    assert run.status().elapsed_seconds(datetime(2026, 1, 1, 0, 1, tzinfo=UTC)) == 60
    assert run.status().elapsed_seconds(datetime(2025, 1, 1, tzinfo=UTC)) == 0
    (run.path / "status.json").write_text(json.dumps({**old, "pid_started": old["pid_started"] - 60}))
    assert run.status().state == "interrupted"


def test_the_newest_run_is_the_last_also_when_the_clock_was_set_back(home: Path, set_clock: Callable[[float], None]):
    first = create_run(home, make_record(), [], [])
    set_clock(-86400)
    made = [create_run(home, make_record(), [], []) for _ in range(3)]
    assert list_runs(home) == [*reversed(made), first]
    assert queued_runs(home) == [first, *made]
    assert find_run(home, "latest") == made[-1]


def test_a_run_with_a_worker_is_working_whoever_its_status_names(run: Run, dead_child: subprocess.Popen[bytes]):
    run.update_status(state="preparing", pid=dead_child.pid, pid_started=0.0)
    with run.locked() as is_ours:
        assert is_ours and run.has_worker()
        assert run.status().state == "preparing"
        with run.locked(seconds=0) as is_mine:
            assert not is_mine
    assert not run.has_worker()
    assert run.status().state == "interrupted"


@pytest.mark.parametrize("state", ["queued", *sorted(ENDED)])
def test_a_run_with_a_worker_is_not_deleted(run: Run, state: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(directory, "ENDING_SECONDS", 0.1)
    run.update_status(state=state)
    with run.locked(), pytest.raises(RunError, match="still has a training process"):
        delete_run(run)
    assert run.path.is_dir()
    delete_run(run)
    assert not run.path.exists()


def test_a_lock_outlives_the_process_that_took_it_in_the_one_it_started(run: Run):
    """And ends with that one, however it ends."""
    lock = take_lock(run.lock_file)
    assert lock is not None
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    assert run.has_worker() and take_lock(run.lock_file, seconds=0) is None
    child.kill()
    child.wait()
    assert not run.has_worker()

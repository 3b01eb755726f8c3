"""Work that a page watches ends with the page's interest in it."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from sft_app.errors import ExportError
from sft_app.export.merged import Step
from sft_app.ui.export import watched
from sft_app.ui.export.watched import Watched
from tests.waiting import wait_until

SEEN: ContextVar[str] = ContextVar("seen", default="")


class Work:
    """Steps without an end, unless they are told to end; whether they were closed."""

    def __init__(self, ends: Any = None) -> None:
        self.ends, self.is_closed = ends, False

    def steps(self) -> Generator[Step, None, str]:
        import time

        try:
            for number in range(100_000):
                yield Step(number / 100_000, SEEN.get())
                time.sleep(0.01)
                if isinstance(self.ends, Exception):
                    raise self.ends
                if self.ends:
                    return self.ends
            return "never"
        finally:
            self.is_closed = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(watched, "GONE_SECONDS", 0.5)


def result_of(steps: Generator[Step, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_what_is_watched_to_its_end_gives_its_result_in_the_context_of_who_asked():
    token = SEEN.set("the visitor")
    work = Work("done")
    watching = Watched(work.steps()).watch()
    assert next(watching).what == "the visitor"
    assert result_of(watching) == "done" and work.is_closed
    SEEN.reset(token)


def test_an_error_is_raised_where_the_work_is_watched():
    with pytest.raises(ExportError, match="no room"):
        result_of(Watched(Work(ExportError("no room")).steps()).watch())


def test_stop_ends_the_work_whoever_still_holds_on_to_the_event():
    work = Work()
    asked = Watched(work.steps())
    watching = asked.watch()
    next(watching)
    asked.stop()
    wait_until(lambda: work.is_closed, seconds=10)
    assert result_of(watching) is None


def test_work_that_no_page_looks_at_ends_though_nothing_is_collected():
    work = Work()
    watching = Watched(work.steps()).watch()
    gc.disable()
    try:
        next(watching)
        wait_until(lambda: work.is_closed, seconds=10)
    finally:
        gc.enable()

"""Work that a page watches ends with the page's interest in it."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from sft_app.errors import ExportError
from sft_app.export.merged import Step
from sft_app.ui.context import PageContext
from sft_app.ui.export import downloads, watched
from sft_app.ui.export.watched import Watched
from tests.ui.test_run_panel import make_run
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


@pytest.fixture
def export_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Download tab's handlers, with an export of the run under way; `get(updates, name)` is one new value."""
    run, work = make_run(home), Work()
    monkeypatch.setattr(downloads, "_export_steps", lambda run, kind: work.steps())
    with gr.Blocks():
        shown = downloads._build_results(gr.Button(), gr.Button())
    handlers = downloads._Handlers(PageContext(home), shown)
    request = SimpleNamespace(session_hash="page")
    making = handlers._make(run.id, "merged", request)
    assert next(making)[shown.stop].visible
    return SimpleNamespace(run=run, work=work, shown=shown, handlers=handlers, request=request, making=making)


def test_a_selection_that_arrives_after_the_click_on_export_leaves_the_export_alone(export_page: Any) -> None:
    """On a busy machine the click can be handled before the event of the selection it followed."""
    page = export_page
    assert page.handlers._change(page.run.id, "merged", page.request) == downloads.NO_UPDATES
    assert next(page.making)[page.shown.stop].visible and not page.work.is_closed
    page.handlers._stop(page.run.id, "merged", page.request)


@pytest.mark.parametrize("event", ["_change", "_stop"])
def test_an_export_ends_with_another_selection_or_stop_and_shows_what_is_selected_now(
    export_page: Any, event: str
) -> None:
    page = export_page
    updates = getattr(page.handlers, event)(page.run.id, "ollama", page.request)
    assert page.work.is_closed and not updates[page.shown.stop].visible
    (last,) = page.making
    assert "a Modelfile with the chat template" in last[page.shown.result] and not last[page.shown.stop].visible
    assert page.handlers.active == {}


def test_a_format_that_does_not_exist_is_refused(export_page: Any) -> None:
    page = export_page
    with pytest.raises(ExportError, match="There is no export format 'onnx'"):
        next(page.handlers._make(page.run.id, "onnx", page.request))
    page.handlers._stop(page.run.id, "merged", page.request)

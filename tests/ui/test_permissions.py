"""Every event and every function of the API says what a visitor must be allowed to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import gradio as gr
import pytest

from sft_app.errors import RunError
from sft_app.hosting import Hosting, Visitor
from sft_app.ui.context import PageContext
from sft_app.ui.page import build_page
from sft_app.ui.permissions import OPEN, allowed, declared_permission, open_to_all
from sft_app.ui.services.access import FOR_EVERYONE, RUN_ACTIONS, Access, Permission

SPACE = Hosting(space="ann/app", owner="ann")
STRANGER, OWNER = Visitor("carol"), Visitor("ann")


def handlers_of(page: gr.Blocks) -> dict[str, Any]:
    """Those that run on the server and are ours; gradio adds its own for example prompts and the login."""
    found = {f"{fn.fn.__module__}.{fn.fn.__qualname__}": fn.fn for fn in page.fns.values() if fn.fn is not None}
    return {name: handler for name, handler in found.items() if not name.startswith("gradio.")}


@pytest.mark.parametrize("hosting", [Hosting(), SPACE, Hosting(mode="demo", space="ann/app", adapter="ann/shop")])
def test_every_event_and_api_function_declares_a_permission(home: Path, hosting: Hosting) -> None:
    handlers = handlers_of(build_page(home, hosting))
    assert len(handlers) > 50
    undeclared = [name for name, handler in handlers.items() if declared_permission(handler) is None]
    assert undeclared == []
    assert {declared_permission(handler) for handler in handlers.values()} <= {OPEN, *get_args(Permission)}


def test_each_permission_is_asked_for_somewhere(home: Path) -> None:
    used = {declared_permission(handler) for handler in handlers_of(build_page(home)).values()}
    assert used == {OPEN, *get_args(Permission)}


@pytest.mark.parametrize("permission", get_args(Permission))
def test_a_stranger_may_only_do_what_everyone_may(
    home: Path, permission: Permission, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = PageContext(home, SPACE)
    handler = allowed(permission, context)(lambda: "done")
    monkeypatch.setattr(Access, "visitor", lambda self: OWNER)
    assert handler() == "done"
    monkeypatch.setattr(Access, "visitor", lambda self: STRANGER)
    if permission in FOR_EVERYONE:
        assert handler() == "done"
        return
    with pytest.raises(gr.Error, match="There are no runs yet" if permission in RUN_ACTIONS else "Only the owner"):
        handler()


def test_at_home_everything_is_allowed(home: Path) -> None:
    context = PageContext(home)
    assert all(allowed(permission, context)(lambda: True)() for permission in get_args(Permission))


def test_a_stream_is_refused_before_it_begins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def stream() -> Any:
        begun.append("begun")
        yield 1

    monkeypatch.setattr(Access, "visitor", lambda self: STRANGER)
    with pytest.raises(gr.Error, match="can push"):
        list(allowed("push", PageContext(home, SPACE))(stream)())
    assert begun == []


def test_an_error_of_a_handler_is_told_as_a_sentence() -> None:
    def handler() -> None:
        raise RunError("It is gone.")

    with pytest.raises(gr.Error, match="It is gone"):
        open_to_all(handler)()

"""Pushing from the page: in whose name, what is said, and the whole way in Chromium against a stand-in for the Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from bench.browser import Server, open_tab
from sft_app.errors import AccessError
from sft_app.export.hub_push import PushResult
from sft_app.hosting import Hosting, Visitor
from sft_app.ui.context import PageContext
from sft_app.ui.export.push_panel import target_of
from sft_app.ui.export.views import login_line, pushed_line
from tests.export.hub_stand_in import GOOD_TOKEN, PushHub, pushing_to
from tests.hub_server import child_environment

SPACE = Hosting(space="ann/app", owner="ann")


def request_of(name: str | None) -> Any:
    login = {"userinfo": {"preferred_username": name}, "access_token": f"hf_oauth_{name}12345"} if name else None
    return SimpleNamespace(request=SimpleNamespace(scope={"session": {"oauth_info": login}}))


@pytest.mark.parametrize("name", [None, "bo"])
def test_on_a_space_only_those_who_are_trusted_push(home: Path, name: str | None) -> None:
    with pytest.raises(AccessError, match="Only the owner of this Space and people they allow can push"):
        target_of(PageContext(home, SPACE), request_of(name), "voice", True)


def test_on_a_space_the_token_is_the_visitors(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thatOfTheSpace")
    target = target_of(PageContext(home, SPACE), request_of("Ann"), "voice", True)
    assert target.token == "hf_oauth_Ann12345" and "hf_oauth" not in repr(target)
    assert target_of(PageContext(home), request_of(None), "voice", False).token is None


@pytest.mark.parametrize(
    ("hosting", "name", "logged_in", "told"),
    [
        (Hosting(), None, True, "this machine's Hub login"),
        (Hosting(), None, False, "Run `hf auth login` in a terminal, or start the app with `HF_TOKEN`"),
        (SPACE, None, True, "**Sign in**"),
        (SPACE, "bo", True, "**Duplicate the Space**"),
        (SPACE, "ann", False, "You are pushing as **ann**"),
    ],
)
def test_the_page_says_in_whose_name_it_pushes(hosting: Hosting, name: str | None, logged_in: bool, told: str) -> None:
    assert told in login_line(hosting, Visitor(name), logged_in)


def test_the_result_links_to_it_and_tells_the_notes() -> None:
    pushed = PushResult("ann/voice", "https://hub/ann/voice", "0" * 40, True, 8, ("It stays private.",))
    line = pushed_line(pushed)
    assert "[ann/voice](https://hub/ann/voice), 8 files; only you" in line and line.endswith("\n\nIt stays private.")


@pytest.fixture
def hub_server(
    request: pytest.FixtureRequest,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_run: Callable,
    give_starter: Callable[[Path], None],
) -> Iterator[tuple[Server, PushHub]]:
    """A page with one run; it is logged in unless the test says otherwise."""
    run = make_run(home=home, name="Shop voice!").run
    run.update_status(state="finished")  # else the page would train it
    with pushing_to() as hub:
        for name, value in child_environment(hub.endpoint, tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", getattr(request, "param", GOOD_TOKEN))
        give_starter(home)
        server = Server(home)
        yield server, hub
        server.stop()


def open_hub_tab(page: Page, server: Server) -> None:
    page.goto(server.url)
    open_tab(page, "Export")
    expect(page.locator("#export-run input")).to_have_value(re.compile("Shop voice!"))
    open_tab(page, "Hub")


def test_a_run_is_pushed_and_becomes_a_space(hub_server: tuple[Server, PushHub], quiet_page: Page) -> None:
    (server, hub), page = hub_server, quiet_page
    open_hub_tab(page, server)
    expect(page.locator("#push-login")).to_contain_text("this machine's Hub login")
    name = page.locator("#push-repo textarea, #push-repo input")
    expect(name).to_have_value("shop-voice")
    page.locator("#push-run").click()
    expect(page.locator("#push-result a")).to_have_attribute("href", f"{hub.endpoint}/ann/shop-voice")
    assert hub.get("ann/shop-voice").private and not any("data/" in file for file in hub.get("ann/shop-voice").files)
    page.get_by_label("Private").first.uncheck()
    expect(page.locator("#push-warning")).to_contain_text("Everyone will be able to read")
    name.fill("no/such/name")
    page.locator("#push-run").click()
    expect(page.locator(".toast-body")).to_contain_text("is not a valid repository name")
    name.fill("shop-voice")
    page.get_by_label("Merged model").last.check()
    expect(name).to_have_value("shop-voice-merged")
    page.locator("#push-run").click()
    merged = page.locator("#push-result a")
    expect(merged).to_have_attribute("href", f"{hub.endpoint}/ann/shop-voice-merged", timeout=120_000)
    assert "model.safetensors" in hub.get("ann/shop-voice-merged").files
    open_tab(page, "Space")
    page.get_by_label("Only a comparison").check()
    expect(page.locator("#space-adapter textarea, #space-adapter input")).to_have_value("ann/shop-voice")
    expect(page.locator("#space-repo textarea, #space-repo input")).to_have_value("compare-shop-voice")
    page.locator("#push-space").click()
    expect(page.locator("#space-result a")).to_have_attribute("href", re.compile("spaces/ann/compare-shop-voice$"))
    expect(page.locator("#space-result")).to_contain_text("ann/shop-voice is private")
    assert hub.get("ann/compare-shop-voice", "space").variables["SFT_APP_ADAPTER"] == "ann/shop-voice"


@pytest.mark.parametrize("hub_server", [""], indirect=True)
def test_without_a_login_the_page_says_what_to_do(hub_server: tuple[Server, PushHub], quiet_page: Page) -> None:
    (server, hub), page = hub_server, quiet_page
    open_hub_tab(page, server)
    expect(page.locator("#push-login")).to_contain_text("hf auth login")
    page.locator("#push-run").click()
    expect(page.locator(".toast-body")).to_contain_text("You are not logged in to the Hub")
    assert hub.repositories == {}

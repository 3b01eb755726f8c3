"""Taking a model along, in a real browser: merged by a real process, stopped, made ready for Ollama, saved as a zip."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, expect

from bench.browser import open_tab
from tests.waiting import started_by, wait_until


def open_downloads(page: Page, url: str, run_id: str) -> None:
    page.goto(url)
    open_tab(page, "Export")
    expect(page.locator("#export-run input")).to_have_value(re.compile(re.escape(run_id)), timeout=30_000)


def choose(page: Page, beginning: str) -> None:
    page.locator("#export-kind label").filter(has_text=re.compile(rf"^\s*{beginning}:")).click()


def mergers(server: Any) -> list[psutil.Process]:
    return started_by(server.process.pid, "sft_app.export.merge_worker")


def test_a_run_is_merged_for_ollama_and_saved(finished_run: Any, server: Any, quiet_page: Page, tmp_path: Path) -> None:
    page = quiet_page
    open_downloads(page, server.url, finished_run.id)
    choose(page, "Ollama")
    expect(page.locator("#export-result")).to_contain_text("plus a Modelfile")
    page.locator("#make-export").click()
    expect(page.locator("#export-result [role=progressbar]")).to_be_visible()
    expect(page.locator("#export-result")).to_contain_text("Ready for Ollama", timeout=120_000)
    folder = server.home / "exports" / f"{finished_run.id}-merged"
    expect(page.locator("#export-result")).to_contain_text(str(folder))
    expect(page.locator("#fidelity")).to_contain_text("predicts the held-out answers")
    expect(page.locator("#ollama-commands")).to_contain_text("ollama create")
    assert (folder / "Modelfile").is_file()

    page.locator("#pack-merged").click()
    with page.expect_download() as download:
        page.locator("#save-export").click()
    download.value.save_as(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as packed:
        assert f"{folder.name}/model.safetensors" in packed.namelist()
        assert f"{folder.name}/Modelfile" in packed.namelist()

    choose(page, "Merged model")  # what is there is shown at once
    expect(page.locator("#export-result")).to_contain_text("The merged model is ready")
    expect(page.locator("#ollama-commands")).to_be_hidden()


def test_stop_ends_the_merge_and_leaves_nothing(finished_run: Any, server: Any, quiet_page: Page) -> None:
    page = quiet_page
    open_downloads(page, server.url, finished_run.id)
    choose(page, "Merged model")
    page.locator("#make-export").click()
    for merger in wait_until(lambda: mergers(server)):
        merger.suspend()  # so that it is not done before the click comes
    page.locator("#stop-export").click()
    wait_until(lambda: not mergers(server))
    exports = server.home / "exports"
    wait_until(lambda: not list(exports.iterdir()))
    expect(page.locator("#stop-export")).to_be_hidden()
    expect(page.locator("#make-export")).to_be_enabled()


def test_a_tab_that_is_closed_ends_the_merge(finished_run: Any, server: Any, quiet_page: Page) -> None:
    page = quiet_page
    open_downloads(page, server.url, finished_run.id)
    choose(page, "Merged model")
    page.locator("#make-export").click()
    wait_until(lambda: mergers(server))
    page.goto("about:blank")
    wait_until(lambda: not mergers(server))


def test_the_adapter_is_saved_as_a_zip(finished_run: Any, server: Any, quiet_page: Page, tmp_path: Path) -> None:
    page = quiet_page
    open_downloads(page, server.url, finished_run.id)
    page.locator("#make-export").click()
    with page.expect_download() as download:
        page.locator("#save-export").click()
    download.value.save_as(tmp_path / "adapter.zip")
    with zipfile.ZipFile(tmp_path / "adapter.zip") as packed:
        assert "adapter_model.safetensors" in {Path(name).name for name in packed.namelist()}

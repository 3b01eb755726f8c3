"""A reload or the next visit goes on where the last one ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from sft_app.ui.context import PageContext
from sft_app.ui.remembered import Memory, Recalled, build_memory, restore_memory
from tests.ui.test_run_panel import make_run

ROWS = [{"question": f"Where is parcel {number}?", "answer": f"Parcel {number} is on its way."} for number in range(30)]


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return file


def wait_until_kept(page: Page) -> None:
    """What is kept is unreadable, but it changes with each change."""
    page.wait_for_function(
        """() => new Promise(done => {
            const kept = JSON.stringify(localStorage);
            setTimeout(() => done(kept.length > 2 && kept === JSON.stringify(localStorage)), 700);
        })"""
    )


def open_train(page: Page) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()


def test_a_reload_keeps_file_form_run_and_tab(server: Any, quiet_page: Page, home: Path, own_file: Path) -> None:
    page = quiet_page
    older, newer = make_run(home, "older"), make_run(home, "newer")
    for run in (older, newer):
        run.update_status(state="finished")
    page.goto(server.url)
    page.get_by_role("tab", name="Runs").click()
    page.get_by_role("button", name="Open in Train").wait_for()
    page.locator("#chosen-run input").click()
    page.get_by_role("option", name="older").click()
    page.get_by_role("button", name="Open in Train").click()
    expect(page.locator("#run-status")).to_contain_text("older")
    page.get_by_role("tab", name="Data").click()
    page.locator("input[type=file]").first.set_input_files(own_file)
    expect(page.locator("#data-source")).to_contain_text("mine.jsonl")
    open_train(page)
    page.locator("#preset").get_by_label("Best").check()
    page.locator("#name input, #name textarea").fill("My own")
    page.get_by_role("button", name="All settings").click()
    page.locator("#seed input").fill("7")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompt textarea").fill("Where is it?")
    wait_until_kept(page)

    page.reload()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#prompt textarea")).to_have_value("Where is it?")
    open_train(page)
    expect(page.locator("#run-status")).to_contain_text("older")
    expect(page.locator("#preset").get_by_label("Best")).to_be_checked()
    expect(page.locator("#name input, #name textarea")).to_have_value("My own")
    page.get_by_role("button", name="All settings").click()
    expect(page.locator("#seed input")).to_have_value("7")
    expect(page.locator("#early_stopping_patience :is(input, textarea)")).to_have_value("6")
    page.get_by_role("tab", name="Data").click()
    expect(page.locator("#data-source")).to_contain_text("mine.jsonl")


def test_a_file_that_is_gone_is_told_after_a_reload(server: Any, quiet_page: Page, home: Path, own_file: Path) -> None:
    page = quiet_page
    page.goto(server.url)
    page.locator("input[type=file]").first.set_input_files(own_file)
    expect(page.locator("#data-facts")).to_contain_text("30")
    wait_until_kept(page)
    shutil.rmtree(home / "uploads")
    page.reload()
    expect(page.locator("#data-facts")).to_contain_text("mine.jsonl no longer exists. Upload it again.")
    expect(page.locator("#data-source")).to_contain_text("mine.jsonl")


def test_the_form_can_be_given_its_defaults_again(server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(server.url)
    open_train(page)
    page.locator("#preset").get_by_label("Best").check()
    page.get_by_role("button", name="All settings").click()
    patience = page.locator("#early_stopping_patience :is(input, textarea)")
    expect(patience).to_have_value("6")
    page.locator("#reset-form").click()
    expect(page.locator("#preset").get_by_label("Quick look")).to_be_checked()
    expect(patience).to_have_value("")


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    with gr.Blocks():
        with gr.Tab("Form") as form:
            for part in (
                gr.Textbox(elem_id="text"),
                gr.Number(1, elem_id="number"),
                gr.Checkbox(elem_id="tick"),
                gr.Radio(["a", "b"], elem_id="radio"),
                gr.Dropdown(["a", "b"], elem_id="list"),
                gr.Dropdown(["a", "b"], allow_custom_value=True, elem_id="open-list"),
                gr.Slider(0, 1, elem_id="slider"),
                gr.Dropdown([], elem_id="what-is-there"),
                gr.Textbox(type="password", elem_id="secret"),
            ):
                assert part.parent is form
        return build_memory(PageContext(tmp_path_factory.mktemp("home")), [form])


def test_neither_a_secret_nor_a_choice_of_the_moment_is_kept(memory: Memory) -> None:
    assert list(memory.fields) == ["text", "number", "tick", "radio", "list", "open-list", "slider"]


@pytest.mark.parametrize(
    ("name", "fit", "unfit"),
    [
        ("text", ["", "any"], [None, 3, ["a"]]),
        ("number", [0, 2.5, None], ["3", True]),
        ("tick", [True, False], [1, None, "on"]),
        ("radio", ["b"], ["c", None, ["b"], {}]),
        ("list", ["b"], ["c", None]),
        ("open-list", ["b", "c"], [None, 1]),
        ("slider", [0, 0.5], [2, "0", True]),
        ("unknown", [], ["a"]),
    ],
)
def test_a_field_takes_only_what_it_could_hold(memory: Memory, name: str, fit: list[Any], unfit: list[Any]) -> None:
    def keeps(value: Any) -> bool:
        kept = restore_memory({"whose": "", "tab": "train", "run": "r", "form": {name: value}}, "", memory)
        assert kept is not None and (kept.tab, kept.run) == ("train", "r")
        return kept.form == {name: value}

    assert all(map(keeps, fit)) and not any(map(keeps, unfit))


@pytest.mark.parametrize("saved", [None, "text", 3, [], {}, {"whose": "ann"}, {"whose": "ann", "form": []}])
def test_what_is_no_memory_is_none(memory: Memory, saved: Any) -> None:
    assert restore_memory(saved, "ann", memory) is None


def test_one_visitor_is_not_shown_what_another_left(memory: Memory) -> None:
    saved = {"whose": "ann", "tab": "train", "run": "", "form": {"text": "Ann's"}}
    assert restore_memory(saved, "ann", memory) == Recalled("train", "", {"text": "Ann's"})
    assert restore_memory(saved, "bob", memory) is None
    assert restore_memory(saved, "", memory) is None


def test_the_numbers_of_a_preset_that_is_gone_go_with_it(tmp_path: Path) -> None:
    with gr.Blocks():
        with gr.Tab("Form") as form:
            gr.Radio(["quick", "good"], elem_id="preset")
            gr.Number(elem_id="num_train_epochs")
            gr.Number(elem_id="seed")
        memory = build_memory(PageContext(tmp_path), [form])
    saved = {"preset": "balanced", "num_train_epochs": 3, "seed": 7}
    for preset, kept in (("balanced", {"seed": 7}), ("good", {**saved, "preset": "good"})):
        recalled = restore_memory({"whose": "", "form": {**saved, "preset": preset}}, "", memory)
        assert recalled is not None and recalled.form == kept

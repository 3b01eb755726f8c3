"""Examples are edited, removed, added and written by hand in Chromium, and nothing that was typed gets lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from bench.browser import open_tab
from sft_app.runtime.files import read_jsonl

CELLS = 'How far?\tTwo miles.\nWhere to?\t"Over the ""hill"",\nthen left."\nAnd then?\t\n'
TALK = [
    {"role": "user", "content": "Is it open?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "hours", "arguments": {"day": 1}}}]},
    {"role": "tool", "content": "9 to 5"},
    {"role": "assistant", "content": "It is open from 9 to 5."},
]


def pair(number: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Question {number}?\n  With <b>two</b> lines"}
    return {"messages": [asked, {"role": "assistant", "content": f"Answer {number}."}]}


def upload(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:  # as a person does, who may choose the same file again
        page.locator("#upload").click()
    chooser.value.set_files(file)
    expect(page.locator("#data-source")).to_contain_text(file.name)


def field(page: Page, name: str, row: int) -> Any:
    return page.get_by_label(f"{name}, row {row}", exact=True)


def test_examples_are_edited_on_several_pages_and_saved_as_a_copy(
    module_server: Any, quiet_page: Page, tmp_path: Path
) -> None:
    rows = [pair(number) for number in range(1, 46)]
    rows[1] = {"messages": TALK}
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page, unsaved = quiet_page, quiet_page.locator("#edit-table .ft-unsaved")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(module_server.url)
    upload(page, file)
    page.locator("#edit button").first.click()
    expect(page.locator("#edit-table header")).to_have_text("Rows 1 to 2045 conversations")
    assert field(page, "Question", 1).input_value() == "Question 1?\n  With <b>two</b> lines"
    expect(page.locator("#edit-table .ft-locked")).to_have_count(2)
    expect(unsaved).to_be_hidden()

    field(page, "Answer", 1).fill("Typed\non page 1.")
    field(page, "Answer", 2).fill("From 9 to 5.")
    page.get_by_label("Remove row 3", exact=True).click()
    expect(unsaved).to_contain_text("2 edited, 1 removed")
    page.locator("#edit-next").click()
    expect(page.locator("#edit-table header")).to_contain_text("Rows 21 to 40")
    field(page, "Question", 21).fill("")
    page.locator("#edit-save").click()
    expect(page.locator(".toast-body")).to_contain_text("Row 21 has an answer without a question")
    field(page, "Question", 21).fill("Typed on page 2?")
    page.evaluate("exampleTables.showRow(1)")
    expect(field(page, "Answer", 1)).to_have_value("Typed\non page 1.")
    expect(unsaved).to_contain_text("3 edited, 1 removed")

    page.locator("#use-example").click()  # other data: the edits come back with their file
    expect(page.locator("#edit-table header")).to_contain_text("252 conversations")
    expect(page.locator("#edit-table")).to_contain_text("You have unsaved changes to other data")
    upload(page, file)
    expect(field(page, "Answer", 1)).to_have_value("Typed\non page 1.")
    page.locator("#to-train").click()
    expect(page.locator(".toast-body")).to_contain_text("training does not use them")
    expect(page.locator("#start")).to_be_visible()
    open_tab(page, "Data")
    page.locator("#edit-table .ft-add").click()
    new = page.locator("#edit-table .ft-new textarea")
    new.nth(0).fill("New?")
    new.nth(1).fill("New.")
    page.locator("#edit-save").click()
    expect(page.locator("#cleaned")).to_contain_text("Edited by hand: 3 rows")
    expect(page.locator("#cleaned")).to_contain_text("Removed by hand: 1 row")
    expect(page.locator("#cleaned")).to_contain_text("Added by hand: 1 row")
    expect(page.locator("#data-source")).to_contain_text("shop-edited.jsonl")
    expect(page.locator("#edit-table header")).to_contain_text("45 conversations")
    expect(unsaved).to_be_hidden()
    with page.expect_download() as download:
        page.locator("#save-copy").click()
    saved = [row["messages"] for row in read_jsonl(Path(download.value.path()))]
    assert saved[0] == [rows[0]["messages"][0], {"role": "assistant", "content": "Typed\non page 1."}]
    assert [message["content"] for message in saved[1]][2:] == ["9 to 5", "From 9 to 5."]
    assert saved[2:19] == [row["messages"] for row in rows[3:20]]
    assert saved[19][0]["content"] == "Typed on page 2?"
    assert saved[20:] == [*(row["messages"] for row in rows[21:]), saved[-1]]
    assert [message["content"] for message in saved[-1]] == ["New?", "New."]

    field(page, "Answer", 1).fill("Again.")
    page.locator("#edit-save").click()
    expect(page.locator("#data-source")).to_contain_text("shop-edited1.jsonl")
    expect(page.locator("#cleaned li")).to_have_count(4)
    page.locator("#previous-copy").click()
    expect(page.locator("#data-source")).to_contain_text("shop-edited.jsonl")
    expect(page.locator("#previous-copy")).to_be_hidden()
    page.locator("#back").click()
    expect(page.locator("#data-source")).to_contain_text("shop.jsonl")
    expect(field(page, "Answer", 1)).to_have_value("Answer 1.")


def test_first_examples_are_written_and_pasted_into_an_empty_table(module_server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(module_server.url)
    expect(page.locator("#write-table")).to_be_hidden()
    page.locator("#write").click()
    page.locator("#write-table .ft-system textarea").fill("You know the way.")
    page.evaluate("text => navigator.clipboard.writeText(text)", CELLS)
    cells = page.locator("#write-table .ft-new textarea")
    cells.first.click()
    page.keyboard.press("Control+v")
    expect(cells.nth(3)).to_have_value('Over the "hill",\nthen left.')
    page.locator("#write-use").click()
    expect(page.locator(".toast-body")).to_contain_text("Line 3 has a question but no answer")
    expect(cells.nth(4)).to_have_value("And then?")
    cells.nth(5).fill("You are there.")
    page.locator("#write-use").click()
    expect(page.locator("#data-source")).to_contain_text("my-examples.jsonl")
    expect(page.locator("#conversation-chat")).to_contain_text("How far?")
    with page.expect_download() as download:
        page.locator("#write-download").click()
    assert read_jsonl(Path(download.value.path()))[1] == {
        "messages": [
            {"role": "system", "content": "You know the way."},
            {"role": "user", "content": "Where to?"},
            {"role": "assistant", "content": 'Over the "hill",\nthen left.'},
        ]
    }
    expect(cells).to_have_count(6)

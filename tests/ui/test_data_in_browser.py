"""The Data tab in Chromium: a messy table is uploaded, its columns named, its faults fixed, and trained on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from sft_app.runs.directory import list_runs
from sft_app.runtime.files import read_jsonl
from tests.data.sources.test_sheets import xlsx as write_workbook
from tests.ui.test_browser import fill_settings


@pytest.fixture
def messy_csv(tmp_path: Path) -> Path:
    """64 records: Windows-1252, semicolons, a copy, a near copy, a cut row, an empty answer, HTML, an address."""
    names = ["lilies", "ferns", "roses", "tulips", "herbs", "mosses", "shrubs"]
    lines = ["Nr;Betreff;Kunde schreibt;Wir schreiben;Team"]
    for number in range(57):
        plant = names[number % 7]
        asked = (
            f"My {plant} of order {number} stand in the {number * 3}th row of the garden and look rather tired today"
        )
        said = f"Water the {plant} {number} times, then wait {number * 2} days, we are here if they do not get up again"
        lines.append(f"{number};Frage;{asked};{said};Nord")
    lines += [
        lines[4],
        lines[8].replace("order 7", "order 70"),
        '59;Frage;"Is it <b>safe</b>&nbsp;?";<p>Yes, it is safe for cats.</p>;Nord',
        "60;Frage;Whom do I ask?;Write to jane.doe@garden-shop.co.uk about it;Nord",
        "61;Frage;Nobody answers this one;;Nord",
        "62;Frage;Too many;cells;here;now",
    ]
    path = tmp_path / "garden shop.csv"
    path.write_bytes("\r\n".join(lines).encode() + "\r\n63;Frage;Für Müller?;Ja, für Müller.;Nord\r\n".encode("cp1252"))
    return path


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def finding(page: Page, text: str) -> Locator:
    return page.locator("#findings li").filter(has_text=text)


def upload(page: Page, file: Path) -> None:
    page.locator("#upload input[type=file], input[type=file]").first.set_input_files(file)


@pytest.mark.starter
def test_from_a_messy_table_to_a_run_on_its_cleaned_copy(
    server: Any, quiet_page: Page, messy_csv: Path, tiny_model_dir: Path
) -> None:
    page = quiet_page
    page.goto(server.url)
    expect(page.locator("#findings")).to_contain_text("No problems found", timeout=60_000)

    upload(page, messy_csv)
    expect(page.locator("#data-source")).to_contain_text("garden shop.csv")
    expect(page.locator("#data-facts")).to_contain_text("62")
    choose(page, "map-user", "Betreff")
    expect(page.locator("#conversation-chat")).to_contain_text("Frage")
    choose(page, "map-user", "Kunde schreibt")
    choose(page, "map-assistant", "Wir schreiben")
    choose(page, "map-system", "Team")
    expect(page.locator("#conversation-chat")).to_contain_text("Nord")
    choose(page, "map-system", "(none)")
    expect(page.locator("#data-facts")).to_contain_text("Kunde schreibt → Wir schreiben")
    expect(page.locator("#data-facts")).to_contain_text("64, 2 skipped")
    expect(page.locator("#left-out")).to_contain_text("row 62")
    expect(page.locator("#left-out")).to_contain_text("row 63")

    findings = page.locator("#findings")
    expect(finding(page, "the same as an earlier row")).to_contain_text("row 58", timeout=60_000)
    expect(finding(page, "HTML tags or entities")).to_contain_text("row 60")
    expect(finding(page, "e-mail address")).to_contain_text("row 61")
    expect(findings).to_contain_text("Windows-1252")

    page.get_by_label("Convert HTML to plain text").check()
    page.locator("#make-copy").click()
    expect(page.locator("#cleaned")).to_contain_text("Remove exact duplicates: 1 row")
    expect(page.locator("#data-source")).to_contain_text("garden shop-cleaned.jsonl")
    expect(page.locator("#data-facts")).to_contain_text("61, none skipped")
    expect(findings).not_to_contain_text("HTML", timeout=60_000)
    expect(findings).not_to_contain_text("e-mail")
    with page.expect_download() as download:
        page.locator("#save-copy").click()
    assert len(read_jsonl(Path(download.value.path()))) == 61

    page.locator("#back").click()
    expect(page.locator("#data-source")).to_contain_text("garden shop.csv")
    expect(page.locator("#data-facts")).to_contain_text("Kunde schreibt → Wir schreiben")
    page.get_by_label("Convert HTML to plain text").check()
    page.locator("#make-copy").click()
    expect(page.locator("#data-source")).to_contain_text("garden shop-cleaned1.jsonl")

    page.locator("#to-train").click()
    page.locator("#model input").fill(str(tiny_model_dir))
    page.locator("#model input").press("Enter")
    fill_settings(page, {"max_steps": "2", "max_length": "256", "max_new_tokens": "4", "general_prompts": "2"})
    page.locator("#start").click()
    expect(page.locator("#run-status")).to_contain_text("Finished", timeout=120_000)
    run = list_runs(server.home)[0]
    trained = read_jsonl(run.train_file) + read_jsonl(run.heldout_file)
    assert len(trained) == 61
    answers = [row["messages"][-1]["content"] for row in trained]
    assert "Write to [email] about it" in answers and "Yes, it is safe for cats." in answers


def test_the_second_reading_of_a_table_can_be_chosen(module_server: Any, quiet_page: Page, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    lines = [f"What is {n} and {n}?,It is {2 * n} and never anything else" for n in range(12)]
    table.write_text("\n".join(["left,right", *lines]))
    page = quiet_page
    page.goto(module_server.url)
    upload(page, table)
    expect(page.locator("#guess")).to_contain_text("Two layouts are possible")
    expect(page.locator("#data-facts")).to_contain_text("left → right")
    page.get_by_label("right → left").check()
    expect(page.locator("#data-facts")).to_contain_text("right → left")


def test_the_page_asks_who_of_the_speakers_is_the_assistant(
    module_server: Any, quiet_page: Page, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    asked = (("Tom", "Where is it?"), ("Ida", "Is it dead?"))
    rows = [{"turns": [{"speaker": who, "text": said}, {"speaker": "Nell", "text": "Not yet."}]} for who, said in asked]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = quiet_page
    page.goto(module_server.url)
    upload(page, chats)
    expect(page.locator("#data-facts")).to_contain_text("Which of them is the assistant?")
    page.get_by_label("Nell: “Not yet.”").check()
    expect(page.locator("#data-facts")).to_contain_text("Conversations")
    expect(page.locator("#conversation-chat")).to_contain_text("Where is it?")
    expect(page.locator("#who-answers")).to_be_hidden()
    page.locator("#use-example").click()
    expect(page.locator("#data-facts")).to_contain_text("252")


def test_another_sheet_of_a_workbook_can_be_chosen(module_server: Any, quiet_page: Page, tmp_path: Path) -> None:
    book = write_workbook(
        tmp_path / "shop.xlsx",
        {"Orders": [["question", "answer"], ["Is it late?", "A little."]], "Care": [["q", "a"], ["Water?", "Weekly."]]},
    )
    page = quiet_page
    page.goto(module_server.url)
    upload(page, book)
    expect(page.get_by_label("Orders", exact=True)).to_be_checked()
    expect(page.locator("#conversation-chat")).to_contain_text("A little.")
    page.get_by_label("Care", exact=True).check()
    expect(page.locator("#conversation-chat")).to_contain_text("Weekly.")
    page.locator("#use-example").click()
    expect(page.locator("#sheets")).to_be_hidden()


def test_a_file_that_cannot_be_read_is_told_in_a_sentence(module_server: Any, quiet_page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "photo.parquet"
    broken.write_bytes(b"\x89PNG not a table")
    page = quiet_page
    page.goto(module_server.url)
    upload(page, broken)
    expect(page.locator("#data-facts")).to_contain_text("photo.parquet")
    expect(page.locator("#data-facts")).to_contain_text("parquet")
    page.locator("#use-example").click()
    expect(page.locator("#data-facts")).to_contain_text("252")


def test_rows_are_pasted_a_file_is_dropped_and_both_are_recent(module_server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(module_server.url)
    page.locator("#paste-rows button").first.click()
    page.locator("#use-pasted").click()
    expect(page.locator(".toast-body")).to_contain_text("Paste some rows first")
    page.locator("#pasted-rows textarea").fill("question\tanswer\nWhere is it?\tOn its way.\nIs it well?\tIt is.")
    page.locator("#use-pasted").click()
    expect(page.locator("#data-source")).to_contain_text("pasted.tsv")
    expect(page.locator("#conversation-chat")).to_contain_text("On its way.")

    file = page.evaluate_handle(
        """() => {
            const moved = new DataTransfer();
            moved.items.add(new File(['prompt,completion\\nHi,Hello there\\nBye,See you'], 'dropped.csv'));
            return moved;
        }"""
    )
    page.dispatch_event("#data-facts", "dragover", {"dataTransfer": file})
    expect(page.locator("html")).to_have_class(re.compile("ft-dropping"))
    page.dispatch_event("#data-facts", "drop", {"dataTransfer": file})
    expect(page.locator("html")).not_to_have_class(re.compile("ft-dropping"))
    expect(page.locator("#data-source")).to_contain_text("dropped.csv")
    expect(page.locator("#conversation-chat")).to_contain_text("Hello there")

    page.locator("#recent-files button").first.click()
    expect(page.get_by_label("dropped.csv (today")).to_be_checked()
    page.get_by_label("pasted.tsv (today").check()
    expect(page.locator("#data-source")).to_contain_text("pasted.tsv")


def test_a_wrong_data_set_id_is_told_in_a_sentence(module_server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(module_server.url)
    page.locator("#hub button").first.click()
    page.locator("#hub-id input, #hub-id textarea").first.fill("json")
    page.locator("#fetch").click()
    expect(page.locator(".toast-body")).to_contain_text("json")


# Requests leave in another order than they were asked: every second one a second late.
LATE_REQUESTS = """() => {
    const send = window.fetch.bind(window);
    let asked = 0;
    window.fetch = async (to, how) => {
        if (String(to?.url ?? to).includes('queue/join') && asked++ % 2 === 0)
            await new Promise(go => setTimeout(go, 1000));
        return send(to, how);
    };
}"""


@pytest.mark.starter
def test_the_page_ends_with_the_last_choice_however_late_the_answers_to_earlier_ones_come(
    module_server: Any, quiet_page: Page, messy_csv: Path
) -> None:
    page = quiet_page
    page.goto(module_server.url)
    upload(page, messy_csv)
    expect(page.locator("#data-facts")).to_contain_text("62", timeout=20_000)
    page.evaluate(f"({LATE_REQUESTS})()")
    for field, option in [
        ("map-user", "Betreff"),
        ("map-assistant", "Team"),
        ("map-user", "Kunde schreibt"),
        ("map-system", "Betreff"),
        ("map-assistant", "Wir schreiben"),
        ("map-system", "(none)"),
    ]:
        choose(page, field, option)
    page.locator("#conversation-number input").fill("3")
    expect(page.locator("#conversation-chat")).to_contain_text("row of the garden", timeout=20_000)
    expect(page.locator("#data-facts")).to_contain_text("Kunde schreibt → Wir schreiben", timeout=20_000)
    expect(finding(page, "HTML tags or entities")).to_contain_text("row 60", timeout=60_000)
    for field, option in [("map-user", "Kunde schreibt"), ("map-assistant", "Wir schreiben"), ("map-system", "(none)")]:
        expect(page.locator(f"#{field} input")).to_have_value(option)
    expect(page.locator("#conversation-number input")).to_have_value("3")
    page.get_by_label("Convert HTML to plain text").check()
    page.locator("#use-example").click()
    expect(page.locator("#findings")).to_contain_text("No problems found", timeout=60_000)
    expect(page.locator("#data-facts")).to_contain_text("252")


@pytest.mark.starter
def test_a_fix_that_is_ticked_and_then_hidden_stands_in_the_way_of_nothing(
    server: Any, quiet_page: Page, messy_csv: Path
) -> None:
    page = quiet_page
    page.goto(server.url)
    upload(page, messy_csv)
    expect(page.get_by_label("Convert HTML to plain text")).to_be_visible(timeout=60_000)
    page.locator("#make-copy").click()
    expect(page.locator("#data-source")).to_contain_text("garden shop-cleaned.jsonl", timeout=20_000)
    expect(page.locator("#findings")).not_to_contain_text("e-mail", timeout=60_000)
    boxes = page.locator("#fixes input[type=checkbox]")
    for box in boxes.all():
        box.check()
    page.locator("#make-copy").click()
    expect(page.locator("#data-source")).to_contain_text("garden shop-cleaned-cleaned.jsonl", timeout=20_000)
    expect(page.locator("#findings")).not_to_contain_text("HTML", timeout=60_000)
    expect(page.locator("#fixes")).to_be_hidden()
    page.locator("#to-train").click()
    page.locator("#all-settings button").first.click()
    page.locator("#seed input").fill("7")
    page.get_by_role("tab", name="Data", exact=True).click()
    page.locator("#conversation-number input").fill("2")
    expect(page.locator("#token-note")).to_contain_text("The model is trained on", timeout=60_000)
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)


@pytest.mark.starter
def test_a_conversation_that_is_not_there_is_told_and_the_nearest_shown(module_server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(module_server.url)
    for asked, shown in [("0", 1), ("999", 252), ("-3", 1)]:
        page.locator("#conversation-number input").fill(asked)
        told = f"There is no conversation {asked}, so this is number {shown}. Choose a number from 1 to 252."
        expect(page.locator("#token-note")).to_contain_text(told, timeout=60_000)
        expect(page.locator(".toast-body")).to_have_count(0)
        expect(page.get_by_text("Error", exact=True)).to_have_count(0)

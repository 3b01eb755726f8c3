"""A copy edited by hand differs from its source in exactly what was edited, and its record says so."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.edits import (
    Change,
    Edits,
    can_be_edited,
    edited,
    fingerprint,
    new_conversation,
    write_edited_copy,
)
from sft_app.data.checkup.fixes import AppliedFix, cleaning_history, read_cleaning, write_cleaned_copy
from sft_app.data.checkup.pages import PAGE_EXAMPLES, index_of_row, read_page
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import DataFile, load_data, open_data
from sft_app.errors import DataError
from sft_app.settings import DataSettings
from tests.data.checkup.test_fixes import open_file, row, rows_of

CALL = {"name": "weather", "arguments": {"city": "Jena", "days": None}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
RICH = [
    row("One?", "First."),
    {
        "messages": [
            {"role": "system", "content": "Be brief.", "tools": TOOLS},
            {"role": "user", "content": "How is the\r\nweather?"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
            {"role": "tool", "content": '{"sky": "blue"}', "name": "weather", "tool_call_id": "c1"},
            {"role": "assistant", "content": "Blue."},
        ]
    },
    {
        "messages": [
            {"role": "system", "content": " Be kind. "},
            {"role": "assistant", "content": "Hello, I am Nell."},
            {"role": "user", "content": "Two?"},
            {"role": "assistant", "content": "Wrong.", "weight": 0},
            {"role": "user", "content": "Again?"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSecond."},
        ]
    },
    "{ broken",
    row("Three?", "Third."),
]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., DataFile]:
    def opened(rows: list[Any]) -> DataFile:
        path = tmp_path / "shop.jsonl"
        path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in rows))
        return open_file(path)

    return opened


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., tuple[list[AppliedFix], list[Any]]]:
    """Save changes (removed, or new texts) by index, and return what the record lists and the rows of the copy."""

    def save(file: DataFile, changes: dict[int, dict[int, str] | None], *added: Any) -> Any:
        was = [fingerprint(example.conversation) for example in load_data(file).examples]
        edits = Edits(
            {index: Change(was[index], texts or {}, texts is None) for index, texts in changes.items()}, list(added)
        )
        copy = tmp_path / "copy.jsonl"
        return write_edited_copy(file, edits, copy).applied, rows_of(copy)

    return save


def test_copy_differs_in_exactly_what_was_edited(opened: Any, save: Any, tmp_path: Path):
    file = opened(RICH)
    write_cleaned_copy(file, (), tmp_path / "plain.jsonl")
    expected = rows_of(tmp_path / "plain.jsonl")
    new = new_conversation("Line 1", {"user": "Four?", "assistant": "Fourth.\r\n", "system": ""})
    applied, rows = save(file, {0: None, 1: {4: "Blue!"}, 2: {5: "<think>\nso\n</think>\n\nTwo."}}, new)
    expected[1]["messages"][4]["content"] = "Blue!"
    expected[2]["messages"][5]["content"] = "<think>\nso\n</think>\n\nTwo."
    assert rows == [*expected[1:], row("Four?", "Fourth.")]
    assert rows[0]["messages"][2]["structure"]["tool_calls"] == [{"type": "function", "function": CALL}]
    assert [message.get("weight") for message in rows[1]["messages"]] == [None, 0, None, 0, None, None]
    assert applied == [AppliedFix("edited", [2, 3]), AppliedFix("removed", [1]), AppliedFix("added", [4])]
    cleaning = read_cleaning(tmp_path / "copy.jsonl")
    assert cleaning is not None and [left.row for left in cleaning.left_out] == [4]


def test_any_edits_change_nothing_else(opened: Any, save: Any):
    file = opened([row(f"Question {n}?", f"Answer {n}.") for n in range(40)])
    for seed in range(20):
        choice = random.Random(seed)
        touched = choice.sample(range(40), choice.randint(1, 12))
        changes: dict[int, Any] = {n: choice.choice([None, {0: f"Q{n}"}, {1: f"A{n}"}]) for n in touched}
        _, rows = save(file, changes)
        left = [n for n in range(40) if changes.get(n, {}) is not None]
        assert len(rows) == len(left)
        for n, saved in zip(left, rows, strict=True):
            texts = changes.get(n, {})
            assert saved == row(texts.get(0, f"Question {n}?"), texts.get(1, f"Answer {n}."))


def test_text_that_is_the_same_again_is_no_edit(opened: Any, save: Any):
    applied, rows = save(opened(RICH), {1: {1: "How is the\nweather?"}, 3: {1: "3."}})
    assert applied == [AppliedFix("edited", [5])]
    assert rows[1]["messages"][1]["content"] == "How is the\r\nweather?"


def test_turn_is_removed_by_clearing_its_question_and_its_answer(opened: Any, save: Any):
    _, rows = save(opened(RICH), {2: {0: "", 2: "", 3: " "}})
    assert [message["content"] for message in rows[2]["messages"]] == [
        "Hello, I am Nell.",
        "Again?",
        "<think>\nhm\n</think>\n\nSecond.",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({0: {0: " "}}, r"Row 1 has an answer without a question\. Write the question, or clear the answer too"),
        ({2: {5: ""}}, r"Row 3 has a question without an answer\. Write the answer, or clear the question too"),
        ({3: {0: "", 1: ""}}, r"Row 5 is empty\. Write something, or remove the row\."),
        ({1: {2: "no call"}}, r"Row 2 contains tools, which cannot be edited here\. Discard this change\."),
        ({1: {9: "no message"}}, "Row 2 contains tools"),
        ({2: {5: "<think>\nhm Second."}}, r"The thought in row 3 has no end\. Write </think> after it"),
        ({0: None, 1: None, 2: None, 3: None}, r"Every example would be removed\. Keep at least one\."),
        ({}, r"There is nothing to save yet\."),
    ],
)
def test_edit_that_cannot_be_used_is_refused_and_nothing_is_written(
    opened: Any, save: Any, tmp_path: Path, changes: Any, said: str
):
    with pytest.raises(DataError, match=f"^{said}"):
        save(opened(RICH), changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.jsonl"]


@pytest.mark.parametrize("rows", [[row("Other?", "First.")], []], ids=["another row", "a shorter file"])
def test_file_that_changed_meanwhile_is_not_edited(opened: Any, tmp_path: Path, rows: list[Any]):
    before = load_data(opened([row("Zero?", "None."), row("One?", "First.")])).conversations[1]
    file = opened([row("Zero?", "None."), *rows])
    with pytest.raises(DataError, match=r"shop\.jsonl is no longer the file that you edited, so nothing was saved"):
        write_edited_copy(file, Edits({1: Change(fingerprint(before), {1: "1."})}), tmp_path / "copy.jsonl")
    assert not (tmp_path / "copy.jsonl").exists()


def test_source_is_never_overwritten(opened: Any):
    file = opened([row("One?", "First.")])
    with pytest.raises(DataError, match="would overwrite the source"):
        write_edited_copy(file, Edits({}, load_data(file).conversations), file.path)


def test_history_leads_from_a_copy_of_a_copy_to_the_original(opened: Any, tmp_path: Path):
    copies = [tmp_path / f"copy{number}.jsonl" for number in range(3)]
    file = opened([row("One?", "First."), row("One?", "First."), row("Two?", "Second.")])
    write_cleaned_copy(file, ["drop_duplicates"], copies[0])
    for source, copy in zip(copies, copies[1:], strict=False):
        conversation = load_data(open_file(source)).conversations[1]
        write_edited_copy(open_file(source), Edits({1: Change(fingerprint(conversation), {1: copy.name})}), copy)
    history = cleaning_history(copies[-1])
    assert [Path(cleaning.source).name for cleaning in history] == ["shop.jsonl", "copy0.jsonl", "copy1.jsonl"]
    assert [fix.sentence() for cleaning in history for fix in cleaning.applied] == [
        "Remove exact duplicates: 1 row",
        "Edited by hand: 1 row",
        "Edited by hand: 1 row",
    ]
    assert cleaning_history(file.path) == []


def test_records_that_name_each_other_end(opened: Any, tmp_path: Path):
    path = tmp_path / "a.jsonl"
    record = {"source": str(path), "settings": {}, "applied": [], "left_out": []}
    (tmp_path / "a.jsonl.cleaning.json").write_text(json.dumps(record))
    assert cleaning_history(path)


def test_file_larger_than_memory_is_edited_row_by_row(tmp_path: Path):
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for number in range(30_000):
            file.write(json.dumps(row(f"Question {number}?", f"Answer {number}. " + "word " * 100)) + "\n")
    source = open_data(DataSettings(data=str(path)), tmp_path)
    was = fingerprint(make_conversation(row("Question 29999?", "Answer 29999. " + "word " * 100)["messages"]))
    tracemalloc.start()
    applied = write_edited_copy(source, Edits({29_999: Change(was, {1: "Last."})}), tmp_path / "copy.jsonl").applied
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert applied == [AppliedFix("edited", [30_000])]
    assert peak < 3 * 2**20 < path.stat().st_size


# what can be edited, and what is new


def test_tools_are_not_edited_and_all_else_is():
    conversation = make_conversation(RICH[1]["messages"])
    assert [can_be_edited(message) for message in conversation.messages] == [False, True, False, False, True]
    written = make_conversation(row("Call", '<tool_call>\n{"name": "a"}\n</tool_call>')["messages"])
    assert [can_be_edited(message) for message in written.messages] == [True, False]


def test_conversation_without_a_real_change_stays_as_it_is():
    conversation = make_conversation(RICH[2]["messages"])
    assert edited(3, conversation, {0: " Be kind. "}) is conversation


def test_new_texts_become_a_conversation():
    new = new_conversation("Line 1", {"system": "Be kind.", "user": " One?\r\n", "assistant": "First."})
    assert new is not None and new.as_dicts() == [
        {"role": "system", "content": "Be kind."},
        *row("One?", "First.")["messages"],
    ]
    text = new_conversation("Line 1", {"text": "Once upon a time"})
    assert text is not None and text.is_text()
    assert new_conversation("Line 1", {"system": "Be kind.", "user": " ", "assistant": "\n"}) is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"user": "One?", "assistant": " "}, r"Line 2 has a question but no answer\. Write the answer"),
        ({"user": "", "assistant": "First."}, r"Line 2 has an answer but no question\. Write the question"),
        ({"user": "One?", "assistant": "\ud83d"}, "Line 2 cannot be used: message 2 .* incomplete character"),
    ],
)
def test_new_example_that_is_not_complete_is_refused(texts: dict[str, str], said: str):
    with pytest.raises(DataError, match=f"^{said}"):
        new_conversation("Line 2", texts)


# pages


def test_pages_together_are_the_whole_file(opened: Any):
    file = opened([row(f"Question {n}?", "Yes.") for n in range(2 * PAGE_EXAMPLES + 5)])
    for most in (None, 30):
        loaded, seen, first = load_data(file, most), [], 0
        while first is not None:
            page = read_page(loaded, first)
            seen += [example.row for example in page.examples]
            first = page.next
        assert seen == list(range(1, 2 * PAGE_EXAMPLES + 6)), most


def test_page_ends_early_if_its_texts_are_long(opened: Any):
    loaded = load_data(opened([row(f"Question {n}?", "long " * 50_000) for n in range(3)]))
    page = read_page(loaded, 0)
    assert ([example.row for example in page.examples], page.next) == ([1], 1)


def test_page_after_the_last_is_the_last_example(opened: Any):
    loaded = load_data(opened([row(f"Question {n}?", "Yes.") for n in range(3)]))
    assert (read_page(loaded, 99).first, read_page(loaded, -1).first) == (2, 0)


@pytest.mark.parametrize("most", [None, 2])
def test_row_is_found_or_the_next_usable_one(opened: Any, most: int | None):
    loaded = load_data(opened([row("0", "Yes."), "{", row("1", "Yes."), row("2", "Yes."), row("3", "Yes.")]), most)
    assert [index_of_row(loaded, number) for number in (1, 2, 3, 5, 9)] == [0, 1, 1, 3, 3]

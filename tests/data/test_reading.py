"""A file becomes conversations in one pass; every row is used or told, and nothing is kept in memory."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.reading import DataFile, Reading, load_data, open_data
from sft_app.data.rows import Rejected
from sft_app.errors import DataError
from sft_app.settings import DataSettings

ASK = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Yo!"}


def talk(*messages: dict[str, str]) -> dict[str, Any]:
    return {"messages": list(messages)}


GOOD = talk(ASK, ANSWER)
EMPTY = talk(ASK, {"role": "assistant", "content": " "})
TWO_QUESTIONS = talk(ASK, {"role": "user", "content": "Hello?"}, ANSWER)
BROKEN = '{"messages": '


@pytest.fixture
def open_rows(tmp_path: Path) -> Callable[..., DataFile]:
    """Rows as JSON lines, opened; a text stands in the file as it is."""

    def open_rows(rows: list[Any], name: str = "a.jsonl", **settings: Any) -> DataFile:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return open_data(DataSettings(data=str(path), **settings), tmp_path)

    return open_rows


# rows


def test_every_row_is_an_example_or_told(open_rows: Any):
    reading = Reading(open_rows([GOOD, BROKEN, GOOD, EMPTY, {"other": 1}, GOOD]))
    assert [example.row for example in reading] == [1, 3, 6]
    assert [row.row for row in reading.rejected] == [2, 4, 5]
    assert [row.reason for row in reading.rejected[1:]] == [
        "message 2 (assistant) is empty",
        "`messages` must be a list with at least one message",
    ]
    assert reading.rows == 6


def test_random_rows_are_each_an_example_or_told(open_rows: Any):
    chance = random.Random(1)
    kinds = [GOOD, BROKEN, EMPTY, TWO_QUESTIONS, {}, [], "7", talk(), talk(ANSWER), {"messages": [None]}]
    for repair in (False, True):
        reading = Reading(open_rows([GOOD, *chance.choices(kinds, k=300)]), repair=repair)
        used = {example.row for example in reading}
        told = {row.row for row in reading.rejected}
        assert used | told == set(range(1, 302))
        assert used & told == set()


def test_row_with_several_conversations_gives_them_all_with_its_number(open_rows: Any):
    tree = {"prompt": {"text": "Hi", "role": "prompter", "replies": []}}
    tree["prompt"]["replies"] = [{"text": text, "role": "assistant", "replies": []} for text in ("Yo!", "Hey.")]
    examples = list(Reading(open_rows([tree, tree], reply_paths="all")))
    assert [(example.row, example.conversation.answers()) for example in examples] == [
        (1, ["Yo!"]),
        (1, ["Hey."]),
        (2, ["Yo!"]),
        (2, ["Hey."]),
    ]


def test_flat_tree_gives_the_row_of_the_last_message_and_tells_the_others(open_rows: Any):
    def message(id: str, parent: str | None, role: str, text: str) -> dict[str, Any]:
        return {"message_id": id, "parent_id": parent, "role": role, "text": text}

    rows = [
        message("q", None, "prompter", "Hi"),
        message("a", "q", "assistant", "Yo!"),
        message("b", "q", "assistant", "Hey."),
        message("x", "gone", "assistant", "Lost."),
    ]
    file = open_rows(rows)
    reading = Reading(file)
    assert [(example.row, example.conversation.spoken()) for example in reading] == [(2, "Hi\nYo!")]
    assert file.joins_rows
    assert {row.row: row.by_choice for row in reading.rejected} == {3: True, 4: False}


def test_row_that_the_settings_leave_out_is_told_as_their_choice(open_rows: Any):
    problems = [
        {"description": "Add.", "solutions": {"language": [language], "solution": ["x"]}} for language in (3, 2)
    ]
    reading = Reading(open_rows(problems))
    assert [example.row for example in reading] == [1]
    assert reading.rejected == [Rejected(2, "it has no solution in Python 3", by_choice=True)]


def test_row_whose_encoding_was_guessed_is_noted(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nWo?,Hier.\nCafé?,Nein.\n".encode("cp1252"))
    reading = Reading(open_data(DataSettings(data=str(path)), tmp_path))
    assert [example.conversation.question() for example in reading] == ["Wo?", "Café?"]
    assert list(reading.noted) == ["read as Windows-1252 (check the accents)"]
    assert len(reading.noted["read as Windows-1252 (check the accents)"]) >= 1


def test_max_rows_counts_the_rows_of_the_file(open_rows: Any):
    reading = Reading(open_rows([GOOD, BROKEN, GOOD, GOOD], max_rows=3))
    assert [example.row for example in reading] == [1, 3]
    assert (reading.rows, [row.row for row in reading.rejected]) == (3, [2])


# mending


def test_rows_that_can_be_mended_are_left_out_and_named(open_rows: Any):
    reading = Reading(open_rows([GOOD, TWO_QUESTIONS, EMPTY, BROKEN]))
    assert [example.row for example in reading] == [1]
    assert reading.repairable == [2]
    assert [row.row for row in reading.rejected] == [2, 3, 4]


def test_mended_rows_are_used_and_the_others_left_as_they_are(open_rows: Any):
    reading = Reading(open_rows([GOOD, TWO_QUESTIONS, EMPTY]), repair=True)
    assert [(example.row, example.conversation.as_dicts()) for example in reading] == [
        (1, [ASK, ANSWER]),
        (2, [{"role": "user", "content": "Hi\n\nHello?"}, ANSWER]),
    ]
    assert (reading.repairable, [row.row for row in reading.rejected]) == ([2], [3])


def test_row_with_several_conversations_to_mend_is_named_once(open_rows: Any):
    empty_between = [{"text": "Ah", "role": "assistant", "replies": [{"text": " ", "role": "prompter", "replies": []}]}]
    for reply in empty_between:
        reply["replies"][0]["replies"] = [{"text": text, "role": "assistant", "replies": []} for text in ("So", "No")]
    tree = {"prompt": {"text": "Hi", "role": "prompter", "replies": empty_between}}
    reading = Reading(open_rows([tree], reply_paths="all"))
    assert list(reading) == []
    assert reading.repairable == [1]


# memory


def test_reading_keeps_nothing(open_rows: Any):
    """Four times the rows need no more memory: 2 MB are read in one, 8 MB in the other."""
    peaks = []
    for rows in (1000, 4000):
        file = open_rows([talk(ASK, {"role": "assistant", "content": f"{row} " + "x" * 2000}) for row in range(rows)])
        tracemalloc.start()
        assert sum(1 for _ in Reading(file)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000
    assert peaks[1] < 4_000_000


def test_progress_rises_to_the_whole(open_rows: Any):
    told: list[float] = []
    list(Reading(open_rows([GOOD] * 500), told.append))
    assert told == sorted(told)
    assert told[-1] == 1.0


# opening


@pytest.mark.parametrize(
    ("row", "format", "columns"),
    [
        (GOOD, "messages", ()),
        ({"prompt": "Hi", "completion": "Yo!"}, "prompt_completion", ()),
        ({"instruction": "Hi", "output": "Yo!", "input": ""}, "alpaca", ()),
    ],
)
def test_layout_is_decided_on_opening(open_rows: Any, row: Any, format: str, columns: tuple[str, ...]):
    file = open_rows([row] * 2)
    assert (file.settings.format, file.settings.columns) == (format, columns)
    assert file.candidates[0].format == format


def test_named_columns_decide_the_layout(open_rows: Any):
    rows = [{"x": f"question {n} of mine", "y": f"answer {n} to it"} for n in range(3)]
    file = open_rows(rows, columns=("user=y", "assistant=x"))
    assert file.settings.format == "columns"
    assert [example.conversation.spoken() for example in Reading(file)][0] == "answer 0 to it\nquestion 0 of mine"


def test_given_layout_is_taken_where_nothing_can_be_guessed(open_rows: Any):
    file = open_rows([{"x": 1, "y": 2}], format="alpaca")
    assert (file.settings.format, file.candidates) == ("alpaca", [])


def test_file_without_a_readable_row_is_told(open_rows: Any):
    with pytest.raises(DataError, match=r"^a\.jsonl has no readable row\. Row 1: not valid JSON"):
        open_rows([BROKEN])


def test_broken_first_rows_do_not_hide_the_layout(open_rows: Any):
    assert open_rows([BROKEN, "7", GOOD]).settings.format == "messages"


# loading


@pytest.mark.parametrize(
    ("most", "rows", "is_whole"), [(None, [1, 2, 4], True), (3, [1, 2, 4], True), (2, [1, 2], False)]
)
def test_first_examples_are_loaded(open_rows: Any, most: int | None, rows: list[int], is_whole: bool):
    loaded = load_data(open_rows([GOOD, GOOD, EMPTY, GOOD]), most)
    assert [example.row for example in loaded.examples] == rows
    assert loaded.is_whole == is_whole
    assert len(loaded.conversations) == len(rows)


def test_file_without_a_conversation_is_told_with_its_first_reason(open_rows: Any):
    with pytest.raises(
        DataError,
        match=r"^a\.jsonl has no usable conversation\. Row 1: message 2 \(assistant\) is empty\. 1 row can be fixed",
    ):
        load_data(open_rows([EMPTY, TWO_QUESTIONS]))


def test_the_command_that_repairs_a_file_names_it_as_the_person_did(tmp_path: Path):
    path = tmp_path / "my shop" / "a.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(TWO_QUESTIONS) + "\n")
    with pytest.raises(DataError, match=re.escape(f"run `inspect '{path}' --fix --out fixed.jsonl`")):
        load_data(open_data(DataSettings(data=str(path)), tmp_path))


@pytest.mark.parametrize("name", ["label", "kinds"])
def test_a_file_that_has_changed_is_looked_at_again(open_rows: Callable[..., DataFile], name: str) -> None:
    """As long as it is the same, its first rows are looked at once, whatever is chosen; another name is as long."""

    def rows(column: str) -> list[Any]:
        return [{"prompt": f"Where is parcel {i}?", "completion": "On its way.", column: "a"} for i in range(4)]

    open_rows(rows("other"))
    assert open_rows(rows(name)).column_names == ["prompt", "completion", name]


def test_a_column_that_is_first_filled_late_is_named(tmp_path: Path):
    rows = [{"question": f"Question {n}?", "answer": f"Answer {n} is long.", "tone": ""} for n in range(250)]
    rows[240] |= {"tone": "calm and kind", "history": "User: Hi\nBot: Hello"}
    path = tmp_path / "late.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    notes = open_data(DataSettings(data=str(path)), tmp_path).notes
    late = [note for note in notes if "up to row 200" in note]
    assert len(late) == 1
    assert "`tone`" in late[0]
    assert "history" not in late[0]

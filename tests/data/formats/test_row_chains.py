"""Rows that name the row they continue become one conversation, each answer learnt once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.settings import DataSettings

PLANTS = [
    ("m2", "m1", "And how often?", "Every third day."),
    ("m1", "", "How do I water a fern?", "With soft water."),
    ("m3", "m1", "And in winter?", "Half as much."),
    ("m4", "", "Which pot?", "One with a hole."),
]


def loaded(folder: Path, rows: list[tuple[str, ...]], header: str = "id,parent_id,question,answer") -> LoadedData:
    path = folder / "chain.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return load_data(open_data(DataSettings(data=str(path)), folder))


def chats(data: LoadedData) -> list[list[str]]:
    return [
        [f"{'(context) ' * (not one.trained)}{one.content}" for one in conversation.messages]
        for conversation in data.conversations
    ]


def test_rows_follow_their_parents_and_a_shared_answer_is_learnt_once(tmp_path: Path) -> None:
    data = loaded(tmp_path, PLANTS)
    assert chats(data) == [
        ["How do I water a fern?", "With soft water.", "And how often?", "Every third day."],
        ["How do I water a fern?", "(context) With soft water.", "And in winter?", "Half as much."],
        ["Which pot?", "One with a hole."],
    ]
    assert "`parent_id` names the row that a row continues" in data.file.notes[0]
    assert not any("Not used" in note for note in data.file.notes)


def test_row_without_its_beginning_is_named(tmp_path: Path) -> None:
    data = loaded(tmp_path, [*PLANTS, ("m5", "m9", "And then?", "Wait."), ("m6", "m5", "How long?", "A week.")])
    assert [(one.row, one.by_choice) for one in data.rejected] == [(5, False), (6, False)]
    assert "`parent_id` 'm9'" in data.rejected[0].reason


def test_ids_that_pandas_wrote_as_floats_are_the_same(tmp_path: Path) -> None:
    data = loaded(tmp_path, [("1", "", "How are you?", "Fine."), ("2", "1.0", "And now?", "Better.")])
    assert chats(data) == [["How are you?", "Fine.", "And now?", "Better."]]


@pytest.mark.parametrize(
    "rows",
    [
        [(str(id), str(id % 2 + 1) if id > 1 else "", f"Question {id}?", f"Answer {id}.") for id in range(1, 9)],
        [("7", "", "How are you?", "Fine."), ("7", "7", "And now?", "Better.")],
        [("1", "8", "How are you?", "Fine."), ("2", "9", "And now?", "Better.")],
    ],
)
def test_categories_and_unknown_parents_join_nothing(rows: list[tuple[str, ...]], tmp_path: Path) -> None:
    data = loaded(tmp_path, rows)
    assert (data.file.chain, len(data.conversations)) == (None, len(rows))
    assert any("`parent_id`" in note for note in data.file.notes)

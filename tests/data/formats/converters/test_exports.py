"""Exports of help desks and annotation tools, batches and ranked answers become conversations, and name the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.formats.converters.exports import EXPORTS, Export, export_of, from_export
from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.errors import DataError, NotChosen, UnclearAssistantError
from sft_app.settings import DataSettings

ASKED = {"custom_id": "r1", "body": {"messages": [{"role": "user", "content": "q"}]}}
ANSWERED = {"custom_id": "r1", "response": {"body": {"choices": [{"message": {"role": "assistant", "content": "a"}}]}}}


def loaded(folder: Path, *rows: dict[str, Any], **settings: Any) -> LoadedData:
    path = folder / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_data(open_data(DataSettings(data=str(path), **settings), folder))


def texts(data: LoadedData) -> list[list[str]]:
    return [[f"{one.role}: {one.content}" for one in chat.messages] for chat in data.conversations]


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)
def test_each_export_is_recognised_and_converted(export: Export) -> None:
    assert export_of(export.example) is export
    (messages,) = from_export(export.example, DataSettings())
    assert messages == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert export.example.keys() <= set(export.columns)


def test_internal_notes_and_last_words_are_left_out_and_counted(tmp_path: Path) -> None:
    said = [(1, "q", True), (2, "ask Imre", False), (2, "a", True), (3, "b", True), (1, "Thanks!", True)]
    comments = [{"author_id": author, "body": text, "public": public} for author, text, public in said]
    data = loaded(tmp_path, {"requester_id": 1, "description": "q", "comments": comments, "subject": "Lid"})
    assert texts(data) == [["user: q", "assistant: a\n\nb"]]
    assert "Internal notes are left out: 1 in the first row." in data.file.notes
    assert "Messages after the last answer are left out: 1 in the first row." in data.file.notes
    assert "Not used: `subject`." in data.file.notes


def test_ticket_without_requester_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`requester_id` and `author_id`"):
        loaded(tmp_path, {"comments": [{"author_id": 1, "body": "q", "public": True}]})


def test_names_of_a_forum_are_asked_about_or_given(tmp_path: Path) -> None:
    posts = [{"username": name, "raw": text} for name, text in (("ana", "q"), ("bo", "a"), ("cy", "no"))]
    with pytest.raises(UnclearAssistantError, match="does not say who of its authors answers. The speakers are “ana”"):
        loaded(tmp_path, {"post_stream": {"posts": posts}})
    assert texts(loaded(tmp_path, {"post_stream": {"posts": posts}}, assistant="Bo")) == [["user: q", "assistant: a"]]


@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_task_that_an_annotator_rejected_is_not_chosen(answer: str) -> None:
    with pytest.raises(NotChosen, match=f"`answer` is {answer}"):
        from_export({"_input_hash": 1, "text": "q", "user_input": "a", "answer": answer}, DataSettings())


def test_lines_of_a_batch_are_joined_and_the_others_named(tmp_path: Path) -> None:
    failed = {"custom_id": "r2", "response": None, "error": {"message": "x"}}
    lines = [ANSWERED, ASKED, {**ASKED, "custom_id": "r3"}, {**ANSWERED, "custom_id": "r4"}]
    data = loaded(tmp_path, *lines)
    assert texts(data) == [["user: q", "assistant: a"]]
    assert [(one.row, one.reason) for one in data.rejected] == [
        (3, "its answer is not in the file"),
        (4, "its question is not in the file"),
    ]
    failing = {"custom_id": "r2", "response": {"status_code": 429}, "error": failed["error"]}
    with pytest.raises(DataError, match="the request failed"):
        loaded(tmp_path, {**ASKED, "custom_id": "r2"}, failing)


@pytest.mark.parametrize(("line", "missing"), [(ASKED, "output file"), (ANSWERED, "input file")])
def test_half_of_a_batch_is_refused_with_the_next_step(line: dict[str, Any], missing: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the lines of the batch's {missing} into this file"):
        loaded(tmp_path, line)


@pytest.mark.parametrize(
    "row",
    [
        {"responses": [{"text": "worse", "rank": 2}, {"text": "a", "rank": 1}]},
        {"responses": [{"text": "worse", "score": 2}, {"text": "a", "score": 9.5}]},
        {"candidates": ["a", "worse"], "scores": [5, 1]},
        {"completions": ["worse", "a"], "ranks": [2, 1]},
    ],
)
def test_best_of_several_answers_is_learnt(row: dict[str, Any], tmp_path: Path) -> None:
    data = loaded(tmp_path, {"prompt": "q", **row})
    assert texts(data) == [["user: q", "assistant: a"]]
    assert "only the best is trained on; 1 others in the first row are left out" in data.file.notes[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"responses": ["a", "b"]}, "nothing says which one is the best"),
        ({"responses": ["a", "b"], "scores": [3, 3]}, "2 of the answers in `responses` are rated best"),
    ],
)
def test_answers_without_a_best_one_are_refused(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, {"prompt": "q", **row})


def test_names_in_tickets_without_ids_are_asked_about(tmp_path: Path) -> None:
    comments = [
        {"author": {"name": name}, "public": name != "eve", "body": text}
        for name, text in (("ana", "Where is it?"), ("eve", "a note"), ("bo", "On its way."))
    ]
    with pytest.raises(UnclearAssistantError) as question:
        loaded(tmp_path, {"comments": comments})
    assert question.value.speakers == {"ana": "Where is it?", "bo": "On its way."}
    answered = loaded(tmp_path, {"comments": comments}, assistant="bo")
    assert [one.content for one in answered.conversations[0].messages] == ["Where is it?", "On its way."]
    with pytest.raises(UnclearAssistantError, match="No message is by 'cy'"):
        loaded(tmp_path, {"comments": comments}, assistant="cy")

"""Which conversations train, choose the weights, and judge them, also with files of one's own for the last two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.reading import open_data
from sft_app.data.split import opening_question
from sft_app.errors import DataError
from sft_app.settings import parse_settings
from sft_app.training.run_data import Part, RunData, divide_data, open_heldout_files

WORDS = [
    "order",
    "parcel",
    "refund",
    "invoice",
    "garden",
    "apple",
    "blue",
    "window",
    "paper",
    "winter",
    "road",
    "river",
    "lamp",
    "stone",
    "cloud",
]


def question(number: int) -> str:
    return (
        " ".join(WORDS[(number * step + number // step) % len(WORDS)] for step in range(2, 12))
        + f" {number} {number * 7}?"
    )


def write(folder: Path, name: str, numbers: Sequence[int]) -> str:
    rows = [
        {"prompt": question(number), "completion": f"Answer {number} about {WORDS[number % 15]}."} for number in numbers
    ]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def divide(folder: Path, tests: Sequence[str] = (), **settings: Any) -> RunData:
    parsed = parse_settings({"data": write(folder, "data.jsonl", range(60)), "heldout_min": 4, **settings})
    opening = [opening_question([("user", test)]) for test in tests]
    return divide_data(open_data(parsed, folder), open_heldout_files(parsed, folder), parsed, opening)


def questions(part: Part | None) -> set[str]:
    return {row["messages"][0]["content"] for row in part.rows()} if part else set()


def asked(numbers: Sequence[int]) -> set[str]:
    return set(map(question, numbers))


def test_without_other_files_some_are_held_out(tmp_path: Path) -> None:
    data = divide(tmp_path)
    assert data.validation is None and data.notes == []
    assert len(questions(data.judging)) == 6
    assert questions(data.train) | questions(data.judging) == asked(range(60))
    assert not questions(data.train) & questions(data.judging)


def test_enough_held_out_are_divided_in_three(tmp_path: Path) -> None:
    data = divide(tmp_path, heldout_fraction=0.5)
    parts = [questions(part) for part in (data.train, data.judging, data.validation)]
    assert list(map(len, parts)) == [30, 20, 10]
    assert set.union(*parts) == asked(range(60))


def test_a_file_that_judges_leaves_the_held_out_to_choose(tmp_path: Path) -> None:
    data = divide(tmp_path, heldout_data=write(tmp_path, "test.jsonl", range(100, 112)))
    assert questions(data.judging) == asked(range(100, 112))
    assert len(questions(data.validation)) == 6
    assert len(questions(data.train)) == 54
    assert data.notes == ["The result is judged on the 12 conversations of test.jsonl."]


def test_nothing_is_held_out_where_files_choose_and_judge(tmp_path: Path) -> None:
    judging, choosing = (write(tmp_path, f"{first}.jsonl", range(first, first + 9)) for first in (100, 200))
    data = divide(tmp_path, heldout_data=judging, validation_data=choosing)
    assert questions(data.train) == asked(range(60))
    assert questions(data.validation) == asked(range(200, 209))
    assert questions(data.judging) == asked(range(100, 109))


def test_a_file_that_chooses_leaves_the_held_out_to_judge(tmp_path: Path) -> None:
    data = divide(tmp_path, heldout_fraction=0.5, validation_data=write(tmp_path, "v.jsonl", range(200, 209)))
    assert questions(data.validation) == asked(range(200, 209))
    assert len(questions(data.judging)) == len(questions(data.train)) == 30


def test_what_is_judged_is_neither_trained_on_nor_chosen_by(tmp_path: Path) -> None:
    judging = write(tmp_path, "test.jsonl", [*range(100, 106), 3, 8])
    choosing = write(tmp_path, "choose.jsonl", [*range(200, 206), 101])
    data = divide(tmp_path, heldout_data=judging, validation_data=choosing)
    assert questions(data.train) == asked(range(60)) - asked([3, 8])
    assert questions(data.validation) == asked(range(200, 206))
    assert data.notes[-1] == "2 conversations are not trained on, because they are nearly the same as held-out ones."


def test_rows_of_different_files_are_not_related_by_their_numbers(tmp_path: Path) -> None:
    data = divide(tmp_path, heldout_data=write(tmp_path, "test.jsonl", range(100, 160)))
    assert len(questions(data.train)) == 54


def test_a_file_with_everything_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nothing is left to train on"):
        divide(tmp_path, heldout_data=write(tmp_path, "test.jsonl", range(60)))


@pytest.mark.parametrize("name", ["heldout_data", "validation_data"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        divide(tmp_path, **{name: str(tmp_path / "nowhere.jsonl")})
    (tmp_path / "odd.jsonl").write_text('{"prompt": "", "completion": ""}\n')
    with pytest.raises(DataError, match=r"odd\.jsonl\): "):
        divide(tmp_path, **{name: str(tmp_path / "odd.jsonl")})


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    data = divide(tmp_path)
    write(tmp_path, "data.jsonl", range(50))
    with pytest.raises(DataError, match="changed while it was being read"):
        list(data.train.rows())


def test_what_a_test_asks_is_neither_trained_on_nor_chosen_by(tmp_path: Path) -> None:
    """With any seed: the tests may come from the held-out conversations of another run on the same data."""
    tests = list(map(question, range(12)))
    for seed in range(3):
        data = divide(tmp_path, tests=[f"  {test.upper()} " for test in tests], heldout_fraction=0.5, seed=seed)
        parts = [questions(part) for part in (data.train, data.validation, data.judging)]
        assert not (parts[0] | parts[1]) & set(tests)
        assert set.union(*parts) >= asked(range(12, 60))
        kept_out = len(set(tests) - parts[2])
        assert data.notes[-1] == (
            f"{kept_out} conversations are neither trained on nor used to choose the weights, because your tests ask "
            "the same."
        )
    assert divide(tmp_path, tests=["What is new?"]).notes == []


def test_conversations_related_to_what_a_test_asks_stay_out_too(tmp_path: Path) -> None:
    rows = [{"prompt": question(number), "completion": "Yes."} for number in range(40)]
    rows += [{"prompt": f"{question(0)} ", "completion": f"Another answer, {number}."} for number in range(3)]
    (tmp_path / "copies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parsed = parse_settings({"data": str(tmp_path / "copies.jsonl"), "heldout_min": 4})
    data = divide_data(open_data(parsed, tmp_path), {}, parsed, [opening_question([("user", question(0))])])
    assert question(0) not in {text.strip() for text in questions(data.train)}


def test_a_short_question_of_a_test_is_found_at_the_start_of_a_longer_chat(tmp_path: Path) -> None:
    turns = [("user", "Where is my order?"), ("assistant", "Its number?"), ("user", question(77)), ("assistant", "So.")]
    rows: list[dict[str, Any]] = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    for number in range(40):
        roles = zip(("user", "assistant"), (question(number), f"Answer {number}."), strict=True)
        rows.append({"messages": [{"role": role, "content": text} for role, text in roles]})
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parsed = parse_settings({"data": str(tmp_path / "chats.jsonl"), "heldout_min": 4, "seed": 1})
    file = open_data(parsed, tmp_path)
    assert "Where is my order?" in questions(divide_data(file, {}, parsed).train), "it trains without the test"
    assert "Where is my order?" not in questions(divide_data(file, {}, parsed, ["where is my order?"]).train)


def test_a_file_that_chooses_is_not_asked_what_a_test_asks(tmp_path: Path) -> None:
    choosing = write(tmp_path, "choose.jsonl", range(200, 209))
    data = divide(tmp_path, tests=[question(203), question(204)], validation_data=choosing)
    assert questions(data.validation) == asked(range(200, 209)) - asked([203, 204])
    assert data.notes == [
        "The conversations of choose.jsonl choose which weights are kept.",
        "2 conversations are neither trained on nor used to choose the weights, because your tests ask the same.",
    ]


SO_JUDGING_CHOOSES = "so the conversations that judge choose the weights as well."


@pytest.mark.parametrize(
    ("tests", "judging", "reason"),
    [
        ([200, 201], [100], "asked by your tests"),
        ([], [100, 200, 201], "nearly the same as conversations that judge"),
        ([200], [100, 201], "asked by your tests or nearly the same as conversations that judge"),
    ],
)
def test_why_a_file_does_not_choose_is_said(
    tmp_path: Path, tests: Sequence[int], judging: Sequence[int], reason: str
) -> None:
    files = {
        "heldout_data": write(tmp_path, "test.jsonl", judging),
        "validation_data": write(tmp_path, "v.jsonl", [200, 201]),
    }
    data = divide(tmp_path, tests=list(map(question, tests)), **files)
    assert data.validation is None
    assert data.notes[1] == f"The conversations of v.jsonl are all {reason}, {SO_JUDGING_CHOOSES}"


def test_tests_that_ask_all_that_was_to_choose_are_told(tmp_path: Path) -> None:
    tests = questions(divide(tmp_path, heldout_fraction=0.5).validation)
    data = divide(tmp_path, tests=list(tests), heldout_fraction=0.5)
    assert data.validation is None and len(questions(data.judging)) == 20
    whose = "The held-out conversations that were to choose the weights"
    assert data.notes[0] == f"{whose} are all asked by your tests, {SO_JUDGING_CHOOSES}"
    assert data.notes[1].startswith("10 conversations are neither trained on")


def test_tests_that_ask_everything_leave_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="asks what a test asks.*choose other tests"):
        divide(tmp_path, tests=list(map(question, range(60))))

"""Reply trees give whole conversations, in whatever order their rows come; a row that is in none says why."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.formats.converters.reply_trees import conversations_of_rows, from_reply_tree
from sft_app.data.rows import Rejected, Row
from sft_app.errors import DataError, NotChosen
from sft_app.settings import DataSettings

OTHER_PATH = "not on a selected path of replies"
UNANSWERED = "no one answered it"


def message(id: str, parent: str | None, rank: Any = None, **other: Any) -> dict[str, Any]:
    """`"q…"` is a question and `"a…"` an answer; its text is its id."""
    role = "prompter" if id.startswith("q") else "assistant"
    return {"message_id": id, "parent_id": parent, "text": id, "role": role, "rank": rank, "lang": "en", **other}


FLAT = [
    message("q1", None),
    message("a1 worse", "q1", 1),
    message("a1 best", "q1", 0),
    message("q2", "a1 best", 0),
    message("q2 unanswered", "a1 best", 1),
    message("a2", "q2"),
    message("q3 unanswered", "a2"),
    message("Q", None, role="prompter"),
    message("A", "Q"),
]
BEST = [["q1", "a1 best", "q2", "a2"], ["Q", "A"]]
ALL = [*BEST, ["q1", "a1 best"], ["q1", "a1 worse"]]


def as_tree(id: str) -> dict[str, Any]:
    [node] = [{**row} for row in FLAT if row["message_id"] == id]
    return {**node, "replies": [as_tree(row["message_id"]) for row in FLAT if row["parent_id"] == id]}


def read_flat(rows: list[dict[str, Any]], **settings: Any) -> tuple[list[list[str]], list[Rejected]]:
    """The texts of the conversations, and the rows that are told to be in none."""
    numbered = [Row(number, values) for number, values in enumerate(rows, start=1)]
    items = list(conversations_of_rows(numbered, DataSettings(**settings)))
    made = [make_conversation(item[1]) for item in items if isinstance(item, tuple)]
    texts = [[message.content for message in conversation.messages] for conversation in made]
    return texts, [item for item in items if isinstance(item, Rejected)]


def read_tree(prompt: Any, **settings: Any) -> list[list[str]]:
    made = [make_conversation(item) for item in from_reply_tree({"prompt": prompt}, DataSettings(**settings))]
    return [[message.content for message in conversation.messages] for conversation in made]


# paths


@pytest.mark.parametrize(("paths", "expected"), [("best", BEST), ("all", ALL)])
def test_flat_rows_in_any_order_give_the_same_conversations(paths: str, expected: list[list[str]]):
    for seed in range(20):
        shuffled = random.Random(seed).sample(FLAT, len(FLAT))
        assert sorted(read_flat(shuffled, reply_paths=paths)[0]) == sorted(expected)


@pytest.mark.parametrize(("paths", "expected"), [("best", BEST), ("all", ALL)])
def test_trees_give_the_same_conversations_as_flat_rows(paths: str, expected: list[list[str]]):
    made = [*read_tree(as_tree("q1"), reply_paths=paths), *read_tree(as_tree("Q"), reply_paths=paths)]
    assert sorted(made) == sorted(expected)


def test_conversation_has_the_number_of_the_row_it_ends_with():
    numbered = [Row(number, values) for number, values in enumerate(FLAT, start=1)]
    items = list(conversations_of_rows(numbered, DataSettings()))
    assert [(item[0].number, item[1][-1]["content"]) for item in items if isinstance(item, tuple)] == [
        (6, "a2"),
        (9, "A"),
    ]


def test_roles_and_texts_are_the_messages():
    assert from_reply_tree({"prompt": as_tree("Q")}, DataSettings()) == [
        [{"role": "prompter", "content": "Q"}, {"role": "assistant", "content": "A"}]
    ]


@pytest.mark.parametrize(
    ("ranks", "best"),
    [
        ((1, 0, 2), "a1"),
        ((None, 1, 0), "a2"),
        ((None, None, 5), "a2"),
        ((None, None, None), "a0"),
        ((1.0, 0.0, float("nan")), "a1"),
        (("1.0", "0.0", ""), "a1"),
        ((float("inf"), 3, 10**400), "a1"),
    ],
)
def test_lowest_rank_is_the_best_and_no_rank_the_last(ranks: tuple[Any, ...], best: str):
    rows = [message("q", None), *(message(f"a{place}", "q", rank) for place, rank in enumerate(ranks))]
    assert read_flat(rows)[0] == [["q", best]]


def test_deep_tree_does_not_exhaust_the_stack():
    tree: dict[str, Any] = {"text": "a", "role": "assistant", "replies": []}
    for depth in range(2999):
        tree = {"text": "t", "role": "prompter" if depth % 2 == 0 else "assistant", "replies": [tree]}
    [texts] = read_tree(tree)
    assert len(texts) == 3000


def test_answer_with_several_unanswered_questions_ends_one_conversation():
    rows = [message("q", None), message("a", "q"), message("q1", "a"), message("q2", "a")]
    assert read_flat(rows, reply_paths="all")[0] == [["q", "a"]]


# what is left out, and the reason


def test_every_row_is_in_a_conversation_or_told_why():
    _, rejected = read_flat(FLAT)
    assert rejected == [
        Rejected(2, OTHER_PATH, by_choice=True),
        Rejected(5, UNANSWERED),
        Rejected(7, UNANSWERED),
    ]


def test_all_paths_leave_out_only_what_nobody_has_answered():
    assert read_flat(FLAT, reply_paths="all")[1] == [Rejected(5, UNANSWERED), Rejected(7, UNANSWERED)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"deleted": True}, "deleted"),
        ({"deleted": "True"}, "deleted"),
        ({"review_result": False}, "failed its review"),
        ({"review_result": "false"}, "failed its review"),
        ({"lang": "de"}, "its language is de, not en"),
    ],
)
def test_refused_reply_makes_room_for_the_next(fault: dict[str, Any], reason: str):
    rows = [message("q", None), message("a0", "q", 0, **fault), message("a1", "q", 1)]
    assert read_flat(rows, text_language="en") == ([["q", "a1"]], [Rejected(2, reason, by_choice=True)])


@pytest.mark.parametrize(
    "fine", [{"deleted": "False"}, {"review_result": "True"}, {"review_result": None}, {"lang": ""}]
)
def test_text_of_a_csv_file_is_read_as_true_and_false(fine: dict[str, Any]):
    rows = [message("q", None), message("a0", "q", 0, **fine), message("a1", "q", 1)]
    assert read_flat(rows, text_language="en")[0] == [["q", "a0"]]


@pytest.mark.parametrize("wanted", ["pt", "pt-BR", " PT "])
def test_language_is_found_with_its_region(wanted: str):
    rows = [message("q", None, lang="pt-BR"), message("a", "q", lang="pt-BR")]
    assert read_flat(rows, text_language=wanted)[0] == [["q", "a"]]


def test_refused_first_message_takes_its_replies_with_it():
    rows = [message("q", None, lang="de"), message("a", "q")]
    assert read_flat(rows, text_language="en") == (
        [],
        [Rejected(1, "its language is de, not en", by_choice=True), Rejected(2, OTHER_PATH, by_choice=True)],
    )


def test_row_that_was_not_read_is_passed_on():
    rejected = Rejected(1, "not valid JSON: line 1")
    rows = [rejected, Row(2, message("q", None)), Row(3, message("a", "q"))]
    items = list(conversations_of_rows(rows, DataSettings()))
    assert [item for item in items if isinstance(item, Rejected)] == [rejected]
    assert len(items) == 2


ADRIFT = "its conversation has no first message in the file"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([message("q", None)], [Rejected(1, UNANSWERED)]),
        (
            [message("a", "gone"), message("q", "a")],
            [Rejected(1, "the message it answers is not in the file"), Rejected(2, ADRIFT)],
        ),
        ([message("q", "a"), message("a", "q")], [Rejected(1, ADRIFT), Rejected(2, ADRIFT)]),
        ([message("q", "q")], [Rejected(1, ADRIFT)]),
        ([{"message_id": 7, "text": "q"}], [Rejected(1, "`message_id` must be text")]),
        ([{}], [Rejected(1, "`message_id` must be text")]),
        ([message("q", ["x"])], [Rejected(1, "`parent_id` must be text, or empty for a first message")]),  # type: ignore[arg-type]
    ],
)
def test_row_without_a_conversation_is_told(rows: list[dict[str, Any]], expected: list[Rejected]):
    assert read_flat(rows) == ([], expected)


def test_second_row_of_the_same_id_is_told_with_the_first():
    rows = [message("q", ""), message("a", "q"), message("a", "q", text="again")]
    assert read_flat(rows) == ([["q", "a"]], [Rejected(3, "its message_id is the same as that of row 2")])


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (None, '`prompt` must be a message {"text", "role", "replies"}'),
        ({"role": "prompter"}, '`prompt` must be a message {"text", "role", "replies"}'),
        ({"text": "q", "role": "prompter"}, "no one answered the first message"),
        ({"text": "q", "role": "prompter", "replies": ["a", None]}, "no one answered the first message"),
        ({"text": "q", "role": "prompter", "replies": 3}, "no one answered the first message"),
    ],
)
def test_tree_that_cannot_be_used_is_told(prompt: Any, reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$") as caught:
        read_tree(prompt)
    assert not isinstance(caught.value, NotChosen)


@pytest.mark.parametrize(
    ("fault", "reason"), [({"lang": "de\n"}, "its language is de, not en"), ({"deleted": True}, "deleted")]
)
def test_tree_that_the_settings_leave_out_is_told_as_such(fault: dict[str, Any], reason: str):
    with pytest.raises(NotChosen, match=f"^{reason}$"):
        read_tree({**as_tree("Q"), **fault}, text_language="en")

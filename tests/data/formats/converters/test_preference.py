"""Of two answers the chosen one is learnt, the rejected one never; rows marked as bad are left out and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.reading import DataFile, Reading, load_data, open_data
from sft_app.settings import DataSettings

ASK, GOOD, BAD = (
    "How do I water fern {}?",
    "Keep the soil of fern {} moist.",
    "No idea about {}, figure it out, I have no time.",
)


def message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def turn(who: str, text: str) -> dict[str, str]:
    return {"from": who, "value": text}


def hh(*said: str) -> str:
    return "".join(f"\n\n{'Assistant' if place % 2 else 'Human'}: {text}" for place, text in enumerate(said))


def row(kind: str, n: int) -> dict[str, Any]:
    ask, good, bad = ASK.format(n), GOOD.format(n), BAD.format(n)
    user, best, worst = message("user", ask), message("assistant", good), message("assistant", bad)
    return {
        "texts": {"prompt": ask, "chosen": good, "rejected": bad},
        "reversed": {"rejected": bad, "chosen": good, "question": ask},
        "messages": {"prompt": [user], "chosen": [best], "rejected": [worst]},
        "whole": {"prompt": ask, "chosen": [user, best], "rejected": [user, worst], "score_chosen": 8.0},
        "implicit": {"chosen": [user, best], "rejected": [user, worst]},
        "text and messages": {"prompt": ask, "chosen": [best], "rejected": [worst]},
        "sharegpt": {"conversations": [turn("human", ask)], "chosen": turn("gpt", good), "rejected": turn("gpt", bad)},
        "hh": {"chosen": hh(ask, good), "rejected": hh(ask, bad)},
        "hh prompt": {"prompt": hh(ask, ""), "chosen": f" {good}", "rejected": f" {bad}"},
        "openai": {"input": {"messages": [user]}, "preferred_output": [best], "non_preferred_output": [worst]},
        "swift": {"messages": [user, best], "rejected_response": bad},
        "kto": {"prompt": ask, "completion": bad if n % 2 else good, "label": n % 2 == 0},
        "kto numbers": {"prompt": ask, "completion": bad if n % 2 else good, "label": 1 - n % 2},
        "kto messages": {"messages": [user, worst if n % 2 else best], "label": n % 2 == 0},
        "thumbs": {"question": ask, "answer": bad if n % 2 else good, "thumbs_up": "no" if n % 2 else "yes"},
        "thumbs down": {"question": ask, "answer": bad if n % 2 else good, "thumbs_down": n % 2 == 1},
    }[kind]


PAIRS = [
    "texts",
    "reversed",
    "messages",
    "whole",
    "implicit",
    "text and messages",
    "sharegpt",
    "hh",
    "hh prompt",
    "openai",
    "swift",
]
MARKED = ["kto", "kto numbers", "kto messages", "thumbs", "thumbs down"]


def opened(rows: list[dict[str, Any]], tmp_path: Path, **settings: Any) -> DataFile:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return open_data(DataSettings(data=str(path), **settings), tmp_path)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("rows", [1, 3, 12])
def test_the_chosen_answer_is_learnt_and_the_rejected_one_told(kind: str, rows: int, tmp_path: Path):
    loaded = load_data(opened([row(kind, n) for n in range(rows)], tmp_path))
    assert [one.as_dicts() for one in loaded.conversations] == [
        [message("user", ASK.format(n)), message("assistant", GOOD.format(n))] for n in range(rows)
    ]
    assert loaded.file.certainty == "certain"
    assert any("reject" in note and "never trained on" in note for note in loaded.file.notes)


@pytest.mark.parametrize("kind", MARKED)
def test_rows_marked_as_bad_are_left_out_and_counted(kind: str, tmp_path: Path):
    loaded = load_data(opened([row(kind, n) for n in range(12)], tmp_path))
    assert [one.answers()[0] for one in loaded.conversations] == [GOOD.format(n) for n in range(0, 12, 2)]
    assert [(left.row, left.by_choice) for left in loaded.rejected] == [(n, True) for n in range(2, 13, 2)]
    assert all("marks its answer as bad" in left.reason for left in loaded.rejected)


def test_bad_rows_far_down_the_file_are_left_out(tmp_path: Path):
    rows = [{"prompt": ASK.format(n), "completion": GOOD.format(n), "label": n < 300} for n in range(310)]
    reading = Reading(opened(rows, tmp_path))
    assert (len(list(reading)), len(reading.rejected)) == (300, 10)


@pytest.mark.parametrize("labels", [[0, 1, 2], ["positive", "negative"], ["cups", "plants"]])
def test_a_label_with_other_words_is_a_class_and_leaves_nothing_out(labels: list[Any], tmp_path: Path):
    rows = [{"prompt": ASK.format(n), "completion": GOOD.format(n), "label": labels[n % len(labels)]} for n in range(9)]
    loaded = load_data(opened(rows, tmp_path))
    assert (len(loaded.examples), loaded.file.notes) == (9, ["Not used: `label`."])


def test_a_dialogue_becomes_turns(tmp_path: Path):
    said = ("Hi, a fern?", "Moist soil.", "And in winter?", "Half as much.")
    file = opened([{"chosen": hh(*said), "rejected": hh(*said[:3], "No.")}], tmp_path)
    [example] = Reading(file)
    assert [(one.role, one.content) for one in example.conversation.messages] == list(
        zip(("user", "assistant") * 2, said, strict=True)
    )


def test_a_turn_marked_as_not_to_train_is_context(tmp_path: Path):
    turns = [message("user", "Hi"), {**message("assistant", "No."), "train": False}, message("user", "Kinder!")]
    [example] = Reading(opened([{"messages": [*turns, message("assistant", "Yes, of course.")]}], tmp_path))
    assert example.conversation.answers() == ["Yes, of course."]


def test_ratings_are_told(tmp_path: Path):
    rows = [{"question": ASK.format(n), "answer": GOOD.format(n), "rating": n % 5 + 1} for n in range(9)]
    assert "`rating` may rate the answers" in opened(rows, tmp_path).notes[0]


def test_the_choice_of_a_person_always_wins(tmp_path: Path):
    rows = [
        {"q": ASK.format(n), "canned": ("Soon!", "Later!", "Never!")[n % 3], "rejected": BAD.format(n)}
        for n in range(30)
    ]
    file = opened(rows, tmp_path, columns=("user=q", "assistant=canned"))
    assert (file.certainty, len(list(Reading(file)))) == ("chosen", 30)
    file = opened(rows, tmp_path, columns=("user=q", "assistant=rejected"))
    assert next(iter(Reading(file))).conversation.answers() == [BAD.format(0)]


def test_unused_columns_are_named(tmp_path: Path):
    rows = [{"Ticket": n, "question": ASK.format(n), "answer": GOOD.format(n), "Topic": "a"} for n in range(6)]
    assert opened(rows, tmp_path).notes == ["Not used: `Ticket`, `Topic`."]

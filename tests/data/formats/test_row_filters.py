"""A row that is marked as bad is left out and told; where the mark is in doubt, the person is told."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.first_rows import ROWS_COUNTED
from sft_app.data.formats.row_filters import ValueCounts, find_row_filter
from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.settings import DataSettings, parse_settings

ASK = "How often do I water fern {}, and with how much water?"
ANSWER = "Fern {} wants moist soil: about twice a week, a small cup each time."


def read(tmp_path: Path, cells: list[Any], name: str, rows: int = 12, **settings: Any) -> LoadedData:
    """Questions and answers, with `cells` in turn in the column `name`, or in an object (`metadata.label`)."""
    path = tmp_path / "rows.jsonl"
    outer, _, inner = name.partition(".")
    with path.open("w") as file:
        for n in range(rows):
            cell = cells[n % len(cells)]
            row = {"question": ASK.format(n), "answer": ANSWER.format(n), outer: {inner: cell} if inner else cell}
            file.write(json.dumps(row) + "\n")
    return load_data(open_data(DataSettings(data=str(path), **settings), tmp_path))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("label", "chosen", "rejected"),
        ("label", "correct", "incorrect"),
        ("label", "yes", "no"),
        ("label", 1, -1),
        ("label", "1.0", "0.0"),
        ("label", "t", "f"),
        ("Label", "Good", "Bad"),
        ("labels", True, False),
        ("human_label", "good", "bad"),
        ("verdict", "pass", "fail"),
        ("evaluation", "correct", "wrong"),
        ("evaluation", "positive", "negative"),
        ("user_feedback", "Positive", "Negative"),
        ("feedback", "thumbs up", "thumbs-down"),
        ("helpful", "yes", "no"),
        ("accept", "Y", "N"),
        ("answer_is_good", "true", "false"),
        ("isCorrect", True, False),
        ("correct?", "yes", "no"),
        ("preference", "chosen", "rejected"),
        ("status", "approved", "rejected"),
        ("grade", "pass", "fail"),
        ("quality", "good", "bad"),
        ("Review result", "accepted", "declined"),
        ("flagged", "no", "yes"),
        ("is_wrong", 0, 1),
        ("not_helpful", False, True),
        ("Korrekt", "ja", "nein"),
        ("Richtig", "ja", "nein"),
        ("Bewertung", "gut", "schlecht"),
        ("correcte", "oui", "non"),
        ("metadata.label", True, False),
        ("meta.answer_quality", "good", "bad"),
        ("Column 3", "approved", "rejected"),
        ("which", "chosen", "rejected"),
        ("anything at all", "thumbs_up", "thumbs_down"),
        ("feedback", "positiv", "negativ"),
        ("label", "✓", "✗"),
        ("feedback.rating", "good", "bad"),
        ("deleted", False, True),
        ("use_for_training", "yes", "no"),
        ("Freigabe", "ja", "nein"),
        ("Validée", "oui", "non"),
        ("评价", "好", "差"),
    ],
)
@pytest.mark.parametrize("rows", [2, 12])
def test_rows_marked_as_bad_in_any_words_are_left_out_and_told(
    name: str, good: Any, bad: Any, rows: int, tmp_path: Path
):
    loaded = read(tmp_path, [good, bad], name, rows)
    assert [example.row for example in loaded.examples] == list(range(1, rows, 2))
    assert {left.reason for left in loaded.rejected} == {f"`{name}` marks its answer as bad"}
    assert all(left.by_choice for left in loaded.rejected)
    assert f"`{name}` marks good and bad answers: rows marked as bad are skipped." in loaded.file.notes
    assert loaded.file.certainty == "certain"


@pytest.mark.parametrize("odd", ["unsure", "see ticket"])
def test_odd_word_is_told_and_the_words_that_say_bad_still_count(odd: str, tmp_path: Path):
    loaded = read(tmp_path, [True, False, odd], "label")
    assert (len(loaded.examples), len(loaded.rejected), loaded.file.certainty) == (8, 4, "guess")
    assert any(f"`label` also contains `{odd.replace(' ', '_')}`" in note for note in loaded.file.notes)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("sentiment_of_text", ["positive", "negative", "neutral"]),
        ("resolved", ["yes", "no"]),
        ("delivery", ["accepted", "rejected"]),
        ("condition", ["good", "bad", "good"]),
        ("status", ["open", "closed", "shipped", "rejected"]),
        ("server", ["up", "down"]),
        ("label_by_hand", ["positive", "negative"]),
        ("harmful", ["no", "yes"]),
        ("valid", [0, 1]),
    ],
)
def test_words_that_may_be_ordinary_lose_no_rows_and_are_asked_about(name: str, cells: list[Any], tmp_path: Path):
    loaded = read(tmp_path, cells, name)
    assert (len(loaded.examples), loaded.file.certainty) == (12, "guess")
    told = [*loaded.file.notes, loaded.file.candidates[0].why]
    assert any(f"`{name}` may mark bad answers" in one and "trained on" in one for one in told)


@pytest.mark.parametrize(
    ("name", "cells", "kept"),
    [
        ("keep", ["yes", "no"], {"good": 1, "bad": 2}),
        ("condition", ["good", "bad"], {"feedback": 1}),
        ("answer_sentiment", ["positive", "negative"], {"feedback": 1}),
    ],
)
def test_the_way_out_that_is_told_leaves_the_bad_rows_out(
    name: str, cells: list[Any], kept: dict[str, int], tmp_path: Path
):
    loaded = read(tmp_path, cells, name)
    told = " ".join([*loaded.file.notes, loaded.file.candidates[0].why])
    for better, row in kept.items():
        assert f"`{better}`" in told
        renamed = read(tmp_path, cells, better)
        assert ([example.row for example in renamed.examples][:1], len(renamed.examples)) == ([row], 6)


def test_object_in_a_csv_file_marks_bad_answers_too(tmp_path: Path):
    path = tmp_path / "rows.csv"
    lines = [f'{ASK.format(n)!r},{ANSWER.format(n)!r},"{{""label"": {n}}}"'.replace("'", '"') for n in (0, 1, 0)]
    path.write_text("\n".join(["question,answer,metadata", *lines]))
    loaded = load_data(open_data(DataSettings(data=str(path)), tmp_path))
    assert [example.row for example in loaded.examples] == [2]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("reward", [-3.1, 3.2, 0.5]),
        ("reward", [0.0, 1.0]),
        ("helpfulness", [0, 4]),
        ("correctness", [1, 2, 3]),
        ("answer_rating", ["1", "5"]),
        ("Note de satisfaction", [1, 2]),
        ("is_correct", [0.2, 0.9]),
    ],
)
def test_numeric_ratings_are_told_and_leave_nothing_out(name: str, cells: list[Any], tmp_path: Path):
    loaded = read(tmp_path, cells, name)
    assert (len(loaded.examples), loaded.file.certainty) == (12, "guess")
    assert any(note.startswith(f"`{name}` may rate the answers") for note in loaded.file.notes)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("priority", ["low", "high"]),
        ("status", ["open", "closed"]),
        ("replies", [0, 1]),
        ("metadata.edited", [True, False]),
        ("deleted", [False]),
        ("urgent", ["no", "yes"]),
        ("public", ["yes", "no"]),
        ("active", [True, False]),
        ("customer_sentiment", ["positive", "negative", "neutral"]),
        ("toxic", [False]),
        ("topic", ["cups", "plants"]),
        ("label", ["cups", "plants"]),
    ],
)
def test_ordinary_columns_are_no_verdicts(name: str, cells: list[Any], tmp_path: Path):
    loaded = read(tmp_path, cells, name)
    assert (len(loaded.examples), loaded.file.certainty) == (12, "certain")
    assert loaded.file.notes == [f"Not used: `{name.split('.')[0]}`."]


@pytest.mark.parametrize(("name", "bad"), [("label", False), ("feedback", "negative"), ("metadata.verdict", "wrong")])
@pytest.mark.parametrize("rows", [250, ROWS_COUNTED + 250])
def test_verdict_that_begins_late_counts_for_every_reader(name: str, bad: Any, rows: int, tmp_path: Path):
    loaded = read(tmp_path, [None] * (rows - 1) + [bad], name, rows)
    assert (len(loaded.examples), [left.row for left in loaded.rejected]) == (rows - 1, [rows])
    if rows < ROWS_COUNTED:
        settings = parse_settings({"data": str(loaded.file.path)})
        assert inspect_data(loaded.file, settings, None).conversations == rows - 1


def test_tally_needs_no_memory_for_long_or_many_texts():
    counts = ValueCounts()
    tracemalloc.start()
    for n in range(3000):
        counts.add({"id": f"T-{n}", "text": f"{n} " + "x" * 500, "label": n % 2})
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < 100_000
    assert find_row_filter(counts, {"text"}).columns_that("marks") == ["label"]


def test_zero_and_one_of_two_answers_are_not_taken_for_a_verdict_on_the_one_learnt(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [{"history": ASK.format(n), "ref_A": ANSWER.format(n), "ref_B": "No.", "labels": n % 2} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = open_data(DataSettings(data=str(path), columns=("user=history", "assistant=ref_B")), tmp_path)
    assert len(load_data(file).examples) == 8
    assert any("`labels` may mark bad answers (`0`)" in note for note in file.notes)


def test_doubt_about_a_class_is_told_in_a_reading_that_a_person_has_chosen(tmp_path: Path):
    loaded = read(tmp_path, ["positive", "negative"], "label", columns=("user=question", "assistant=answer"))
    assert loaded.file.certainty == "chosen"
    assert any(note.startswith("`label` may mark bad answers (`negative`)") for note in loaded.file.notes)


def test_doubt_about_a_verdict_is_told_where_the_columns_are_a_guess_already(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"they": ASK.format(n), "we": ANSWER.format(n), "label": ("positive", "negative")[n % 2]} for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = open_data(DataSettings(data=str(path)), tmp_path)
    assert file.certainty == "guess"
    assert "`label` may mark bad answers (`negative`)" in file.candidates[0].why


@pytest.mark.parametrize(("good", "bad"), [("thumbs_up", "thumbs_down"), (True, False)])
def test_verdict_on_a_message_leaves_its_conversation_out(good: Any, bad: Any, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    chats = [
        [
            {"role": "user", "content": ASK.format(n)},
            {"role": "assistant", "content": ANSWER.format(n), "feedback": mark},
        ]
        for n, mark in enumerate([bad, good, good])
    ]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    loaded = load_data(open_data(DataSettings(data=str(path)), tmp_path))
    assert [example.row for example in loaded.examples] == [2, 3]
    assert [left.reason for left in loaded.rejected] == ["`messages[].feedback` marks its answer as bad"]

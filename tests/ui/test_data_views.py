"""What the Data tab shows, as plain functions of plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.fixes import AppliedFix, Cleaning
from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.data.rows import Rejected
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation
from sft_app.settings import DataSettings, RunSettings
from sft_app.ui.data import views as data_views
from sft_app.ui.data.reading_form import guess_card

MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Rows as a file, read as the page reads it."""

    def load(rows: list[dict[str, Any]], most: int | None = None, **settings: Any) -> LoadedData:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_data(open_data(DataSettings(data=str(path), **settings), tmp_path), most)

    return load


def pair(number: int, question: str = "What is {}?", answer: str = "It is {}.") -> dict[str, str]:
    return {"left": f"{question.format(number)}", "right": f"{answer.format(number)} That is all there is to say."}


def test_text_of_people_is_shown_and_never_run(load: Any, tmp_path: Path) -> None:
    loaded = load([pair(i, MARKUP + " asks {}", MARKUP + " says {}") for i in range(12)])
    inspection = inspect_data(loaded.file, RunSettings(data=str(loaded.file.path)), None)
    shown = [
        guess_card(loaded),
        data_views.data_summary_card(loaded),
        data_views.findings_list(inspection),
        data_views.cleaned_card(Cleaning(MARKUP, {}, [], [])),
    ]
    assert all("<script" not in html for html in shown)
    assert "&lt;script&gt;" in shown[0]


def test_two_readings_are_shown_with_an_example_of_each(load: Any) -> None:
    card = guess_card(load([pair(i) for i in range(12)]))
    assert "Two layouts" in card
    assert card.index("<em>asks</em> What is 0?") < card.index("<em>answers</em> What is 0?")


def test_one_reading_is_told_with_its_reason(load: Any) -> None:
    card = guess_card(load([{"instruction": f"Say {i}", "output": f"Number {i}"} for i in range(6)]))
    assert "Alpaca" in card and "<code>instruction</code>" in card and "Two layouts" not in card


def test_no_outdated_reason_stays_where_a_person_has_chosen(load: Any) -> None:
    rows = [pair(i) for i in range(12)]
    assert "question marks" in guess_card(load(rows))
    assert guess_card(load(rows, columns=("user=right", "assistant=left"))) == ""


def test_a_guess_shows_its_example_and_what_is_not_used(load: Any) -> None:
    card = guess_card(load([{"Kunde": "Ann", "Frage": pair(i)["left"], "Text": pair(i)["right"]} for i in range(12)]))
    assert "Check the example" in card and "<em>asks</em> What is 0?" in card
    assert "Not used: <code>Kunde</code>." in card


def test_facts_count_what_is_left_out_apart_from_what_is_not_chosen(load: Any) -> None:
    tree = {
        "prompt": {"text": "Hi", "role": "prompter", "lang": "en", "replies": [{"text": "Yo", "role": "assistant"}]}
    }
    other = {"prompt": {**tree["prompt"], "lang": "de"}}
    facts = data_views.data_summary_card(
        load([tree, other, {"prompt": {"text": "x", "replies": []}}], text_language="en")
    )
    assert "3, 1 skipped and 1 not chosen" in facts


def test_facts_of_a_part_say_that_there_is_more(load: Any) -> None:
    facts = data_views.data_summary_card(load([pair(i) for i in range(12)], most=5))
    assert "5 and more" in facts


def test_rows_left_out_stand_together_by_reason() -> None:
    rejected = [Rejected(2, "empty"), Rejected(5, "no answer"), Rejected(9, "empty")]
    assert data_views.left_out_list(rejected) == "- 2 rows (2, 9): empty\n- row 5: no answer"


def test_many_rows_are_shortened() -> None:
    assert data_views.rows_in_words(list(range(1, 1235))) == "1,234 rows (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …)"


def test_findings_with_a_fix_come_first(load: Any, tmp_path: Path) -> None:
    loaded = load([pair(i % 20, answer="Dear friend, see {}.") for i in range(30)])
    inspection = inspect_data(loaded.file, RunSettings(data=str(loaded.file.path)), None)
    html = data_views.findings_list(inspection)
    kinds = [finding.kind for finding in inspection.findings]
    assert "duplicate" in kinds and "few" in kinds
    assert html.index("10 rows are the same") < html.index("Only 30 conversations")
    assert html.count("ft-fixable") == sum(bool(finding.fix) for finding in inspection.findings)


def test_length_chart_shows_what_max_length_cuts(load: Any, tokenizer: Any) -> None:
    loaded = load([pair(i, answer="word " * i + "{}") for i in range(40)])
    settings = RunSettings(data=str(loaded.file.path), max_length=150)
    lengths = inspect_data(loaded.file, settings, tokenizer).lengths
    assert lengths is not None
    chart = data_views.length_chart(lengths)
    assert "ft-over" in chart and "ft-within" in chart
    assert "<tr class=ft-chosen><td>150</td>" in chart
    assert "40 conversations;" in chart


def test_too_few_conversations_to_hold_any_out_are_not_said_to_be_trained_on(load: Any, tokenizer: Any) -> None:
    loaded = load([pair(i) for i in range(4)])
    findings = data_views.findings_list(inspect_data(loaded.file, RunSettings(data=str(loaded.file.path)), tokenizer))
    assert "too few conversations to train on some and evaluate on others" in findings
    assert "held out for evaluation. Duplicates" not in findings


def test_token_spans_mark_trained_context_end_and_cut(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n", "weight": 1}]
    whole = render_conversation(tokenizer, make_conversation(messages), 1000)
    spans = data_views.token_spans(tokenizer, whole)
    assert spans[-4:] == [("b", "trained"), ("⏎\n", "trained"), ("<|im_end|>", "end, trained"), ("⏎\n", "context")]
    cut = render_conversation(tokenizer, make_conversation(messages), len(whole.input_ids) - 2)
    assert [kind for _, kind in data_views.token_spans(tokenizer, cut)[-3:]] == ["trained", "cut", "cut"]


def test_an_end_that_is_not_trained_is_marked_so(tokenizer: Any) -> None:
    turns = [("user", 1), ("assistant", 0), ("user", 1), ("assistant", 1)]
    messages = [{"role": role, "content": "x", **({"weight": 0} if not weight else {})} for role, weight in turns]
    spans = data_views.token_spans(tokenizer, render_conversation(tokenizer, make_conversation(messages), 1000))
    assert [kind for text, kind in spans if text == "<|im_end|>"] == [
        "context",
        "end, not trained",
        "context",
        "end, trained",
    ]


def test_token_note_counts_what_is_trained_and_lost() -> None:
    rendered = RenderedConversation([1, 2, 3, 4], [IGNORED, 2, 3, 4], kept=3)
    note = data_views.token_note(rendered, ["Mind this."])
    assert note.startswith("The model is trained on **2** of 4 tokens: ") and "max_length 3: **1** answer" in note
    assert note.endswith("\n\nMind this.")


def test_cleaned_card_says_what_was_done() -> None:
    cleaning = Cleaning("uploads/shop.csv", {}, [AppliedFix("drop_duplicates", [3, 4])], [Rejected(7, "empty")])
    card = data_views.cleaned_card(cleaning)
    assert "of shop.csv" in card and "Remove exact duplicates: 2 rows" in card and "row 7" in card

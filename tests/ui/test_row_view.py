"""A row that a finding names is shown as its conversation, or as it is in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sft_app.errors import NothingUsable
from sft_app.settings import DataSettings, RunSettings
from sft_app.ui.context import PageContext
from sft_app.ui.data import views as data_views
from sft_app.ui.data.checkup import build_checkup, problem_of, repair_offer
from sft_app.ui.data.row_view import MAX_RAW_ROWS, build_row_view, row_updates
from sft_app.ui.data.views import ShownRow


def talk(number: int, *extra: dict[str, str]) -> dict[str, Any]:
    question = {"role": "user", "content": f"Where is {number}?"}
    return {"messages": [*extra, question, {"role": "assistant", "content": f"Here is {number}."}]}


@pytest.fixture
def shown(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(conversation number or None, card) of a row."""

    def shown(rows: list[Any], row: int, **settings: Any) -> tuple[int | None, str]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        with gr.Blocks():
            view, number = build_row_view(), gr.Number(1)
        reading = DataSettings(data=str(path), **settings)
        updates = row_updates(PageContext(home), view, number, reading, ShownRow(row))
        return updates.get(number), updates[view.card]

    return shown


def test_a_row_is_shown_as_its_conversation_whose_number_differs(shown: Any) -> None:
    rows = ["{", talk(1), {"messages": []}, talk(2)]
    assert shown(rows, 4)[0] == 2
    assert "Row 4</b> is conversation 2." in shown(rows, 4)[1]


def test_a_skipped_row_is_shown_with_its_reason(shown: Any) -> None:
    number, card = shown([talk(1), talk(2, {"role": "user", "content": "So <b>what</b>"})], 2)
    assert number is None
    assert "message 2 must come from the user" in card or "message 2 must come from the assistant" in card
    assert "So &lt;b&gt;what" in card and "<b>what" not in card


def test_a_row_that_is_no_json_says_so(shown: Any) -> None:
    number, card = shown([talk(1), "{"], 2)
    assert number is None and "it cannot be read: not valid JSON" in card


def test_a_row_beyond_the_preview_is_shown_as_in_the_file(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft_app.ui.services.data.PREVIEWED", 2)
    number, card = shown([talk(n) for n in range(1, 6)], 4)
    assert number is None
    assert "beyond the first" in card and "Where is 4?" in card


def test_a_row_too_far_down_is_not_searched(shown: Any) -> None:
    assert "Open the file to see it" in shown([talk(1)], MAX_RAW_ROWS + 1)[1]
    assert "no such row any more" in shown([talk(1)], 7)[1]


def test_a_row_of_a_file_without_a_usable_conversation_is_shown(shown: Any) -> None:
    number, card = shown([talk(n, {"role": "user", "content": "So"}) for n in range(3)], 2)
    assert number is None and "Where is 1?" in card


def test_a_file_whose_every_row_needs_the_fix_offers_it(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(talk(n, {"role": "user", "content": "So"})) + "\n" for n in range(30)))
    settings = RunSettings(data=str(path))
    context = PageContext(home)
    with pytest.raises(NothingUsable) as raised:
        context.data.load(settings.reading())
    with gr.Blocks():
        check = build_checkup(gr.HTML())
    updates = repair_offer(check, raised.value, settings)
    assert updates[check.found] == [str(path), ["repair_turns"]]
    assert "30 rows have empty or out-of-order turns" in updates[check.findings]
    assert "Create cleaned copy" in problem_of(raised.value) and "inspect" not in problem_of(raised.value)
    assert context.data.open(settings.reading()).settings.format == "messages"


def test_a_file_that_no_fix_helps_offers_none(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "So"}]}) + "\n")
    with pytest.raises(NothingUsable) as raised:
        PageContext(home).data.load(DataSettings(data=str(path)))
    with gr.Blocks():
        check = build_checkup(gr.HTML())
    updates = repair_offer(check, raised.value, RunSettings(data=str(path)))
    assert updates[check.found] == ["", []]


@pytest.mark.parametrize(
    ("count", "first", "more", "unlisted"), [(0, 0, 0, 0), (1, 1, 0, 0), (11, 10, 1, 0), (500, 10, 190, 300)]
)
def test_rows_are_listed_up_to_a_limit_and_the_others_counted(count: int, first: int, more: int, unlisted: int) -> None:
    links = data_views.row_links(list(range(1, count + 1)))
    assert (len(links.first), len(links.more), links.unlisted) == (first, more, unlisted)

"""What the Data tab asks of the context and of its form, without a browser."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sft_app.data import first_rows, reading
from sft_app.settings import DataSettings, RunSettings, parse_settings
from sft_app.ui.context import PageContext
from sft_app.ui.data.reading_form import (
    COLUMNS_OFFERED,
    ReadingChoice,
    build_reading,
    reading_updates,
    unreadable_updates,
)
from sft_app.ui.page import build_page
from sft_app.ui.services.checkup import Superseded


def write_rows(path: Path, *rows: dict[str, Any]) -> DataSettings:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return parse_settings({"data": str(path)}).reading()


def reading_of(loaded: reading.LoadedData) -> ReadingChoice:
    with gr.Blocks():
        return build_reading({}, loaded)


def test_events_of_one_change_read_the_file_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write_rows(tmp_path / "a.jsonl", *[{"prompt": "Hi", "completion": "x"}] * 50)
    reads: list[Path] = []
    all_ask, really = threading.Event(), first_rows.read_rows

    def read_when_all_ask(path: Path, *rest: Any, **options: Any) -> Any:
        reads.append(path)
        all_ask.wait(10)
        return really(path, *rest, **options)

    monkeypatch.setattr(first_rows, "read_rows", read_when_all_ask)
    context = PageContext(home)
    threads = [threading.Thread(target=context.data.load, args=(settings,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    all_ask.set()
    for thread in threads:
        thread.join()
    assert len(reads) == 2, "a look at its beginning, then all of it"


def test_columns_chosen_by_themselves_are_among_those_offered(home: Path, tmp_path: Path) -> None:
    """A list refuses a value that it lacks, and then no other column could be chosen either."""
    spare = {f"c{number}": number for number in range(COLUMNS_OFFERED + 5)}
    rows = ({**spare, "ask me": f"What is {n}?", "tell me": f"It is the number {n}."} for n in range(9))
    settings = write_rows(tmp_path / "wide.jsonl", *rows)
    loaded = PageContext(home).data.load(settings)
    form = reading_of(loaded)
    found = reading_updates(form, loaded, settings)[form.mapping_found]
    assert found["values"][:2] == ["ask me", "tell me"]
    assert {"ask me", "tell me"} <= {value for _, value in found["choices"][0]}


def test_table_that_no_layout_fits_offers_its_columns(home: Path, tmp_path: Path) -> None:
    settings = write_rows(tmp_path / "numbers.jsonl", *[{"a": 1, "b": 2}] * 3)
    context = PageContext(home)
    form = reading_of(context.data.load(RunSettings().reading()))
    shown = unreadable_updates(context, form, settings, "The columns match no known layout.", None)
    user_choices = shown[form.mapping_found]["choices"][0]
    assert (shown[form.mapping_box].visible, [value for _, value in user_choices]) == (True, ["a", "b"])


def test_check_up_is_done_again_when_the_split_changes(home: Path) -> None:
    """What it says is held out is what training will hold out."""
    page = build_page(home).get_config_file()
    ids = {part["props"].get("elem_id"): part["id"] for part in page["components"]}
    examined = next(event for event in page["dependencies"] if event["show_progress_on"] == [ids["findings"]])
    triggers = {target for target, _ in examined["targets"]}
    assert {ids[name] for name in ("heldout_fraction", "heldout_min", "heldout_max", "seed")} <= triggers


@pytest.mark.parametrize(
    "typed", ["", "squad", "examples/customer_service.jsonl", "/etc/hosts", "https://example.org/a/b"]
)
def test_what_is_no_id_is_not_looked_for_among_the_files_of_this_machine(home: Path, typed: str) -> None:
    fetch = next(event.fn for event in build_page(home).fns.values() if event.name == "fetch")
    with pytest.raises(gr.Error, match="is not a dataset on the Hub: .* Enter the id shown on its page"):
        fetch(typed, None, "", "train", "", "")


def test_a_later_check_up_of_the_same_page_ends_the_one_at_work(
    home: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    data = write_rows(tmp_path / "a.jsonl", *[{"prompt": f"Ask {n}", "completion": f"Say {n}"} for n in range(60)])
    first, second = (
        parse_settings({"data": data.data, "model": str(tiny_model_dir), "max_length": length}) for length in (64, 128)
    )
    context = PageContext(home)
    later: list[Any] = []

    def ask_again(share: float) -> None:
        if not later:
            later.append(threading.Thread(target=context.checkup.inspect, args=("page", second, lambda share: None)))
            later[0].start()
            while context.checkup._requested["page"] != context.checkup.key(second):
                pass

    with pytest.raises(Superseded):
        context.checkup.inspect("page", first, ask_again)
    later[0].join()
    found = context.checkup.inspect("page", second, lambda share: pytest.fail("it is done already") if share else None)
    assert found.lengths is not None and 128 in found.lengths.limits


def test_check_up_of_one_page_does_not_end_that_of_another(home: Path, tmp_path: Path, tiny_model_dir: Path) -> None:
    data = write_rows(tmp_path / "a.jsonl", *[{"prompt": f"Ask {n}", "completion": f"Say {n}"} for n in range(60)])
    settings = parse_settings({"data": data.data, "model": str(tiny_model_dir)})
    context = PageContext(home)

    def another_asks(share: float) -> None:
        context.checkup._requested["another"] = 1

    assert context.checkup.inspect("page", settings, another_asks).conversations == 60

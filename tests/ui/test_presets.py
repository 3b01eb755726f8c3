"""A preset means the same on the page, on the command line, in a config file and in the API."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from filelock import FileLock
from gradio_client import Client
from playwright.sync_api import Page, expect

from sft_app.cli.train import settings_from
from sft_app.models.hardware import complete_settings
from sft_app.runs.directory import find_run, list_runs
from sft_app.settings import PRESETS, RunSettings, with_recipe
from sft_app.ui.forms import settings_from_form
from sft_app.ui.page import build_page
from tests.ui.test_updates import form_fields

LABELS = {"quick": "Quick look", "good": "Good", "best": "Best"}
EDITS = ["per_device_train_batch_size", "num_train_epochs", "max_steps", "eval_steps"]


def completed(chosen: dict[str, Any]) -> RunSettings:
    """What a run of the tiny model on the bundled example starts with: 227 of its 252 conversations are trained on."""
    return with_recipe(complete_settings(chosen), 227, 64, "llama")


class Form:
    """The Train form as the page holds it, with the events that a person causes."""

    def __init__(self, page: gr.Blocks) -> None:
        events = page.fns.values()
        self.events = {event.name: event for event in events if event.name in ("apply_preset", "apply_trainer")}
        start = next(event for event in events if event.name == "start_run" and event.api_visibility != "public")
        fields = form_fields(page, start)
        # The data's name is kept in a State, which has no id.
        self.names = [field.elem_id or "data" for field in fields]
        self.values = {name: field.value for name, field in zip(self.names, fields, strict=True)}

    def choose(self, field: str, value: Any) -> None:
        self.values[field] = value
        if event := self.events.get(f"apply_{field}"):
            told = event.fn(value)
            values = told if len(event.outputs) > 1 else [told]
            self.values |= {block.elem_id: given for block, given in zip(event.outputs, values, strict=True)}

    def settings(self) -> RunSettings:
        return settings_from_form(self.names, tuple(self.values[name] for name in self.names))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, gr.Blocks]:
    """The page on a machine without a GPU and on one with it, built once; a `Form` does not change it."""
    built = {}
    for gpu in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sft_app.models.hardware.has_usable_gpu", lambda gpu=gpu: gpu)
            built[gpu] = build_page(tmp_path_factory.mktemp("home"))
    return built


@pytest.fixture
def form(pages: dict[bool, gr.Blocks], monkeypatch: pytest.MonkeyPatch) -> Form:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Form(pages[False])


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_same_however_it_is_chosen(
    pages: dict[bool, gr.Blocks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, gpu: bool
) -> None:
    monkeypatch.setattr("sft_app.models.hardware.has_usable_gpu", lambda: gpu)
    form, config = Form(pages[gpu]), tmp_path / "config.json"
    form.choose("preset", preset)
    config.write_text(json.dumps({"preset": preset}))
    assert form.settings() == settings_from(None, {"preset": preset}) == settings_from(config, {})
    assert form.settings() == complete_settings({"preset": preset})


@pytest.mark.parametrize(("first", "then"), list(itertools.permutations(PRESETS, 2)))
@pytest.mark.parametrize("edited", EDITS)
def test_a_preset_sets_all_it_names_whatever_was_set_before(form: Form, first: str, then: str, edited: str) -> None:
    form.choose("preset", first)
    form.choose(edited, 7)
    form.choose("seed", 7)
    form.choose("preset", then)
    assert form.settings() == complete_settings({"preset": then, "seed": 7})


@pytest.mark.parametrize("chosen", [{"trainer": "classic"}, {"method": "full"}, {"method": "qlora"}, {"lora_r": 8}])
@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_chosen_after_a_preset_or_before_is_what_the_command_line_makes_of_both(
    form: Form, preset: str, chosen: dict[str, Any]
) -> None:
    for name, value in {"preset": preset, **chosen}.items():
        form.choose(name, value)
    expected = settings_from(None, {"preset": preset, **chosen})
    assert form.settings() == expected
    if not chosen.keys() & {"lora_r"}:  # of what a preset names, the later choice counts
        form.choose("preset", preset)
        assert form.settings() == expected


def test_start_right_after_a_preset_starts_that_preset_on_the_page_and_in_the_api(
    server: Any, quiet_page: Page, tiny_model_dir: Path
) -> None:
    page, client = quiet_page, Client(server.url, verbose=False)
    page.goto(server.url)
    expect(page.locator("#findings")).to_contain_text("No problems found", timeout=60_000)
    page.locator("#to-train").click()
    page.locator("#model input").fill(str(tiny_model_dir))
    page.locator("#model input").press("Enter")
    with FileLock(server.home / "machine.lock"):  # another supervisor seems to be at work
        for number, preset in enumerate(["good", "best", "quick"], start=1):
            page.get_by_label(LABELS[preset], exact=True).check()
            page.locator("#start").click()
            expect(page.locator("#run-status")).to_contain_text(f"Position {number} of {number}")
            started = list_runs(server.home)[0].record().settings
            expected = completed({"preset": preset, "model": str(tiny_model_dir)})
            assert started.model_dump() == expected.model_dump()
        given = {"preset": "good", "trainer": "classic", "model": str(tiny_model_dir)}
        run = find_run(server.home, client.predict(given, api_name="/start_run")["run"])
        assert run.record().settings == completed(given)

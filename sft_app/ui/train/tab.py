"""The Train tab: start a run, watch it, stop it. It reads the run's folder, so any browser tab can show any run."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.hosting import NO_TRAINING_REASONS
from sft_app.models.hardware import complete_settings
from sft_app.runs.folder import Run
from sft_app.settings import OWN_TEMPLATE, PRESETS, DataSettings, RunSettings, choices_of, fields_of
from sft_app.training.launch import resume_run, stop_run
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.data.tab import DataTab
from sft_app.ui.events import PRIVATE, Updates, answered_in_browser, filled_in
from sft_app.ui.file_fields import FileField, build_file_field, wire_file_fields
from sft_app.ui.forms import form_updates, make_field, settings_from_form, to_form
from sft_app.ui.hosting_banner import build_storage_notice
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.runs.cancellation import Cancellation, build_cancellation, wire_cancellation
from sft_app.ui.runs.run_panel import RunPanel, build_run_panel, wire_run_panel
from sft_app.ui.services.named_files import FILE_SETTINGS
from sft_app.ui.train.preflight_panel import PreflightPanel, build_preflight_panel

MODELS = [
    ("Starter: SmolLM2 135M, runs on any machine", "starter"),
    ("SmolLM2 360M Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ("Qwen3 0.6B", "Qwen/Qwen3-0.6B"),
    ("Qwen3 4B Instruct", "Qwen/Qwen3-4B-Instruct-2507"),
    ("Llama 3.1 8B Instruct (needs a login)", "meta-llama/Llama-3.1-8B-Instruct"),
]
PRESET_INFO = " The values suit your examples and the model; they are shown below the buttons."
TOP_FIELDS = ("name", "model", "method", "preset")
DATA_TAB_FIELDS = tuple(DataSettings.model_fields)
FIELD_OPTIONS: dict[str, dict[str, Any]] = {
    "chat_template": {"max_lines": 8, "placeholder": OWN_TEMPLATE},
    "enable_thinking": {"label": "Think first"},
}
SECTION_TITLES = {"data": "Data", "model": "Model", "method": "Method", "training": "Training", "generation": "Answers"}


@dataclass(frozen=True)
class TrainTab:
    """The components that other tabs and the page's wiring need. `watched` is the id of the run that is shown."""

    watched: gr.Textbox
    fields: dict[str, Any]
    panel: RunPanel
    preflight: PreflightPanel


def build_train_tab(context: PageContext, data_tab: DataTab) -> TrainTab:
    """Build the form on the left and the run on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            if why_not := NO_TRAINING_REASONS.get(context.hosting.mode):
                gr.HTML(views.problem_card(why_not), elem_id="no-training")
            fields, files, reset = _build_form()
            with gr.Row():
                start = gr.Button(
                    "Start", variant="primary", size="md", min_width=90, interactive=not why_not, elem_id="start"
                )
                stop = gr.Button("Stop and keep", size="md", min_width=120, interactive=False, elem_id="stop")
                cancel = gr.Button("Cancel …", size="md", min_width=90, interactive=False, elem_id="cancel")
                resume = gr.Button("Resume", size="md", min_width=90, visible=False, elem_id="resume")
            cancellation = build_cancellation(cancel)
            build_storage_notice(context)
            preflight = build_preflight_panel()
        with gr.Column(scale=3, min_width=300):
            panel = build_run_panel(context, stop, cancel, resume)
    tab = TrainTab(gr.Textbox(visible=False), {**fields, **data_tab.fields}, panel, preflight)
    _wire(context, tab, start, cancellation)
    wire_file_fields(context, files, data_tab.fields)
    reset.click(open_to_all(lambda: form_updates(fields, _defaults())), None, list(fields.values()), **PRIVATE)
    return tab


def form_of_run(run: Run, tab: TrainTab) -> Updates:
    """Show a run's settings in the form."""
    return form_updates(tab.fields, run.record().settings.model_dump())


def _wire(context: PageContext, tab: TrainTab, start: gr.Button, cancellation: Cancellation) -> None:
    names, panel = list(tab.fields), tab.panel
    preset_names = sorted({name for values in PRESETS.values() for name in values})
    starting = threading.Lock()

    @allowed("train", context)
    def start_run(shown: list[Any]) -> str:
        settings = settings_from_form(names, shown)
        with starting:
            return context.runs.submit(settings, context.preflight.expected_memory_gib(settings)).id

    @allowed("stop", context)
    def stop_watched(run_id: str | None) -> None:
        stop_run(context.runs.get(run_id))

    @allowed("train", context)
    def resume_watched(run_id: str | None) -> None:
        resume_run(context.runs.get(run_id), context.home)

    @open_to_all
    def apply_preset(preset: str) -> list[Any]:  # in the order of the outputs, because the browser applies it
        settings = complete_settings({"preset": preset}).model_dump()
        return [to_form(name, settings[name]) for name in preset_names]

    @open_to_all
    def apply_trainer(trainer: str) -> Any:
        return to_form("method", complete_settings({"trainer": trainer}).method)

    once: dict[str, Any] = {**PRIVATE, "trigger_mode": "once"}
    watching = wire_run_panel(context, panel, tab.watched)
    for field, handler, outputs in (("preset", apply_preset, preset_names), ("trainer", apply_trainer, ["method"])):
        answered = answered_in_browser(handler, choices_of(field))
        tab.fields[field].input(answered, tab.fields[field], [tab.fields[name] for name in outputs], **PRIVATE)
    clicked, form = filled_in(start.click, tab.fields.values())
    clicked.success(start_run, form, tab.watched, **once).success(**watching)
    panel.stop.click(stop_watched, tab.watched, None, **once).success(**watching)
    panel.resume.click(resume_watched, tab.watched, None, **once).success(**watching)
    panel.timer.tick(**watching)
    wire_cancellation(context, cancellation, tab.watched, watching)


def _build_form() -> tuple[dict[str, Any], dict[str, FileField], gr.Button]:
    """Build the fields by name, those of files also with their uploads, and the button that resets them."""
    defaults, files = _defaults(), {}
    fields: dict[str, Any] = {
        "model": gr.Dropdown(
            MODELS,
            value=defaults["model"],
            label="Model",
            info="Choose a model, or type a Hugging Face id or the path of a folder.",
            allow_custom_value=True,
            elem_id="model",
        ),
        "method": _radio("method", defaults, ["qlora", "lora", "full"]),
        "preset": _radio("preset", defaults, list(PRESETS), PRESET_INFO),
        "name": make_field("name", defaults["name"], label="Name", placeholder="optional", elem_id="name"),
    }
    with gr.Accordion("All settings", open=False, elem_id="all-settings"):
        for section, title in SECTION_TITLES.items():
            gr.Markdown(f"**{title}**")
            with gr.Row():
                for name in fields_of(section):  # type: ignore[arg-type]
                    if name not in (*TOP_FIELDS, *DATA_TAB_FIELDS, *FILE_SETTINGS):
                        look = {"min_width": 220, "elem_id": name, **FIELD_OPTIONS.get(name, {})}
                        fields[name] = make_field(name, defaults[name], **look)
            with gr.Row(equal_height=False):
                for name in fields_of(section):  # type: ignore[arg-type]
                    if name in FILE_SETTINGS:
                        files[name] = build_file_field(name, defaults[name])
                        fields[name] = files[name].path
        reset = gr.Button("Reset to defaults", size="md", elem_id="reset-form")
    return fields, files, reset


def _radio(name: str, defaults: dict[str, Any], choices: list[str], more_info: str = "") -> gr.Radio:
    labels = {"qlora": "QLoRA", "lora": "LoRA", "full": "Full", "quick": "Quick look"}
    return gr.Radio(
        [(labels.get(choice, choice.capitalize()), choice) for choice in choices],
        value=defaults[name],
        label=name.capitalize(),
        info=f"{RunSettings.model_fields[name].description}{more_info}",
        elem_id=name,
    )


def _defaults() -> dict[str, Any]:
    return complete_settings({}).model_dump()

"""How the rows are read: the detected layout with its reasons, other possible layouts, and columns chosen by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.data.reading import LoadedData, first_example, read_column_names
from sft_app.data.sources.data_files import data_suffix
from sft_app.data.sources.sheets import SHEET_SUFFIXES, sheet_names
from sft_app.errors import DataError
from sft_app.settings import COLUMN_ROLES, DataSettings, RunSettings
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.data import views as data_views
from sft_app.ui.events import PRIVATE, Updates
from sft_app.ui.forms import make_field, settings_from_form, to_form
from sft_app.ui.permissions import allowed, open_to_all

NO_COLUMN = "(none)"
COLUMNS_OFFERED = 1000
# Runs in the browser: the server's response to an earlier choice could undo a later one, or reopen a list.
TAKE_MAPPING = f"""(...columns) => {{
    const named = {json.dumps(COLUMN_ROLES)}.map((role, index) => [role, columns[index]]);
    const chosen = named.filter(([role, column]) => column && column !== {json.dumps(NO_COLUMN)});
    const entries = chosen.map(([role, column]) => role + "=" + column);
    const whole = ["user", "assistant"].every(role => chosen.some(([name]) => name === role));
    return whole ? ["columns", entries.join("\\n")] : [undefined, undefined];
}}"""
SHOW_MAPPING = """(found, shown, ...now) => {
    const values = now.slice(0, -2), layout = now.slice(-2), nothing = [undefined, ...values.map(() => undefined)];
    const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);
    if (!found || !same(found.layout, layout) || same(found, shown)) return nothing;
    return [found, ...values.map((value, index) => {
        const update = {__type__: "update"};
        if (!shown || !same(found.choices[index], shown.choices[index])) update.choices = found.choices[index];
        if (value !== found.values[index]) update.value = found.values[index];
        return Object.keys(update).length > 1 ? update : undefined;
    })];
}"""
TREE_FIELDS = ("reply_paths", "text_language")
CHAT_FIELDS = ("assistant", "reasoning")
CONTEST_FIELDS = ("code_language", "solutions_per_problem")


@dataclass(frozen=True)
class ColumnList:
    """The choices of one list of columns as (label, value), and the selected value."""

    choices: list[tuple[str, str]]
    value: str | None


@dataclass(frozen=True)
class ReadingChoice:
    """The components for the layout. `readings` lists the detected layouts and `sheets` a workbook's sheets, if
    several; `speakers` asks who of them is the assistant, and `answered` changes with each answer; `mapping` selects
    columns.

    `mapping_found` is what `mapping` should offer for the data, and `mapping_shown` is what it currently offers.
    """

    facts: gr.HTML
    guess: gr.HTML
    readings: gr.Radio
    mapping_box: gr.Group
    mapping: list[gr.Dropdown]
    sheets: gr.Radio
    speakers: gr.Radio
    answered: gr.Textbox
    tree_box: gr.Group
    contest_box: gr.Group
    left_out_box: gr.Accordion
    left_out: gr.Markdown
    mapping_found: gr.JSON
    mapping_shown: gr.JSON

    def outputs(self) -> list[Any]:
        boxes = [self.sheets, self.speakers, self.tree_box, self.contest_box, self.left_out_box, self.left_out]
        return [self.facts, self.guess, self.readings, self.mapping_box, self.mapping_found, *boxes]

    def offer_columns(self, settings: DataSettings, lists: list[ColumnList]) -> Updates:
        """Send the lists of columns together, for `SHOW_MAPPING`."""
        found = {
            "data": settings.data,
            "layout": [settings.format, to_form("columns", settings.columns)],
            "choices": [one.choices for one in lists],
            "values": [one.value for one in lists],
        }
        return {self.mapping_found: found}


def build_reading(fields: dict[str, Any], loaded: LoadedData) -> ReadingChoice:
    """Build the components, and add the settings that they hold to `fields`."""
    defaults = RunSettings()
    facts = gr.HTML(data_views.data_summary_card(loaded), elem_id="data-facts")
    guess = gr.HTML(guess_card(loaded), elem_id="guess")
    speakers = gr.Radio([], label="Which of them is the assistant?", visible=False, elem_id="who-answers")
    answered = gr.Textbox(visible=False)
    sheets = gr.Radio([], label="Sheet", info="One sheet of a workbook is read.", visible=False, elem_id="sheets")
    fields["sheet"] = make_field("sheet", defaults.sheet, visible=False, elem_id="sheet")
    readings = gr.Radio([], label="Detected layout", visible=False, elem_id="readings")
    choices = [(label, name) for name, label in data_views.FORMAT_LABELS.items()]
    fields["format"] = make_field(
        "format", defaults.format, label="Layout of the rows", info=None, choices=choices, elem_id="format"
    )
    fields["columns"] = make_field("columns", defaults.columns, visible=False, elem_id="columns")
    labels = {"user": "Question", "assistant": "Answer", "system": "System prompt", "context": "Context"}
    mapping = []
    with gr.Group(visible=False) as mapping_box:
        for pair in (COLUMN_ROLES[:2], COLUMN_ROLES[2:]):
            with gr.Row():
                mapping += [gr.Dropdown([], label=labels[role], min_width=140, elem_id=f"map-{role}") for role in pair]
    with gr.Accordion("Chats and reasoning", open=False, elem_id="chat-options"), gr.Row():
        for name in CHAT_FIELDS:
            fields[name] = make_field(name, getattr(defaults, name), min_width=140, elem_id=name)
    tree_box, contest_box = (_build_options(fields, names) for names in (TREE_FIELDS, CONTEST_FIELDS))
    with gr.Accordion("Skipped rows", open=True, visible=False, elem_id="left-out") as left_out_box:
        left_out = gr.Markdown()
    found, shown = gr.JSON(None, visible=False), gr.JSON(None, visible=False)
    boxes = (sheets, speakers, answered, tree_box, contest_box, left_out_box, left_out)
    return ReadingChoice(facts, guess, readings, mapping_box, mapping, *boxes, found, shown)


def reading_updates(reading: ReadingChoice, loaded: LoadedData, settings: DataSettings) -> Updates:
    """Show how a file is read with these settings."""
    decided, guesses = loaded.file.settings, loaded.file.candidates
    chosen = next(
        (i for i, g in enumerate(guesses) if (g.format, g.columns) == (decided.format, decided.columns)), None
    )
    is_table = decided.format == "columns" or loaded.file.certainty == "guess"
    choices = [(data_views.reading_label(guess), index) for index, guess in enumerate(guesses)]
    return {
        reading.facts: data_views.data_summary_card(loaded),
        reading.guess: guess_card(loaded),
        reading.readings: gr.Radio(choices, value=chosen, visible=len(guesses) > 1),
        reading.mapping_box: gr.Group(visible=is_table),
        **reading.offer_columns(settings, column_lists(decided, loaded.file.column_names)),
        reading.sheets: _sheet_choice(loaded.file.path, settings.sheet),
        reading.speakers: gr.Radio(visible=False),
        reading.tree_box: gr.Group(visible=decided.format == "oasst"),
        reading.contest_box: gr.Group(visible=decided.format == "code_contests"),
        reading.left_out_box: gr.Accordion(f"Skipped rows: {len(loaded.rejected):,}", visible=bool(loaded.rejected)),
        reading.left_out: data_views.left_out_list(loaded.rejected),
    }


def _sheet_choice(path: Path, sheet: str | None) -> gr.Radio:
    """Return the list of a workbook's sheets; hidden if there is only one, or for any other file."""
    names = sheet_names(path) if data_suffix(path) in SHEET_SUFFIXES else []
    wanted = (sheet or "").strip().lower()
    matching = (name for name in names if name.strip().lower() == wanted or not wanted)
    return gr.Radio(names, value=next(matching, None), visible=len(names) > 1)


def guess_card(loaded: LoadedData) -> str:
    """Show the detected layouts, with an example of each where the layout is not certain."""
    file = loaded.file
    needs_example = file.certainty == "guess" or len(file.open_candidates()) > 1
    guesses = [(guess, first_example(file, guess) if needs_example else None) for guess in file.open_candidates()]
    return data_views.reading_card(file.certainty, file.notes, guesses)


def unreadable_updates(
    context: PageContext, reading: ReadingChoice, settings: DataSettings, problem: str, speakers: dict[str, str] | None
) -> Updates:
    """Show why a file cannot be read. If it is a chat between `speakers`, ask; if it is a table, offer its columns."""
    if speakers:
        choices = [(data_views.speaker_label(name, said), name) for name, said in speakers.items()]
        asked = gr.Radio(choices, value=None, visible=True)
        return {**refused_updates(reading, problem), reading.speakers: asked}
    columns = _columns_if_any(context, settings)
    lists = reading.offer_columns(settings, column_lists(settings, columns))
    others: Updates = {reading.mapping_box: gr.Group(visible=bool(columns))}
    if data_suffix(settings.data) in SHEET_SUFFIXES:
        others[reading.sheets] = _sheet_choice(Path(settings.data), settings.sheet)
    return {**refused_updates(reading, problem), **others, **lists}


def refused_updates(reading: ReadingChoice, problem: str) -> Updates:
    """Show why the data cannot be read. The lists of columns do not change."""
    return {
        reading.facts: views.problem_card(problem),
        reading.guess: "",
        reading.readings: gr.Radio(visible=False),
        reading.sheets: gr.Radio(visible=False),
        reading.speakers: gr.Radio(visible=False),
        reading.mapping_box: gr.Group(visible=False),
        reading.tree_box: gr.Group(visible=False),
        reading.contest_box: gr.Group(visible=False),
        reading.left_out_box: gr.Accordion(visible=False),
        reading.left_out: "",
    }


def wire_reading(context: PageContext, reading: ReadingChoice, fields: dict[str, Any]) -> None:
    names, inputs = list(fields), list(fields.values())
    layout = [fields["format"], fields["columns"]]

    @allowed("look", context)
    def apply_reading(index: int, *shown: Any) -> Updates:
        guess = context.data.load(settings_from_form(names, shown).reading()).file.candidates[index]
        return {fields["format"]: guess.format, fields["columns"]: to_form("columns", guess.columns)}

    choose_sheet = open_to_all(lambda name: name)
    answer = open_to_all(lambda name: [name, name])
    answers = [fields["assistant"], reading.answered]
    reading.speakers.input(answer, reading.speakers, answers, **{**PRIVATE, "preprocess": False})
    reading.sheets.input(choose_sheet, reading.sheets, fields["sheet"], **{**PRIVATE, "preprocess": False})
    reading.readings.input(apply_reading, [reading.readings, *inputs], layout, **PRIVATE)
    gr.on([field.input for field in reading.mapping], None, reading.mapping, layout, js=TAKE_MAPPING, **PRIVATE)


def wire_mapping(reading: ReadingChoice, fields: dict[str, Any], read: Any) -> None:
    """Update the lists of columns after each `read` event."""
    layout = [fields["format"], fields["columns"]]
    outputs = [reading.mapping_shown, *reading.mapping]
    read.success(None, [reading.mapping_found, *outputs, *layout], outputs, js=SHOW_MAPPING, **PRIVATE)


def _build_options(fields: dict[str, Any], names: tuple[str, ...]) -> gr.Group:
    """Build the fields of settings that apply to only one layout or type of file."""
    box: gr.Group
    with gr.Group(visible=False) as box, gr.Row():
        for name in names:
            fields[name] = make_field(name, RunSettings.model_fields[name].default, min_width=140, elem_id=name)
    return box


def column_lists(settings: DataSettings, columns: list[str]) -> list[ColumnList]:
    """Return the choices and the selected column for each role."""
    chosen = settings.column_map()
    offered = list(
        dict.fromkeys([*columns[:COLUMNS_OFFERED], *chosen.values()])
    )  # gr.Dropdown rejects a value that is not in its list
    needed = ("user", "assistant")
    return [
        ColumnList(
            [(name, name) for name in (offered if role in needed else [NO_COLUMN, *offered])],
            chosen.get(role, None if role in needed else NO_COLUMN),
        )
        for role in COLUMN_ROLES
    ]


def _columns_if_any(context: PageContext, settings: DataSettings) -> list[str]:
    """Return the columns of a table whose layout is not recognised, so that the person can choose them."""
    try:
        return read_column_names(settings, context.home)
    except DataError:
        return []

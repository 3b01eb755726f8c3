"""How the rows are read: the guess with its reasons, another reading where there is one, and columns named by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.data.reading import LoadedData, first_example, read_column_names
from sft_app.errors import DataError
from sft_app.settings import COLUMN_ROLES, DataSettings, RunSettings
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.data import views as data_views
from sft_app.ui.events import PRIVATE
from sft_app.ui.forms import make_field, settings_from_form, to_form
from sft_app.ui.permissions import allowed

NO_COLUMN = "(none)"
COLUMNS_OFFERED = 1000
# Worked off by the page: an answer of the server to an earlier choice could undo a later one, or open a list anew.
TAKE_MAPPING = f"""(...columns) => {{
    const named = {json.dumps(COLUMN_ROLES)}.map((role, place) => [role, columns[place]]);
    const chosen = named.filter(([role, column]) => column && column !== {json.dumps(NO_COLUMN)});
    const entries = chosen.map(([role, column]) => role + "=" + column);
    const whole = ["user", "assistant"].every(role => chosen.some(([name]) => name === role));
    return whole ? ["columns", entries.join("\\n")] : [undefined, undefined];
}}"""
SHOW_MAPPING = """(found, shown, ...now) => {
    const values = now.slice(0, -2), layout = now.slice(-2), nothing = [undefined, ...values.map(() => undefined)];
    const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);
    if (!found || !same(found.layout, layout) || same(found, shown)) return nothing;
    return [found, ...values.map((value, place) => {
        const update = {__type__: "update"};
        if (!shown || !same(found.choices[place], shown.choices[place])) update.choices = found.choices[place];
        if (value !== found.values[place]) update.value = found.values[place];
        return Object.keys(update).length > 1 ? update : undefined;
    })];
}"""
TREE_FIELDS = ("reply_paths", "text_language")
CONTEST_FIELDS = ("code_language", "solutions_per_problem")


@dataclass(frozen=True)
class ColumnList:
    """What one of the lists of columns offers, as (label, value), and what is chosen there."""

    choices: list[tuple[str, str]]
    value: str | None


@dataclass(frozen=True)
class ReadingChoice:
    """How the rows are read. `readings` offers the guesses where there are several; `mapping` names columns.

    `mapping_found` is what `mapping` should offer for the data, and `mapping_shown` what it was told last.
    """

    facts: gr.HTML
    guess: gr.HTML
    readings: gr.Radio
    mapping_box: gr.Group
    mapping: list[gr.Dropdown]
    tree_box: gr.Group
    contest_box: gr.Group
    left_out_box: gr.Accordion
    left_out: gr.Markdown
    mapping_found: gr.JSON
    mapping_shown: gr.JSON

    def outputs(self) -> list[Any]:
        boxes = [self.tree_box, self.contest_box, self.left_out_box, self.left_out]
        return [self.facts, self.guess, self.readings, self.mapping_box, self.mapping_found, *boxes]

    def sent(self, values: list[Any], settings: DataSettings) -> list[Any]:
        """What the server sends of `reading_values`: the lists of columns go together, for `SHOW_MAPPING`."""
        first, last = 4, 4 + len(self.mapping)
        lists: list[ColumnList] = values[first:last]
        found = {
            "data": settings.data,
            "layout": [settings.format, to_form("columns", settings.columns)],
            "choices": [one.choices for one in lists],
            "values": [one.value for one in lists],
        }
        return [*values[:first], found, *values[last:]]


def build_reading(fields: dict[str, Any], loaded: LoadedData) -> ReadingChoice:
    defaults = RunSettings()
    facts = gr.HTML(data_views.data_facts(loaded), elem_id="data-facts")
    guess = gr.HTML(guess_card(loaded), elem_id="guess")
    readings = gr.Radio([], label="Detected layout", visible=False, elem_id="readings")
    choices = [(label, name) for name, label in data_views.FORMAT_LABELS.items()]
    fields["format"] = make_field(
        "format", defaults.format, label="Layout of the rows", choices=choices, elem_id="format"
    )
    fields["columns"] = make_field("columns", defaults.columns, visible=False, elem_id="columns")
    labels = {"user": "Question", "assistant": "Answer", "system": "System prompt", "context": "Context"}
    mapping = []
    with gr.Group(visible=False) as mapping_box:
        for pair in (COLUMN_ROLES[:2], COLUMN_ROLES[2:]):
            with gr.Row():
                mapping += [gr.Dropdown([], label=labels[role], min_width=140, elem_id=f"map-{role}") for role in pair]
    tree_box, contest_box = (_build_options(fields, names) for names in (TREE_FIELDS, CONTEST_FIELDS))
    with gr.Accordion("Skipped rows", open=True, visible=False, elem_id="left-out") as left_out_box:
        left_out = gr.Markdown()
    found, shown = gr.JSON(None, visible=False), gr.JSON(None, visible=False)
    boxes = (tree_box, contest_box, left_out_box, left_out)
    return ReadingChoice(facts, guess, readings, mapping_box, mapping, *boxes, found, shown)


def reading_values(loaded: LoadedData) -> list[Any]:
    """What is shown of a file that can be read."""
    decided, guesses = loaded.file.settings, loaded.file.candidates
    chosen = next(
        (i for i, g in enumerate(guesses) if (g.format, g.columns) == (decided.format, decided.columns)), None
    )
    is_table = decided.format == "columns" or loaded.file.certainty == "guess"
    choices = [(data_views.reading_label(guess), place) for place, guess in enumerate(guesses)]
    return [
        data_views.data_facts(loaded),
        guess_card(loaded),
        gr.Radio(choices, value=chosen, visible=len(guesses) > 1),
        *_mapping_values(decided, loaded.file.column_names, is_shown=is_table),
        gr.Group(visible=decided.format == "oasst"),
        gr.Group(visible=decided.format == "code_contests"),
        gr.Accordion(f"Skipped rows: {len(loaded.rejected):,}", visible=bool(loaded.rejected)),
        data_views.left_out_list(loaded.rejected),
    ]


def guess_card(loaded: LoadedData) -> str:
    file = loaded.file
    needs_example = file.certainty == "guess" or len(file.open_candidates()) > 1
    guesses = [(guess, first_example(file, guess) if needs_example else None) for guess in file.open_candidates()]
    return data_views.reading_card(file.certainty, file.notes, guesses)


def unreadable_values(context: PageContext, settings: DataSettings, problem: str) -> list[Any]:
    """What is shown of a file that cannot; if it is a table, its columns can be named."""
    columns = _columns_if_any(context, settings)
    mapping = _mapping_values(settings, columns, is_shown=bool(columns))
    hidden = gr.Group(visible=False)
    no_readings, no_rows = gr.Radio(visible=False), gr.Accordion(visible=False)
    return [views.problem_card(problem), "", no_readings, *mapping, hidden, hidden, no_rows, ""]


def refused_values(problem: str) -> list[Any]:
    """What is shown where nothing may or can be read; the lists of columns stay as they are."""
    hidden = gr.Group(visible=False)
    boxes = [hidden, hidden, gr.Accordion(visible=False), ""]
    return [views.problem_card(problem), "", gr.Radio(visible=False), hidden, gr.skip(), *boxes]


def wire_reading(context: PageContext, reading: ReadingChoice, fields: dict[str, Any]) -> None:
    names, inputs = list(fields), list(fields.values())
    layout = [fields["format"], fields["columns"]]

    @allowed("look", context)
    def take_reading(place: int, *shown: Any) -> list[Any]:
        guess = context.data.load(settings_from_form(names, shown).reading()).file.candidates[place]
        return [guess.format, to_form("columns", guess.columns)]

    reading.readings.input(take_reading, [reading.readings, *inputs], layout, **PRIVATE)
    gr.on([field.input for field in reading.mapping], None, reading.mapping, layout, js=TAKE_MAPPING, **PRIVATE)


def wire_mapping(reading: ReadingChoice, fields: dict[str, Any], read: Any) -> None:
    """The lists of columns follow each `read` event."""
    layout = [fields["format"], fields["columns"]]
    outputs = [reading.mapping_shown, *reading.mapping]
    read.success(None, [reading.mapping_found, *outputs, *layout], outputs, js=SHOW_MAPPING, **PRIVATE)


def _build_options(fields: dict[str, Any], names: tuple[str, ...]) -> gr.Group:
    """Settings that only one layout has."""
    with gr.Group(visible=False) as box, gr.Row():
        for name in names:
            fields[name] = make_field(name, RunSettings.model_fields[name].default, min_width=140, elem_id=name)
    return box


def _mapping_values(settings: DataSettings, columns: list[str], is_shown: bool) -> list[Any]:
    """The box and its four lists of columns."""
    chosen = settings.column_map()
    offered = list(dict.fromkeys([*columns[:COLUMNS_OFFERED], *chosen.values()]))  # a list refuses what it lacks
    needed = ("user", "assistant")
    lists = [
        ColumnList(
            [(name, name) for name in (offered if role in needed else [NO_COLUMN, *offered])],
            chosen.get(role, None if role in needed else NO_COLUMN),
        )
        for role in COLUMN_ROLES
    ]
    return [gr.Group(visible=is_shown), *lists]


def _columns_if_any(context: PageContext, settings: DataSettings) -> list[str]:
    """So that a person can name the columns of a table that nobody recognises."""
    try:
        return read_column_names(settings, context.home)
    except DataError:
        return []

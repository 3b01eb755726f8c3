"""What a browser remembers of the page, so that a reload or the next visit goes on where the last one ended.

The browser keeps it and brings it along; nothing of it is kept here, and what it brings is checked like anything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, settled

NOT_YET = "?"
"""Who it is that looks, until the page has been told: nothing is kept before."""
NO_FORM = ("watch-position", "next-position", "voter")
"""Sliders over what is there at the moment, and the name of a voter: the next one may be somebody else."""
SAVE = """(whose, tab, run, ...values) => {
    const names = %(names)s, usual = %(usual)s, form = {};
    if (whose === "%(not_yet)s") return [undefined];
    values.forEach((value, index) => { if ((value ?? "") !== (usual[index] ?? "")) form[names[index]] = value; });
    return [{whose, tab, run, form}];
}"""


@dataclass(frozen=True)
class Memory:
    """`state` is what the browser keeps, of the visitor `whose`: the open tab, the run that is shown, and the form.

    `fields` are the form's components by name.
    """

    state: gr.BrowserState
    whose: gr.Textbox
    tab: gr.Textbox
    fields: dict[str, Any]


@dataclass(frozen=True)
class Recalled:
    """What was kept, as far as the page can still show it. `form` has only what differs from the defaults."""

    tab: str
    run: str
    form: dict[str, Any]


def build_memory(context: PageContext, form: Iterable[gr.Tab]) -> Memory:
    """Of everything that is filled in on these tabs. The state's secret is none, as the page brings it along."""
    home = hashlib.sha256(str(context.home.resolve()).encode()).hexdigest()[:16]
    state = gr.BrowserState(None, storage_key=f"fine-tune-and-compare-{home}", secret="kept-by-the-browser")
    fields = {part.elem_id: part for tab in form for part in _parts_of(tab) if _is_filled_in(part)}
    whose, tab = (gr.Textbox(value, visible=False) for value in (NOT_YET, ""))
    return Memory(state, whose, tab, fields)


def wire_memory(memory: Memory, watched: gr.Textbox, tabs: Mapping[str, gr.Tab]) -> None:
    """Every change is kept at once, by the browser itself. `watched` is the id of the run that is shown."""
    for name, tab in tabs.items():
        tab.select(None, None, memory.tab, js=f"() => {json.dumps([name])}", **PRIVATE)
    kept = [memory.whose, memory.tab, watched, *memory.fields.values()]
    usual = json.dumps([part.value for part in memory.fields.values()])
    save = SAVE % {"names": json.dumps(list(memory.fields)), "usual": usual, "not_yet": NOT_YET}
    settled(part.change for part in kept).success(None, kept, memory.state, js=save, **PRIVATE)


def recalled(saved: Any, whose: str, memory: Memory) -> Recalled | None:
    """None when nothing was kept for this visitor. A field takes only what it could hold."""
    if not isinstance(saved, dict) or saved.get("whose") != whose or not isinstance(saved.get("form"), dict):
        return None
    kept = {name: value for name, value in saved["form"].items() if could_hold(memory.fields.get(name), value)}
    return Recalled(str(saved.get("tab") or ""), str(saved.get("run") or ""), kept)


def could_hold(part: Any, value: Any) -> bool:
    """Whether the value is of the component's kind; what it means is judged where it is used."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(part, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(part, gr.Slider):
        return is_number and part.minimum <= value <= part.maximum
    if isinstance(part, gr.Number):
        return is_number or value is None
    if isinstance(part, gr.Radio) or (isinstance(part, gr.Dropdown) and not part.allow_custom_value):
        return value in [choice for _, choice in part.choices]
    return isinstance(part, gr.Textbox | gr.Dropdown) and isinstance(value, str)


def _parts_of(block: Any) -> Iterable[Any]:
    for child in getattr(block, "children", ()):
        yield child
        yield from _parts_of(child)


def _is_filled_in(part: Any) -> bool:
    """By a person, and no secret; a choice among what is there at the moment is made anew."""
    if not part.elem_id or part.elem_id in NO_FORM or getattr(part, "type", None) == "password":
        return False
    if isinstance(part, gr.Radio | gr.Dropdown):
        return bool(part.choices)
    return isinstance(part, gr.Textbox | gr.Number | gr.Checkbox | gr.Slider)

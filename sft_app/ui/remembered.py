"""State of the page that the browser stores, so that a reload or the next visit continues where the last one ended.

The server stores none of it, and checks it like any other input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.settings import FORMER_PRESETS, PRESETS
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, settled

NOT_YET = "?"
"""The visitor's name until the page has loaded it. Nothing is saved before that."""
NO_FORM = ("watch-position", "next-position", "voter", "edit-row")
"""Components that are not saved: sliders over current results, a row to go to, and the voter's name, who may change."""
SAVE = """(whose, tab, run, ...values) => {
    const names = %(names)s, usual = %(usual)s, form = {};
    if (whose === "%(not_yet)s") return [undefined];
    values.forEach((value, index) => { if ((value ?? "") !== (usual[index] ?? "")) form[names[index]] = value; });
    return [{whose, tab, run, form}];
}"""


@dataclass(frozen=True)
class Memory:
    """`state` is what the browser stores for the visitor `whose`: the open tab, the selected run, and the form.

    `fields` are the form's components by name.
    """

    state: gr.BrowserState
    whose: gr.Textbox
    tab: gr.Textbox
    fields: dict[str, Any]


@dataclass(frozen=True)
class Recalled:
    """The restored state, limited to what the page can still show. `form` has only the values that are not defaults."""

    tab: str
    run: str
    form: dict[str, Any]


def build_memory(context: PageContext, form: Iterable[gr.Tab]) -> Memory:
    """Create the memory of all form fields on these tabs. Its secret protects nothing: the page sends the state."""
    home = hashlib.sha256(str(context.home.resolve()).encode()).hexdigest()[:16]
    state = gr.BrowserState(None, storage_key=f"fine-tune-and-compare-{home}", secret="kept-by-the-browser")
    fields = {part.elem_id: part for tab in form for part in _parts_of(tab) if _is_filled_in(part)}
    whose, tab = (gr.Textbox(value, visible=False) for value in (NOT_YET, ""))
    return Memory(state, whose, tab, fields)


def wire_memory(memory: Memory, watched: gr.Textbox, tabs: Mapping[str, gr.Tab]) -> None:
    """Save every change immediately, in the browser itself. `watched` is the id of the selected run."""
    for name, tab in tabs.items():
        tab.select(None, None, memory.tab, js=f"() => {json.dumps([name])}", **PRIVATE)
    kept = [memory.whose, memory.tab, watched, *memory.fields.values()]
    usual = json.dumps([part.value for part in memory.fields.values()])
    save = SAVE % {"names": json.dumps(list(memory.fields)), "usual": usual, "not_yet": NOT_YET}
    settled(part.change for part in kept).success(None, kept, memory.state, js=save, **PRIVATE)


def restore_memory(saved: Any, whose: str, memory: Memory) -> Recalled | None:
    """Return the saved state with values that the fields accept; None if nothing was saved for this visitor."""
    if not isinstance(saved, dict) or saved.get("whose") != whose or not isinstance(saved.get("form"), dict):
        return None
    left_out = _values_of_former_preset(saved["form"])
    form = {name: value for name, value in saved["form"].items() if name not in left_out}
    kept = {name: value for name, value in form.items() if could_hold(memory.fields.get(name), value)}
    return Recalled(str(saved.get("tab") or ""), str(saved.get("run") or ""), kept)


def _values_of_former_preset(form: Mapping[str, Any]) -> set[str]:
    """Return the fields that a preset of an earlier version filled in: without its name they would seem chosen."""
    return {name for values in PRESETS.values() for name in values} if form.get("preset") in FORMER_PRESETS else set()


def could_hold(part: Any, value: Any) -> bool:
    """Return whether the component accepts values of this type. The value itself is checked where it is used."""
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
    """Return whether a person fills it in and it is not a secret. Choices from lists that change are not saved."""
    if not part.elem_id or part.elem_id in NO_FORM or getattr(part, "type", None) == "password":
        return False
    if isinstance(part, gr.Radio | gr.Dropdown):
        return bool(part.choices)
    return isinstance(part, gr.Textbox | gr.Number | gr.Checkbox | gr.Slider)

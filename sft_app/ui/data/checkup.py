"""The check-up of the data: what the doctor finds, the fixes it offers, and how long the conversations are."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.data.checkup.fixes import LABELS, RECOMMENDED, read_cleaning, write_cleaned_copy
from sft_app.data.checkup.inspection import Inspection
from sft_app.data.reading import DataFile
from sft_app.errors import DataError
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import RunSettings
from sft_app.ui import views
from sft_app.ui.data import views as data_views
from sft_app.ui.events import PRIVATE, Updates, with_javascript
from sft_app.ui.permissions import open_to_all

WAITING = "The check-up starts once the data has been read."
NOTHING: tuple[str, list[str]] = ("", [])
OFFER_FIXES = f"""(found, offered, ticked) => {{
    if (JSON.stringify(found) === JSON.stringify(offered)) return [undefined, undefined, undefined];
    const labels = {json.dumps(LABELS)}, recommended = {json.dumps(RECOMMENDED)};
    const [data, names] = found, answered = offered[0] === data ? offered[1] : [];
    const chosen = names.filter(name => (answered.includes(name) ? ticked : recommended).includes(name));
    const update = {{__type__: "update", choices: names.map(name => [labels[name], name]), value: chosen}};
    return [{{__type__: "update", visible: names.length > 0}}, update, found];
}}"""


@dataclass(frozen=True)
class Checkup:
    """`fixing` shows when there is something to fix.

    `seen` remembers what is shown already, `found` (data file, fixes) what it says can be done, and `offered` the
    same of the check-up whose fixes stand in `fixes`. Both are values of the browser.
    """

    findings: gr.HTML
    lengths: gr.HTML
    fixing: gr.Group
    fixes: gr.CheckboxGroup
    clean: gr.Button
    seen: gr.State
    found: gr.JSON
    offered: gr.JSON

    def outputs(self) -> list[Any]:
        return [self.findings, self.lengths, self.found, self.seen]

    def offers(self) -> list[Any]:
        return [self.fixing, self.fixes, self.offered]


def build_checkup(lengths: gr.HTML) -> Checkup:
    """`lengths` may stand elsewhere."""
    gr.Markdown("### Check-up")
    findings = gr.HTML(views.empty_card(WAITING), elem_id="findings")
    with gr.Group(visible=False) as fixing:
        fixes = gr.CheckboxGroup([], label="Fixes to apply", info="Your file is not changed.", elem_id="fixes")
        clean = gr.Button("Make a cleaned copy", size="md", elem_id="make-copy")
    found, offered = (gr.JSON(list(NOTHING), visible=False) for _ in range(2))
    return Checkup(findings, lengths, fixing, fixes, clean, gr.State(None), found, offered)


def checkup_updates(check: Checkup, inspection: Inspection, settings: RunSettings, key: int) -> Updates:
    """Show a check-up; `key` says what it was of."""
    fixes = [name for name in LABELS if name in {finding.fix for finding in inspection.findings}]
    chart = data_views.length_chart(inspection.lengths) if inspection.lengths else ""
    return {
        check.findings: data_views.findings_list(inspection),
        check.lengths: chart,
        check.found: [settings.data, fixes],
        check.seen: key,
    }


def checkup_problem(check: Checkup, message: str) -> Updates:
    return {
        check.findings: views.problem_card(message),
        check.lengths: "",
        check.found: list(NOTHING),
        check.seen: None,
    }


def wire_fixes(check: Checkup, examined: Any) -> None:
    """The fixes follow each check-up that has been `examined`."""
    offer = with_javascript(open_to_all(offer_fixes), OFFER_FIXES)
    examined.success(offer, [check.found, check.offered, check.fixes], check.offers(), **PRIVATE)


def offer_fixes(found: tuple[str, list[str]], offered: tuple[str, list[str]], ticked: list[str]) -> list[Any]:
    """A person's ticks stay as long as the data is the same; a new fix is ticked if it is a recommended one.

    The page does it by `OFFER_FIXES`, since a tick that is set meanwhile would be lost on the way.
    """
    if found == offered:
        return [gr.skip()] * 3
    data, names = found
    answered = offered[1] if offered[0] == data else []
    chosen = [name for name in names if (name in ticked if name in answered else name in RECOMMENDED)]
    return [gr.Group(visible=bool(names)), gr.CheckboxGroup([(LABELS[n], n) for n in names], value=chosen), found]


def make_cleaned_copy(file: DataFile, fixes: list[str], folder: Path, on_progress: ProgressCallback) -> Path:
    """In the folder, under a name of its own. Raises: DataError when no fix is chosen or nothing is left."""
    fixes = [name for name in LABELS if name in fixes]
    if not fixes:
        raise DataError("Choose at least one fix first.")
    stem = file.path.name.partition(".")[0]
    copies = (folder / f"{stem}-cleaned{number or ''}.jsonl" for number in range(10_000))
    copy = next(path for path in copies if not path.exists())
    write_cleaned_copy(file, fixes, copy, on_progress)
    return copy


def cleaned_note(path: Path) -> str:
    """What was done to make a cleaned copy; "" for any other file."""
    cleaning = read_cleaning(path)
    return "" if cleaning is None else data_views.cleaned_card(cleaning)


def source_settings(path: Path) -> dict[str, Any]:
    """How the source of a cleaned copy was read. Raises: DataError when it is no cleaned copy."""
    cleaning = read_cleaning(path)
    if cleaning is None:
        raise DataError(f"{path.name} is not a cleaned copy.")
    return cleaning.settings


def for_download(path: Path) -> str:
    """A copy where the page may serve files from."""
    return str(shutil.copy(path, Path(tempfile.mkdtemp(prefix="cleaned-"))))

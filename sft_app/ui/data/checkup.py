"""The check-up of the data: its findings, the fixes it offers, and the lengths of the conversations."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.data.checkup.fixes import LABELS, RECOMMENDED, cleaning_history, write_cleaned_copy
from sft_app.data.checkup.inspection import Inspection
from sft_app.data.reading import DataFile
from sft_app.errors import DataError, NothingUsable, UnclearAssistantError
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import RunSettings
from sft_app.ui import views
from sft_app.ui.data import views as data_views
from sft_app.ui.events import PRIVATE, Updates, with_javascript
from sft_app.ui.permissions import open_to_all

CHECKUP_PENDING = "The check-up starts once the data has been read."
CREATE_COPY = "Create cleaned copy"
NO_FIXES: tuple[str, list[str]] = ("", [])
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
    """The components of the check-up. `fixing` is visible if there is something to fix.

    `seen` is the key of the check-up shown. `found` is (data file, fixes) of the newest check-up, and `offered` is the
    same for the check-up whose fixes `fixes` shows. The browser holds both.
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
    """Build the check-up. `lengths` is placed by the caller."""
    gr.Markdown("### Check-up")
    findings = gr.HTML(views.empty_card(CHECKUP_PENDING), elem_id="findings")
    with gr.Group(visible=False) as fixing:
        fixes = gr.CheckboxGroup([], label="Fixes to apply", info="Your file is not changed.", elem_id="fixes")
        clean = gr.Button(CREATE_COPY, size="md", elem_id="make-copy")
    found, offered = (gr.JSON(list(NO_FIXES), visible=False) for _ in range(2))
    return Checkup(findings, lengths, fixing, fixes, clean, gr.State(None), found, offered)


def checkup_updates(check: Checkup, inspection: Inspection, settings: RunSettings, key: int) -> Updates:
    """Show a check-up. `key` identifies its data and settings."""
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
        check.found: list(NO_FIXES),
        check.seen: None,
    }


def repair_offer(check: Checkup, error: NothingUsable, settings: RunSettings) -> Updates:
    """Show why no row can be read, and offer the fix of turns if it helps."""
    updates = checkup_problem(check, problem_of(error))
    if error.repairable:
        updates[check.findings] = data_views.repair_card(error)
        updates[check.found] = [settings.data, ["repair_turns"]]
    return updates


def problem_of(error: DataError) -> str:
    """Return the text of an error, in the words of the page."""
    if isinstance(error, UnclearAssistantError):
        return error.question
    if not isinstance(error, NothingUsable) or not error.repairable:
        return str(error)
    advice = f"This can be fixed: press “{CREATE_COPY}” under “Check-up”."
    return f"There is no usable conversation yet. {error.reason} {advice}"


def wire_fixes(check: Checkup, examined: Any) -> None:
    """Update the list of fixes after each `examined` event."""
    offer = with_javascript(open_to_all(offer_fixes), OFFER_FIXES)
    examined.success(offer, [check.found, check.offered, check.fixes], check.offers(), **PRIVATE)


def offer_fixes(found: tuple[str, list[str]], offered: tuple[str, list[str]], ticked: list[str]) -> list[Any]:
    """List the fixes. The person's ticks stay while the data is the same; a new fix is ticked if it is recommended.

    The browser runs `OFFER_FIXES` instead, because a tick set during a request to the server would be lost.
    """
    if found == offered:
        return [gr.skip()] * 3
    data, names = found
    answered = offered[1] if offered[0] == data else []
    chosen = [name for name in names if (name in ticked if name in answered else name in RECOMMENDED)]
    return [gr.Group(visible=bool(names)), gr.CheckboxGroup([(LABELS[n], n) for n in names], value=chosen), found]


def make_cleaned_copy(file: DataFile, fixes: list[str], folder: Path, on_progress: ProgressCallback) -> Path:
    """Write a cleaned copy to the folder under a new name. Raises: DataError if no fix is chosen or no row remains."""
    fixes = [name for name in LABELS if name in fixes]
    if not fixes:
        raise DataError("Choose at least one fix first.")
    copy = unused_name(folder, f"{file.path.name.partition('.')[0]}-cleaned")
    write_cleaned_copy(file, fixes, copy, on_progress)
    return copy


def unused_name(folder: Path, stem: str) -> Path:
    """Return a name for a copy that no file in the folder has."""
    return next(path for number in range(10_000) if not (path := folder / f"{stem}{number or ''}.jsonl").exists())


def cleaned_note(path: Path) -> tuple[str, int]:
    """Return a card with what was done to a copy, and how many copies led to it; "" and 0 for any other file."""
    history = cleaning_history(path)
    return data_views.cleaned_card(*history) if history else "", len(history)


def source_settings(path: Path, steps: int | None = None) -> dict[str, Any]:
    """Return the data settings of a copy's original, or of the file that many copies before it.

    Raises: DataError if the file is not a copy.
    """
    history = cleaning_history(path)
    if not history:
        raise DataError(f"{path.name} is not a cleaned copy.")
    return history[-steps if steps else 0].settings


def for_download(path: Path) -> str:
    """Copy a file to a folder that the page may serve files from."""
    return str(shutil.copy(path, Path(tempfile.mkdtemp(prefix="cleaned-"))))

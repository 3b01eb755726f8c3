"""Downloads of the chosen run: the adapter, the merged model, or what Ollama needs."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.blocks import Block

from sft_app.errors import ExportError
from sft_app.export.adapter import zip_adapter
from sft_app.export.merged import MergedModel, Step, find_merged
from sft_app.export.package import OllamaPackage, prepare_merged, prepare_ollama, zip_folder
from sft_app.runs.folder import Run
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES, PRIVATE, UNCHECKED, Updates
from sft_app.ui.export import views
from sft_app.ui.export.watched import Watched
from sft_app.ui.permissions import allowed
from sft_app.ui.views import empty_card

# A larger model is not offered as a download: you copy its folder, or push it to the Hub.
MAX_ZIP_GIB = 2.0
# A merged model, and the Ollama package if one was requested.
ExportResult = tuple[MergedModel, OllamaPackage | None]


@dataclass(frozen=True)
class Downloads:
    """The components of the Download tab. `pack` creates a zip of the merged model, `file` downloads a file."""

    result: gr.HTML
    commands: gr.Code
    pack: gr.Button
    file: gr.DownloadButton

    make: gr.Button
    stop: gr.Button

    def outputs(self) -> list[Block]:
        return [self.result, self.commands, self.pack, self.file, self.make, self.stop]

    def show(
        self,
        card: str,
        commands: str = "",
        can_pack: bool = False,
        file: Path | None = None,
        is_working: bool = False,
    ) -> Updates:
        """Show a card, the buttons and commands for an export, and whether one is in progress."""
        return {
            self.result: card,
            self.commands: gr.Code(value=commands, visible=bool(commands)),
            self.pack: gr.Button(visible=can_pack),
            self.file: gr.DownloadButton(value=str(file) if file else None, visible=file is not None),
            self.make: gr.Button(interactive=not is_working),
            self.stop: gr.Button(visible=is_working),
        }


def build_downloads(context: PageContext, chosen: gr.Dropdown) -> None:
    """Build the choice of a format, the buttons, and the result for the run that `chosen` selects."""
    kind = gr.Radio(views.EXPORT_FORMATS, value="adapter", label="Export format", elem_id="export-kind")
    with gr.Row():
        make = gr.Button("Export", variant="primary", size="md", min_width=140, elem_id="make-export")
        stop = gr.Button("Stop", size="md", min_width=140, visible=False, elem_id="stop-export")
    shown = _build_results(make, stop)
    handlers = _Handlers(context, shown)
    inputs, outputs = [chosen, kind], shown.outputs()
    work = make.click(handlers.make, inputs, outputs, trigger_mode="once", **PRIVATE)
    work.failure(handlers.look, inputs, outputs, **PRIVATE)
    stop.click(handlers.stop, inputs, outputs, **PRIVATE)
    gr.on([chosen.change, kind.change], handlers.change, inputs, outputs, **UNCHECKED)
    shown.pack.click(handlers.pack, chosen, [shown.pack, shown.file], api_visibility="private")


def _build_results(make: gr.Button, stop: gr.Button) -> Downloads:
    result = gr.HTML(empty_card(views.FORMAT_DESCRIPTIONS["adapter"]), elem_id="export-result")
    commands = gr.Code(
        label="Next, in a terminal",
        language="shell",
        lines=2,
        interactive=False,
        visible=False,
        elem_id="ollama-commands",
    )
    with gr.Row():
        pack = gr.Button("Create zip", size="md", min_width=140, visible=False, elem_id="pack-merged")
        file = gr.DownloadButton("Download zip", variant="primary", size="md", visible=False, elem_id="save-export")
    return Downloads(result, commands, pack, file, make, stop)


@dataclass
class _Export:
    """A page's export in progress: the run and format it was started for, and those selected since."""

    work: Watched[ExportResult]
    requested: tuple[str | None, str]
    selected: tuple[str | None, str]


class _Handlers:
    """The event handlers of the Download tab.

    An export ends by its own generator, never by Gradio's `cancels`: the event of a selection can reach the server
    after the click on Export that followed it, and would cancel what it came before.
    """

    def __init__(self, context: PageContext, shown: Downloads) -> None:
        self.context, self.shown = context, shown
        self.active: dict[str | None, _Export] = {}  # by the page's session
        look, merge = allowed("look", context), allowed("merge", context)
        self.make, self.look = look(self._make), look(self._look)
        self.stop, self.change = look(self._stop), look(self._change)
        self.pack = merge(self._pack)

    def _make(self, run_id: str | None, kind: str, request: gr.Request) -> Iterator[Updates]:
        run = self.context.runs.get(run_id)
        if kind == "adapter":
            with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # Gradio copies the file
                packed = zip_adapter(run, Path(folder))
                yield self.shown.show(empty_card(f"{packed.name} is ready."), file=packed)
            return
        if kind not in ("merged", "ollama"):
            raise ExportError(f"There is no export format {kind!r}.")
        self.context.access.check("merge")
        if find_merged(run, run.merged_dir) is None:
            self.context.models.release()
        work = Watched(_export_steps(run, kind))
        export = self.active[request.session_hash] = _Export(work, (run_id, kind), (run_id, kind))
        try:
            made = yield from self._follow(work.watch())
        finally:
            if self.active.get(request.session_hash) is export:  # unless the page has started another export since
                del self.active[request.session_hash]
        yield self._show_merged(*made) if made else self._look(*export.selected)

    def _stop(self, run_id: str | None, kind: str, request: gr.Request) -> Updates:
        """Stop what this page is exporting, then do as `_look`."""
        if export := self.active.get(request.session_hash):
            export.selected = run_id, kind
            export.work.stop()
        return self._look(run_id, kind)

    def _change(self, run_id: str | None, kind: str, request: gr.Request) -> Updates:
        """Do as `_stop`, unless the page is already exporting what was selected."""
        export = self.active.get(request.session_hash)
        if export and export.requested == (run_id, kind):
            return NO_UPDATES
        return self._stop(run_id, kind, request)

    def _look(self, run_id: str | None, kind: str) -> Updates:
        """Show a merged model that already exists, or else describe the selected format."""
        run = self.context.runs.find(run_id)
        merged = find_merged(run, run.merged_dir) if run and kind == "merged" else None
        return (
            self._show_merged(merged, None) if merged else self.shown.show(empty_card(views.FORMAT_DESCRIPTIONS[kind]))
        )

    def _pack(self, run_id: str | None) -> Iterator[Updates]:
        run = self.context.runs.get(run_id)
        with tempfile.TemporaryDirectory(prefix="merged-") as folder:
            packed = zip_folder(run.merged_dir, Path(folder))
            file = gr.DownloadButton(value=str(packed), visible=True)
            yield {self.shown.pack: gr.Button(visible=False), self.shown.file: file}

    def _show_merged(self, merged: MergedModel, package: OllamaPackage | None) -> Updates:
        is_local = not self.context.hosting.is_hosted
        size = sum(file.stat().st_size for file in merged.folder.iterdir()) / 2**30
        can_pack = size < MAX_ZIP_GIB
        where = f"Folder: {merged.folder}" if is_local else "" if can_pack else views.TOO_LARGE
        card = views.merged_card(merged, where, package)
        commands = views.ollama_commands(package, is_local) if package else ""
        return self.shown.show(card, commands, can_pack)

    def _follow(
        self, steps: Generator[Step, None, ExportResult | None]
    ) -> Generator[Updates, None, ExportResult | None]:
        """Show each step of the work, and return its result."""
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: ExportResult | None = end.value
                return result
            yield self.shown.show(views.merge_progress_card(step), is_working=True)


def _export_steps(run: Run, kind: str) -> Generator[Step, None, ExportResult]:
    merged = yield from prepare_merged(run, run.merged_dir)
    return merged, (yield from prepare_ollama(run, merged)) if kind == "ollama" else None

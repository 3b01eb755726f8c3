"""Files to take along: the adapter, the merged model, or what Ollama needs, of the chosen run."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.blocks import Block

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

# More than this is taken from the folder, not through the browser.
MOST_ZIPPED_GIB = 2.0
# A merged model, and what Ollama needs besides where that was asked for.
Made = tuple[MergedModel, OllamaPackage | None]


@dataclass(frozen=True)
class Downloads:
    """`pack` makes a zip of the merged model, `file` saves what there is."""

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
        """Show what was made, what can be done with it, and whether something is being made."""
        return {
            self.result: card,
            self.commands: gr.Code(value=commands, visible=bool(commands)),
            self.pack: gr.Button(visible=can_pack),
            self.file: gr.DownloadButton(value=str(file) if file else None, visible=file is not None),
            self.make: gr.Button(interactive=not is_working),
            self.stop: gr.Button(visible=is_working),
        }


def build_downloads(context: PageContext, chosen: gr.Dropdown) -> None:
    """What can be made of the run that `chosen` names, and what has been made of it."""
    kind = gr.Radio(views.KINDS, value="adapter", label="Export format", elem_id="export-kind")
    with gr.Row():
        make = gr.Button("Export", variant="primary", size="md", min_width=140, elem_id="make-export")
        stop = gr.Button("Stop", size="md", min_width=140, visible=False, elem_id="stop-export")
    shown = _build_shown(make, stop)
    handlers = _Handlers(context, shown)
    asked, outputs = [chosen, kind], shown.outputs()
    work = make.click(handlers.make, asked, outputs, trigger_mode="once", **PRIVATE)
    work.failure(handlers.look, asked, outputs, **PRIVATE)
    stop.click(handlers.leave, asked, outputs, cancels=[work], **PRIVATE)
    gr.on([chosen.change, kind.change], handlers.change, asked, outputs, cancels=[work], **UNCHECKED)
    shown.pack.click(handlers.pack, chosen, [shown.pack, shown.file], api_visibility="private")


def _build_shown(make: gr.Button, stop: gr.Button) -> Downloads:
    result = gr.HTML(empty_card(views.TOLD["adapter"]), elem_id="export-result")
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


class _Handlers:
    """What the events of `shown` call."""

    def __init__(self, context: PageContext, shown: Downloads) -> None:
        self.context, self.shown = context, shown
        # By the session of the page that asked for it: the run and format it asked for, and the work.
        self.at_work: dict[str | None, tuple[tuple[str | None, str], Watched[Made]]] = {}
        look, merge = allowed("look", context), allowed("merge", context)
        self.make, self.look = look(self._make), look(self._look)
        self.leave, self.change = look(self._leave), look(self._change)
        self.pack = merge(self._pack)

    def _make(self, run_id: str | None, kind: str, request: gr.Request) -> Iterator[Updates]:
        run = self.context.runs.get(run_id)
        if kind == "adapter":
            with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # gradio makes a copy of what is given it
                packed = zip_adapter(run, Path(folder))
                yield self.shown.show(empty_card(f"{packed.name} is ready."), file=packed)
            return
        self.context.access.check("merge")
        if find_merged(run, run.merged_dir) is None:
            self.context.models.release()
        work = Watched(_making(run, kind))
        mine = self.at_work[request.session_hash] = (run_id, kind), work
        try:
            made = yield from self._follow(work.watch())
        finally:
            if self.at_work.get(request.session_hash) is mine:  # and not what the page has asked for since
                del self.at_work[request.session_hash]
        yield self._show_merged(*made) if made else self._look(run_id, kind)

    def _leave(self, run_id: str | None, kind: str, request: gr.Request) -> Updates:
        """As `_look`, and what this page was making ends."""
        if at_work := self.at_work.get(request.session_hash):
            at_work[1].stop()
        return self._look(run_id, kind)

    def _change(self, run_id: str | None, kind: str, request: gr.Request) -> Updates:
        """As `_leave`, unless the page is already making what was chosen.

        On a busy machine the click on Export can be handled before the choice it came after.
        """
        at_work = self.at_work.get(request.session_hash)
        if at_work and at_work[0] == (run_id, kind):
            return NO_UPDATES
        return self._leave(run_id, kind, request)

    def _look(self, run_id: str | None, kind: str) -> Updates:
        """What is there already of an earlier time, else what the choice is for."""
        run = self.context.runs.find(run_id)
        merged = find_merged(run, run.merged_dir) if run and kind == "merged" else None
        return self._show_merged(merged, None) if merged else self.shown.show(empty_card(views.TOLD[kind]))

    def _pack(self, run_id: str | None) -> Iterator[Updates]:
        run = self.context.runs.get(run_id)
        with tempfile.TemporaryDirectory(prefix="merged-") as folder:
            packed = zip_folder(run.merged_dir, Path(folder))
            file = gr.DownloadButton(value=str(packed), visible=True)
            yield {self.shown.pack: gr.Button(visible=False), self.shown.file: file}

    def _show_merged(self, merged: MergedModel, package: OllamaPackage | None) -> Updates:
        is_at_home = not self.context.hosting.is_hosted
        size = sum(file.stat().st_size for file in merged.folder.iterdir()) / 2**30
        can_pack = size < MOST_ZIPPED_GIB
        where = f"Folder: {merged.folder}" if is_at_home else "" if can_pack else views.TOO_LARGE
        card = views.merged_card(merged, where, package)
        commands = views.ollama_commands(package, is_at_home) if package else ""
        return self.shown.show(card, commands, can_pack)

    def _follow(self, steps: Generator[Step, None, Made | None]) -> Generator[Updates, None, Made | None]:
        """Show each step of the work."""
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                made: Made | None = end.value
                return made
            yield self.shown.show(views.progress_card(step), is_working=True)


def _making(run: Run, kind: str) -> Generator[Step, None, Made]:
    merged = yield from prepare_merged(run, run.merged_dir)
    return merged, (yield from prepare_ollama(run, merged)) if kind == "ollama" else None

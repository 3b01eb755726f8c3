"""Files to take along: the adapter, the merged model, or what Ollama needs, of the chosen run."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.export.adapter import zip_adapter
from sft_app.export.merged import MergedModel, Step, find_merged
from sft_app.export.package import OllamaPackage, prepare_merged, prepare_ollama, zip_folder
from sft_app.runs.folder import Run
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, UNCHECKED
from sft_app.ui.export import views
from sft_app.ui.export.watched import Watched
from sft_app.ui.permissions import allowed

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

    def outputs(self) -> list[Any]:
        return [self.result, self.commands, self.pack, self.file]


def build_downloads(context: PageContext, chosen: gr.Dropdown) -> None:
    """What can be made of the run that `chosen` names, and what has been made of it."""
    kind = gr.Radio(views.KINDS, value="adapter", label="Export format", elem_id="export-kind")
    with gr.Row():
        make = gr.Button("Export", variant="primary", size="md", min_width=140, elem_id="make-export")
        stop = gr.Button("Stop", size="md", min_width=140, visible=False, elem_id="stop-export")
    shown = _build_shown()
    handlers = _Handlers(context)
    asked, outputs = [chosen, kind], [*shown.outputs(), make, stop]
    work = make.click(handlers.make, asked, outputs, trigger_mode="once", **PRIVATE)
    work.failure(handlers.look, asked, outputs, **PRIVATE)
    stop.click(handlers.leave, asked, outputs, cancels=[work], **PRIVATE)
    gr.on([chosen.change, kind.change], handlers.leave, asked, outputs, cancels=[work], **UNCHECKED)
    shown.pack.click(handlers.pack, chosen, [shown.pack, shown.file], api_visibility="private")


def _build_shown() -> Downloads:
    result = gr.HTML(views.told_card(views.TOLD["adapter"]), elem_id="export-result")
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
    return Downloads(result, commands, pack, file)


class _Handlers:
    """What the events call; all give the values of `Downloads.outputs()`, then of Make and Stop."""

    def __init__(self, context: PageContext) -> None:
        self.context = context
        self.at_work: dict[str | None, Watched[Made]] = {}  # by the session of the page that asked for it
        look, merge = allowed("look", context), allowed("merge", context)
        self.make, self.look, self.leave, self.pack = (
            look(self._make),
            look(self._look),
            look(self._leave),
            merge(self._pack),
        )

    def _make(self, run_id: str | None, kind: str, request: gr.Request) -> Iterator[list[Any]]:
        run = self.context.runs.get(run_id)
        if kind == "adapter":
            with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # gradio makes a copy of what is given it
                packed = zip_adapter(run, Path(folder))
                yield _values(views.told_card(f"{packed.name} is ready."), file=packed)
            return
        self.context.access.check("merge")
        if find_merged(run, run.merged_dir) is None:
            self.context.models.release()
        work = self.at_work[request.session_hash] = Watched(_making(run, kind))
        try:
            made = yield from _shown(work.watch())
        finally:
            if self.at_work.get(request.session_hash) is work:  # and not what the page has asked for since
                del self.at_work[request.session_hash]
        yield self._merged_values(*made) if made else self._look(run_id, kind)

    def _leave(self, run_id: str | None, kind: str, request: gr.Request) -> list[Any]:
        """As `_look`, and what this page was making ends."""
        if work := self.at_work.get(request.session_hash):
            work.stop()
        return self._look(run_id, kind)

    def _look(self, run_id: str | None, kind: str) -> list[Any]:
        """What is there already of an earlier time, else what the choice is for."""
        run = self.context.runs.find(run_id)
        merged = find_merged(run, run.merged_dir) if run and kind == "merged" else None
        return self._merged_values(merged, None) if merged else _values(views.told_card(views.TOLD[kind]))

    def _pack(self, run_id: str | None) -> Iterator[list[Any]]:
        run = self.context.runs.get(run_id)
        with tempfile.TemporaryDirectory(prefix="merged-") as folder:
            packed = zip_folder(run.merged_dir, Path(folder))
            yield [gr.Button(visible=False), gr.DownloadButton(value=str(packed), visible=True)]

    def _merged_values(self, merged: MergedModel, package: OllamaPackage | None) -> list[Any]:
        is_at_home = not self.context.hosting.is_hosted
        size = sum(file.stat().st_size for file in merged.folder.iterdir()) / 2**30
        can_pack = size < MOST_ZIPPED_GIB
        where = f"Folder: {merged.folder}" if is_at_home else "" if can_pack else views.TOO_LARGE
        card = views.merged_card(merged, where, package)
        commands = views.ollama_commands(package, is_at_home) if package else ""
        return _values(card, commands, can_pack)


def _making(run: Run, kind: str) -> Generator[Step, None, Made]:
    merged = yield from prepare_merged(run, run.merged_dir)
    return merged, (yield from prepare_ollama(run, merged)) if kind == "ollama" else None


def _shown(steps: Generator[Step, None, Made | None]) -> Generator[list[Any], None, Made | None]:
    """What the outputs show at each step."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        yield _values(views.progress_card(step), is_working=True)


def _values(
    card: str, commands: str = "", can_pack: bool = False, file: Path | None = None, is_working: bool = False
) -> list[Any]:
    return [
        card,
        gr.Code(value=commands, visible=bool(commands)),
        gr.Button(visible=can_pack),
        gr.DownloadButton(value=str(file) if file else None, visible=file is not None),
        gr.Button(interactive=not is_working),
        gr.Button(visible=is_working),
    ]

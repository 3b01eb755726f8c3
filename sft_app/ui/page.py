"""The page: its tabs, the links between them, and the server."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from rich.console import Console

from sft_app.curves import CURVES_CSS
from sft_app.evaluation.judge.addresses import is_loopback
from sft_app.hosting import Hosting, self_hosting_logins, wants_mcp
from sft_app.hub.login import hide_tokens, set_token_source
from sft_app.runs.directory import list_runs
from sft_app.runtime.home import app_log_file
from sft_app.storage.backup import PAGE_SECONDS, back_up_in_background
from sft_app.training.supervisor import ensure_supervisor
from sft_app.ui.compare.blind_test import VOTE_KEYS
from sft_app.ui.compare.tab import SIDE_IDS, CompareTab, build_compare_tab, side_updates
from sft_app.ui.context import PageContext
from sft_app.ui.data.editing import EXAMPLE_TABLES
from sft_app.ui.data.quick_sources import DROP_FILES
from sft_app.ui.data.row_view import ROW_BUTTONS
from sft_app.ui.data.tab import DataTab, build_data_tab, wire_with_model
from sft_app.ui.events import CLEAR_MESSAGES, PRIVATE, Updates, keep_last_choices
from sft_app.ui.export.tab import build_export_tab
from sft_app.ui.hosting_banner import build_gpu_notice, build_hosting_banner
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.remembered import Memory, Recalled, build_memory, restore_memory, wire_memory
from sft_app.ui.runs.run_panel import panel_updates
from sft_app.ui.runs.tab import RunsTab, build_runs_tab
from sft_app.ui.services.uploads import MAX_UPLOAD_MB
from sft_app.ui.serving.api import offer_api
from sft_app.ui.serving.trusted_hosts import GuardedApp, trusted_hosts
from sft_app.ui.train.preflight_panel import wire_preflight
from sft_app.ui.train.tab import TrainTab, build_train_tab, form_of_run

TITLE = "# Fine-tune & Compare\nTeach a chat model to answer your way, and see what changed."
ASSETS = Path(__file__).parent
PORTS_TRIED = 100
STARTS_TRIED = 3
RUNS = "Runs"
FONTS = ["Inter", "ui-sans-serif", "system-ui", "sans-serif"]
# How long gradio's queue sleeps when there is nothing to do; its default of 1 ms keeps a tenth of a core busy.
IDLE_SECONDS = 0.02
# A list of choices fades out for 0.2 s, longer on a busy machine, so two could be open at the same time.
NO_LIST_ANIMATION = (
    "const animate=Element.prototype.animate;Element.prototype.animate=function(frames,how){"
    "return animate.call(this,frames,this.matches('.options')?{...how,duration:0}:how)}"
)
SCRIPTS = ";".join((NO_LIST_ANIMATION, VOTE_KEYS, CLEAR_MESSAGES, DROP_FILES, ROW_BUTTONS, EXAMPLE_TABLES))
# Model text is escaped. This is the second line of defence: no remote images, forms or frames, whatever the text is.
POLICY = "img-src 'self' data: blob:; form-action 'self'; frame-src 'none'; object-src 'none'"


@dataclass(frozen=True)
class Tabs:
    """The tabs of the page and their components, for the wiring between them."""

    all: gr.Tabs
    items: dict[str, gr.Tab]
    data: DataTab
    train: TrainTab
    compare: CompareTab
    runs: RunsTab


def build_page(home: Path, hosting: Hosting | None = None, is_local: bool = True) -> gr.Blocks:
    """Build the page for one home folder without importing heavy libraries; a local one listens to this machine."""
    context = PageContext(home, hosting or Hosting(), is_local)
    set_token_source(context.access.token)
    only_compares = context.hosting.adapter is not None
    demo: gr.Blocks
    with gr.Blocks(title="Fine-tune & Compare", delete_cache=(3600, 86400), analytics_enabled=False) as demo:
        gr.Markdown(TITLE, elem_id="title")
        offer_api(context)  # first, or a handler of the same name takes the endpoint's name
        build_hosting_banner(context, demo)
        build_gpu_notice(context.hosting)
        with gr.Tabs(selected="data" if context.hosting.allows_training else "compare") as all_tabs:
            with gr.Tab("Data", id="data", visible=not only_compares) as data_item:
                data = build_data_tab(context)
            with gr.Tab("Train", id="train", visible=not only_compares) as train_item:
                train = build_train_tab(context, data)
            with gr.Tab("Compare", id="compare") as compare_item:
                compare = build_compare_tab(context)
            with gr.Tab(RUNS, id="runs", visible=not only_compares) as runs_item:
                runs = build_runs_tab(context)
            with gr.Tab("Export", id="export", visible=not only_compares) as export_item:
                build_export_tab(context, export_item)
        items = {item.id: item for item in (data_item, train_item, compare_item, runs_item, export_item)}
        tabs = Tabs(all_tabs, items, data, train, compare, runs)
        memory = build_memory(context, [data_item, train_item, compare_item])
        wire_memory(memory, train.watched, items)
        data.to_train.click(open_to_all(lambda: gr.Tabs(selected="train")), None, all_tabs, **PRIVATE)
        wire_with_model(data, context, demo, train.fields)
        wire_preflight(context, train.preflight, train.fields, [data.checkup.seen.change], train_item.select)
        _wire_tabs(context, tabs)
        _wire_load(context, demo, tabs, memory)
    keep_last_choices(demo)
    return demo


def launch_page(home: Path, host: str | None, port: int, hosting: Hosting) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Runs continue afterwards. Queued runs start when the page opens."""
    home.mkdir(parents=True, exist_ok=True)
    _open_log(app_log_file(home))
    ensure_supervisor(home)
    received = _record_signals()
    address = _url_host(host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1")
    console = Console(soft_wrap=True)
    demo = build_page(home, hosting, is_loopback(address))
    demo.queue(max_size=32, default_concurrency_limit=8)
    demo._queue.sleep_when_free = IDLE_SECONDS
    chosen = _open(demo, hosting, address, port)
    if chosen != port:
        console.print(f"Port {port} is in use, so the page uses {chosen} instead.")
    console.print(f"Fine-tune & Compare is running at http://{address}:{chosen} (press Ctrl-C to stop)")
    with back_up_in_background(home, PAGE_SECONDS, restores=True):
        while not received:
            time.sleep(0.2)
    for run in list_runs(home):
        if not run.status().has_ended():
            console.print(f"Run {run.id} continues in the background. Stop it with: python -m sft_app stop {run.id}")
    demo.close(verbose=False)


def _open(demo: gr.Blocks, hosting: Hosting, address: str, first: int) -> int:
    """Serve the page on the first free port from `first` on, and return the port.

    Another page that starts at the same moment may take the free port, and Gradio allows five seconds for a start.
    """
    for tries_left in reversed(range(STARTS_TRIED)):
        chosen = free_port(address, first)
        try:
            _serve(demo, hosting, address, chosen)
        except OSError:
            if not tries_left:
                raise
        else:
            break
    return chosen


def _serve(demo: gr.Blocks, hosting: Hosting, address: str, port: int) -> None:
    demo.launch(
        server_name=address,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        num_workers=0,  # workers would serve files on their own port, without the host check
        _app=GuardedApp(trusted_hosts(address, hosting, os.environ)),
        footer_links=["api", "settings"],
        auth=self_hosting_logins(os.environ),
        mcp_server=wants_mcp(os.environ),
        max_file_size=f"{MAX_UPLOAD_MB if hosting.allows_training else hosting.limits.upload_mb}mb",
        theme=gr.themes.Soft(primary_hue="emerald", neutral_hue="slate", font=FONTS),
        css_paths=[ASSETS / "page.css", CURVES_CSS],
        head=f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><script>{SCRIPTS}</script>',
    )


class _WithoutTokens(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_tokens(super().format(record))


def _open_log(file: Path) -> None:
    handler = logging.FileHandler(file)
    handler.setFormatter(_WithoutTokens(logging.BASIC_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def _url_host(host: str) -> str:
    """Return the host as a URL needs it: an IPv6 address goes in brackets, or its end would be read as a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def free_port(host: str, first: int) -> int:
    """Return the first port from `first` on that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, first + PORTS_TRIED):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), port))
            except OSError:
                continue
            return port
    return first


def _wire_tabs(context: PageContext, tabs: Tabs) -> None:
    """Refresh lists when their tab is opened, and let buttons open a tab with their run selected."""
    train, compare, runs = tabs.train, tabs.compare, tabs.runs

    @allowed("look", context)
    def compare_choices(left: str | None, right: str | None) -> Updates:
        return side_updates(context, compare, left, right)

    @allowed("look", context)
    def open_in_compare(run_id: str | None, left: str | None, right: str | None) -> Updates:
        sides = side_updates(context, compare, left, right, run_id=run_id)
        return {**sides, tabs.all: gr.Tabs(selected="compare")}

    @open_to_all
    def refresh_while_open(event: gr.SelectData) -> gr.Timer:
        return gr.Timer(active=event.value == RUNS)

    @allowed("look", context)
    def open_in_train(run_id: str | None) -> Updates:
        run = context.runs.get(run_id)
        shown = {**form_of_run(run, train), **panel_updates(context, train.panel, run.id)}
        return {tabs.all: gr.Tabs(selected="train"), train.watched: run.id, **shown}

    sides = [compare.left, compare.right]
    tabs.items["compare"].select(compare_choices, sides, sides, **PRIVATE)
    tabs.items["runs"].select(**runs.refresh).then(**runs.several.refresh)
    tabs.all.select(refresh_while_open, None, runs.timer, **PRIVATE)
    train.panel.open_compare.click(open_in_compare, [train.watched, *sides], [*sides, tabs.all], **PRIVATE)
    runs.open_compare.click(open_in_compare, [runs.chosen, *sides], [*sides, tabs.all], **PRIVATE)
    opened = [tabs.all, train.watched, *train.fields.values(), *train.panel.outputs()]
    runs.open_train.click(open_in_train, runs.chosen, opened, **PRIVATE)


def _wire_load(context: PageContext, demo: gr.Blocks, tabs: Tabs, memory: Memory) -> None:
    """Restore what this browser showed last when the page opens."""
    train = tabs.train

    @allowed("look", context)
    def attach(saved: Any) -> Updates:
        whose = context.access.whose()
        kept = restore_memory(saved, whose, memory) or _first_visit(context, train)
        run = context.runs.find(kept.run) or context.runs.current()
        run_id = run.id if run else None
        form = {field: kept.form[name] for name, field in memory.fields.items() if name in kept.form}
        sides = side_updates(context, tabs.compare, kept.form.get(SIDE_IDS[0]), kept.form.get(SIDE_IDS[1]))
        panel = panel_updates(context, train.panel, run_id)
        can_open = kept.tab in tabs.items and tabs.items[kept.tab].visible
        opened = {tabs.all: gr.Tabs(selected=kept.tab)} if can_open else {}
        return {**opened, **form, **sides, **panel, train.watched: run_id, memory.whose: whose}

    outputs = [tabs.all, train.watched, *memory.fields.values(), *train.panel.outputs(), memory.whose]
    demo.load(attach, memory.state, outputs, **PRIVATE)


def _first_visit(context: PageContext, train: TrainTab) -> Recalled:
    """Show the active run with its settings. Without an active run, show the newest run and the defaults."""
    run = context.runs.current()
    if run is None or run.status().has_ended():
        return Recalled("", "", {})
    form = form_of_run(run, train)
    return Recalled("train", run.id, {str(field.elem_id): value for field, value in form.items()})


def _record_signals() -> list[int]:
    """Install handlers for Ctrl-C and SIGTERM, and return the list that they append to.

    This happens before the page opens, because a signal that arrives while its handler is being installed can be lost.
    """
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    return received

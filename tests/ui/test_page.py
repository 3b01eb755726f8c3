"""The page without a browser: it opens fast, takes a free port, and tells errors in a sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import psutil
import pytest

from bench.browser import Server
from sft_app.errors import DataError
from sft_app.ui.events import with_error_messages
from sft_app.ui.page import build_page, free_port

PROJECT = Path(__file__).resolve().parents[2]


def test_free_port_passes_over_one_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port) > port


def test_a_server_on_a_port_in_use_says_which_one_it_took(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(home, "-m", "sft_app", "ui", "--port", str(port))
        try:
            chosen = int(server.url.rsplit(":", 1)[1])
            assert chosen > port
            assert f"Port {port} is in use, so the page uses {chosen} instead." in "".join(server.lines)
        finally:
            server.stop()


def test_building_the_page_imports_no_torch(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sft_app.ui.page import build_page; "
        f"build_page(Path({str(home)!r})); "
        "sys.exit(', '.join(m for m in ('torch', 'transformers', 'trl', 'datasets') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("plain_processes")
def test_the_page_is_open_after_no_more_work_than_an_empty_one_of_gradio(home: Path) -> None:
    """In seconds of CPU side by side: on a busy machine those of the clock measure the others."""
    server = Server(home)
    ours = sum(psutil.Process(server.process.pid).cpu_times()[:2])
    server.kill()
    page = "import gradio\nwith gradio.Blocks() as page: gradio.Textbox()\npage.launch(prevent_thread_lock=True)"
    cpu_seconds = "import time; print(time.process_time()); page.close()"
    empty = subprocess.run(
        [sys.executable, "-c", f"{page}\n{cpu_seconds}"], capture_output=True, text=True, timeout=120
    )
    assert ours < 1.1 * float(empty.stdout.split()[-1]), (ours, empty)


def test_only_the_functions_of_the_api_are_public(home: Path) -> None:
    config = build_page(home).get_config_file()
    public = [event["api_name"] for event in config["dependencies"] if event["api_visibility"] != "private"]
    runs = ["start_run", "run_status", "stop_run", "list_runs"]
    assert public == ["upload", "inspect", *runs, "compare", "score", "run_tests"]


def test_no_event_that_follows_a_choice_drops_a_later_choice(home: Path) -> None:
    events = build_page(home).get_config_file()["dependencies"]
    clicks = {"click", "submit", "load", "tick"}
    chosen = [event for event in events if any(name not in clicks for at, name in event["targets"] if at is not None)]
    assert len(chosen) > 50
    assert [event["api_name"] for event in chosen if event["trigger_mode"] != "always_last"] == []


def test_an_error_for_the_reader_becomes_its_own_sentence() -> None:
    @with_error_messages
    def handler() -> None:
        raise DataError("Row 3 is empty.")

    with pytest.raises(gr.Error, match="Row 3 is empty."):
        handler()


def test_lack_of_memory_becomes_a_sentence_with_what_to_do() -> None:
    @with_error_messages
    def fail() -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    with pytest.raises(gr.Error, match="There is not enough memory for this. Stop whatever else is using it"):
        fail()


def test_an_unexpected_error_becomes_a_sentence_without_its_details() -> None:
    @with_error_messages
    def handler() -> None:
        raise KeyError("secret")

    with pytest.raises(gr.Error, match="Something unexpected went wrong") as caught:
        handler()
    assert "secret" not in str(caught.value)


def test_an_error_in_a_stream_becomes_a_sentence_too() -> None:
    @with_error_messages
    def handler() -> Any:
        yield 1
        raise DataError("It broke.")

    stream = handler()
    assert next(stream) == 1
    with pytest.raises(gr.Error, match="It broke."):
        next(stream)

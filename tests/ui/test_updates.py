"""What handlers return as `{component: update}` arrives at those components, by Gradio's own way through the server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from sft_app.evaluation.prompt_job import PromptJob
from sft_app.inference.chat import PairChat
from sft_app.ui.compare.voting import BlindTest
from sft_app.ui.page import build_page
from tests.ui.test_run_panel import make_run

UNCHANGED = {"__type__": "update"}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    return build_page(tmp_path_factory.mktemp("home"))


def form_fields(page: gr.Blocks, event: Any) -> list[Any]:
    """The fields whose values an event is given as one list: those that the browser fills its last input with."""
    return next(other.inputs for other in page.fns.values() if other.outputs == [event.inputs[-1]])


def updates_of(blocks: gr.Blocks, handler: str, *inputs: Any) -> list[dict[Any, Any]]:
    """For each answer of the handler, what is sent for its outputs, by their ids on the page."""

    async def call() -> list[dict[Any, Any]]:
        fn = next(fn for fn in blocks.fns.values() if fn.fn and f"{fn.fn.__module__}.{fn.name}".endswith(handler))
        state = SessionState(blocks)
        returned = fn.fn(*inputs)
        answers = list(returned) if hasattr(returned, "__next__") else [returned]
        sent = [await blocks.postprocess_data(fn, answer, state) for answer in answers]
        names = [getattr(output, "elem_id", None) or output._id for output in fn.outputs]
        return [dict(zip(names, values, strict=True)) for values in sent]

    with ThreadPoolExecutor(1) as pool:  # other tests of this process may have an event loop in this thread
        return pool.submit(asyncio.run, call()).result()


@pytest.mark.parametrize(
    ("handler", "inputs", "component", "part"),
    [
        ("run_panel.watch", [None, 0, None], "run-status", "Press Start"),
        ("several_runs.compare", [[], None], "several-curves", "A comparison needs two runs"),
        ("page.attach", [None], "run-status", "Press Start"),
        ("page.compare_choices", [None, None], "compare-left", "Base model"),
        ("page.open_in_compare", ["r1", None, None], "compare-right", "r1"),
        ("scorecard_panel.show", ["base"], "scorecard", "Choose a run on the right"),
        ("blind_test.follow_side", [BlindTest(), "base"], "blind-invitation", "Choose a run on the right"),
        ("blind_test.ask_first", [], "finishing-blind", "visible"),
        ("one_prompt.as_left", [PairChat(), "Answers"], "base-answer", "<section"),
        ("many_prompts.as_left", [PromptJob()], "many-progress", "<section"),
        ("many_prompts.take_file", [None], "prompt-column", "choices"),
        ("downloads._look", [None, "merged"], "export-result", "<section"),
        ("push_panel.suggest", [None, "adapter"], "push-repo", ""),
        ("push_panel.choose", ["The whole app", ""], "space-repo", "fine-tune-and-compare"),
        ("source_form.<lambda>", [], "data", "customer_service"),
    ],
)
def test_updates_reach_their_components(
    blocks: gr.Blocks, handler: str, inputs: list[Any], component: str, part: str
) -> None:
    [sent] = updates_of(blocks, handler, *inputs)
    assert sent[component] != UNCHANGED and part in str(sent[component])


def test_what_a_handler_leaves_out_stays_as_it_is(blocks: gr.Blocks) -> None:
    [first] = updates_of(blocks, "runs.tab.list_all", None, None, None, None)
    assert first["runs-table"] != UNCHANGED
    seen = {"table": [], "choices": [], "queue": [], "measured": []}
    [again] = updates_of(blocks, "runs.tab.list_all", None, None, None, seen)
    unchanged = (UNCHANGED, {**UNCHANGED, "props": UNCHANGED}, None)  # gradio's table has props of its own
    assert [value for value in again.values() if value not in unchanged] == []


@pytest.mark.parametrize(
    ("handler", "before", "component", "part"),
    [
        ("data.tab.show", [gr.Request(session_hash="page"), None], "data-facts", "missing.jsonl"),
        ("data.tab.show_tokens", [1], "token-note", "missing.jsonl"),
        ("data.tab.examine", [gr.Request(session_hash="page"), None], "findings", "missing.jsonl"),
        ("preflight_panel.show", [], "preflight", "missing.jsonl"),
    ],
)
def test_a_file_that_is_missing_is_told_in_each_panel(
    blocks: gr.Blocks, handler: str, before: list[Any], component: str, part: str
) -> None:
    fn = next(fn for fn in blocks.fns.values() if fn.fn and f"{fn.fn.__module__}.{fn.name}".endswith(handler))
    form = ["missing.jsonl" if field.elem_id == "data" else field.value for field in form_fields(blocks, fn)]
    [sent] = updates_of(blocks, handler, *before, form)
    assert part in sent[component]


def test_a_stream_of_updates_reaches_its_components(home: Path) -> None:
    blocks, run = build_page(home), make_run(home)
    run.merged_dir.mkdir(parents=True)
    (run.merged_dir / "config.json").write_text("{}")
    [sent] = updates_of(blocks, "downloads._pack", run.id)
    assert sent["save-export"]["visible"] and not sent["pack-merged"]["visible"]

"""Write tests in a table, load or suggest them, save them with the run, and run them on both sides."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.data.checkup.finding import count_of
from sft_app.errors import AppError
from sft_app.evaluation.sides.more_sides import labels_of
from sft_app.evaluation.suites.kept import keep_tests
from sft_app.evaluation.suites.summary import suite_facts
from sft_app.evaluation.suites.table import COLUMNS, EVERY, suite_from_rows, suite_rows
from sft_app.evaluation.suites.tests_file import TEST_ENDINGS, Suite, read_tests, suite_yaml
from sft_app.runtime.files import json_text
from sft_app.ui.compare.further_sides import build_more_sides
from sft_app.ui.compare.suite_views import SuiteJob, job_card
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, NO_UPDATES, PRIVATE, Updates
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.serving.suites import kept_suite, suite_batches
from sft_app.ui.views import empty_card

PAGE_ORIGIN = "the table on the page"
FIRST_ROWS = [[EVERY, "", "ended", "true"], ["", "My order hasn't arrived yet.", "contains", "order number"]]
EMPTY_ROWS = 4
HELP = (
    "A row for each check; leave Test and Prompt empty for another check of the test above. Checks: `contains`, "
    "`contains_any` and `contains_none` (such as `[refund, replacement]`), `regex`, `json`, `words` and `characters` "
    "(such as `[5, 110]`), `ended`, `asks_question`, `language`, `equals`, `no_repetition`, `signs_as`. Rows named "
    "“every answer” apply to all tests."
)


@dataclass(frozen=True)
class TestsPanel:
    """The components of the panel."""

    table: gr.Dataframe
    result: gr.HTML
    files: list[gr.DownloadButton]

    def outputs(self) -> list[Any]:
        return [self.result, *self.files]

    def working(self, job: SuiteJob, note: str = "") -> Updates:
        return {self.result: job_card(job, note), **{file: gr.DownloadButton(visible=False) for file in self.files}}

    def ended(self, job: SuiteJob) -> Updates:
        """Show the results, with the tests and the results as files."""
        job.is_at_work = False
        written: Sequence[str | None] = _export(job) if job.judged else (None, None)
        buttons = zip(self.files, written, strict=True)
        return {
            self.result: job_card(job),
            **{file: gr.DownloadButton(value=path, visible=path is not None) for file, path in buttons},
        }


def build_tests(context: PageContext, left: gr.Dropdown, right: gr.Dropdown, opened: gr.Tab) -> None:
    """Build the table with its buttons and results. The tests kept with the run are shown when `opened` is selected."""
    job = gr.State(SuiteJob())
    gr.Markdown(HELP, elem_id="tests-help")
    table = gr.Dataframe(
        _with_empty_rows(FIRST_ROWS),
        headers=list(COLUMNS),
        type="array",
        datatype="str",
        interactive=True,
        wrap=True,
        show_label=False,
        column_widths=["200px", "460px", "180px", "330px"],
        max_height=420,
        elem_id="tests-table",
    )
    more = build_more_sides(context, "tests")
    with gr.Row():
        run = gr.Button("Run tests", variant="primary", size="md", min_width=120, elem_id="run-tests")
        stop = gr.Button("Stop", size="md", min_width=80, elem_id="stop-tests")
        save = gr.Button("Save with the run", size="md", min_width=140, elem_id="save-tests")
        suggest = gr.Button("Suggest checks", size="md", min_width=140, elem_id="suggest-tests")
        load = gr.UploadButton(
            "Load a file",
            file_types=list(TEST_ENDINGS),
            size="md",
            min_width=120,
            elem_id="load-tests",
        )
    result = gr.HTML(job_card(SuiteJob()), elem_id="tests-result")
    with gr.Row():
        files = [
            gr.DownloadButton(f"Download {what}", visible=False, size="sm", min_width=120, elem_id=f"tests-{kind}")
            for what, kind in (("tests as YAML", "yaml"), ("results as JSON", "json"))
        ]
    panel = TestsPanel(table, result, files)
    _wire_table(context, panel, right, opened, (load, suggest, save))
    work = run.click(_running(context, panel), [job, left, right, more, table], panel.outputs(), **MODEL_EVENT)
    work.failure(open_to_all(panel.ended), job, panel.outputs(), **PRIVATE)
    stop.click(_stop, job, result, **PRIVATE)


def _wire_table(
    context: PageContext,
    panel: TestsPanel,
    right: gr.Dropdown,
    opened: gr.Tab,
    buttons: tuple[gr.UploadButton, gr.Button, gr.Button],
) -> None:
    load, suggest, save = buttons
    kept = gr.State(FIRST_ROWS)

    @allowed("upload", context)
    def load_file(file: str) -> Updates:
        context.uploads.check(Path(file))
        suite = read_tests(Path(file))
        note = f"{count_of(len(suite.tests), 'test')} from {suite.origin}. To keep them, press “Save with the run”."
        return _filled(panel, suite, note)

    @allowed("look", context)
    def add_suggested(side: str | None, rows: list[list[Any]]) -> Updates:
        from sft_app.evaluation.suites.suggestions import NOTHING_SHARED, suggest_tests

        found = suggest_tests(context.sides.get_run(side))
        is_first = _texts(rows) in (FIRST_ROWS, [])
        suite = found.suite() if is_first else replace(found.suite(), tests=())
        kept = [] if is_first else _texts(rows)
        reasons = "; ".join(map(str, found.suggestions))
        note = f"{reasons}. Remove the checks that you do not need." if reasons else NOTHING_SHARED
        return {panel.table: _with_empty_rows([*map(list, suite_rows(suite)), *kept]), panel.result: empty_card(note)}

    @allowed("measure", context)
    def save_with_run(side: str | None, rows: list[list[Any]]) -> str:
        target = context.sides.get_run(side)
        suite = suite_from_rows(rows, PAGE_ORIGIN)
        keep_tests(target, suite)
        return empty_card(
            f"Saved with the run: {count_of(len(suite.tests), 'test')}. To add the results to its scorecard, press "
            "“Measure” there. Later runs on the same data use the same tests."
        )

    outputs = [panel.table, panel.result]
    show_kept, shown = _showing_kept(context, panel, kept), [*outputs, *panel.files, kept]
    gr.on([opened.select, right.change], show_kept, [right, panel.table, kept], shown, **PRIVATE)
    load.upload(load_file, load, outputs, **PRIVATE)
    suggest.click(add_suggested, [right, panel.table], outputs, **PRIVATE)
    save.click(save_with_run, [right, panel.table], panel.result, **PRIVATE)


def _showing_kept(context: PageContext, panel: TestsPanel, kept: gr.State) -> Any:
    @allowed("look", context)
    def show_kept(side: str | None, rows: list[list[Any]], shown: list[list[str]]) -> Updates:
        """Fill the table with the run's tests, unless someone has written others than those `shown` last."""
        if _texts(rows) not in (FIRST_ROWS, [], shown):
            return NO_UPDATES
        try:
            suite = kept_suite(context, side)
        except AppError as error:
            return {panel.result: empty_card(str(error))}
        if suite is None and shown == FIRST_ROWS:
            return NO_UPDATES
        wanted = [list(row) for row in suite_rows(suite)] if suite else FIRST_ROWS
        if wanted == shown == _texts(rows):
            return NO_UPDATES  # results stay
        hidden: Updates = {file: gr.DownloadButton(visible=False) for file in panel.files}
        return {**_kept_updates(panel, suite), **hidden, kept: wanted}

    return show_kept


def _running(context: PageContext, panel: TestsPanel) -> Any:
    @allowed("compare", context)
    def run(job: SuiteJob, left: str, right: str, more: list[str] | None, rows: list[list[Any]]) -> Iterator[Updates]:
        suite = suite_from_rows(rows, PAGE_ORIGIN)
        sides, further = context.sides.find_with_more(left, right, more or [])
        job.begin(suite, labels_of(sides, further), context.sides.find_run(right))
        yield panel.working(job, "Loading the model …")
        for _ in _work(job, suite_batches(context, sides, suite, further)):
            yield panel.working(job)
        yield panel.ended(job)

    return run


def _work(job: SuiteJob, batches: Iterator[Any]) -> Generator[None]:
    """Take the batches one by one, until the last one or a stop."""
    job.is_at_work = True
    try:
        while not job.is_stopping and (batch := next(batches, None)) is not None:
            job.judged += batch
            yield
    finally:
        job.is_at_work = False


def _kept_updates(panel: TestsPanel, suite: Suite | None) -> Updates:
    """Show the tests kept with a run, or the rows to begin with if it has none."""
    if suite is None:
        return {panel.table: _with_empty_rows(FIRST_ROWS), panel.result: job_card(SuiteJob())}
    return _filled(panel, suite, f"These tests are saved with the run. They come from {suite.origin}.")


def _filled(panel: TestsPanel, suite: Suite, note: str) -> Updates:
    return {panel.table: _with_empty_rows(map(list, suite_rows(suite))), panel.result: empty_card(note)}


def _with_empty_rows(rows: Iterable[list[str]]) -> list[list[str]]:
    return [*rows, *([""] * len(COLUMNS) for _ in range(EMPTY_ROWS))]


def _texts(rows: list[list[Any]]) -> list[list[str]]:
    """Return the rows that hold anything."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    return [row for row in texts if any(row)]


def _export(job: SuiteJob) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="tests-"))
    files = [folder / "tests.yaml", folder / "results.json"]
    files[0].write_text(suite_yaml(job.suite), encoding="utf-8")
    files[1].write_text(json_text(suite_facts(job.scores()), indent=2), encoding="utf-8")
    return [str(file) for file in files]


@open_to_all
def _stop(job: SuiteJob) -> str:
    job.is_stopping = True
    return job_card(job)

"""Answer many prompts, pasted or from a file, with both sides, and show the results in a table batch by batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.errors import AppError
from sft_app.evaluation.prompt_job import PromptJob, run_to_keep_pairs_in, write_results
from sft_app.evaluation.prompt_sets import (
    PROMPTS_AT_ONCE,
    Prompt,
    PromptFile,
    PromptSetTask,
    paste_prompts,
    prompt_column_names,
    read_prompt_file,
)
from sft_app.ui import views
from sft_app.ui.compare import prompt_set_views
from sft_app.ui.compare.conditions import THINKING_CHOICES, make_conditions, make_thinking, sampling_of
from sft_app.ui.compare.further_sides import build_more_sides
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, PRIVATE, Updates
from sft_app.ui.forms import settings_from_form
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.serving.zero_gpu import results_of

FILE_TYPES = [".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet"]


@dataclass(frozen=True)
class Source:
    """Where the prompts come from. `columns` is visible while the chosen file has columns."""

    pasted: gr.Textbox
    file: gr.File
    columns: gr.Row
    prompt_column: gr.Dropdown
    reference_column: gr.Dropdown
    note: gr.HTML

    def inputs(self) -> list[Any]:
        return [self.pasted, self.file, self.prompt_column, self.reference_column]


@dataclass(frozen=True)
class Results:
    """The progress and the results. `content` is visible once there are rows."""

    progress: gr.HTML
    content: gr.Column
    most_changed: gr.Checkbox
    table: gr.Dataframe
    detail: gr.HTML
    downloads: gr.Row
    files: list[gr.DownloadButton]

    def outputs(self) -> list[Any]:
        return [self.progress, self.content, self.table, self.downloads, *self.files]

    def show(self, job: PromptJob, note: str = "") -> Updates:
        """Show the rows so far. A full table in the order of the prompts is not sent again."""
        is_full = len(job.results) >= prompt_set_views.MAX_TABLE_ROWS + PROMPTS_AT_ONCE and not job.most_changed_first
        return {
            self.progress: prompt_set_views.prompts_progress_card(job, note),
            self.content: gr.Column(visible=bool(job.results)),
            **({} if is_full else {self.table: table_value(job)}),
            self.downloads: gr.Row(visible=False),
            **dict.fromkeys(self.files),
        }

    def as_left(self, job: PromptJob) -> Updates:
        """Show the results after the job has ended or stopped, with their files."""
        files: Sequence[str | None] = _export(job) if job.results else (None, None)
        return {
            self.progress: prompt_set_views.prompts_progress_card(job),
            self.content: gr.Column(visible=bool(job.results)),
            self.table: table_value(job),
            self.downloads: gr.Row(visible=bool(job.results)),
            **dict(zip(self.files, files, strict=True)),
        }


def build_many_prompts(context: PageContext, left: gr.Dropdown, right: gr.Dropdown) -> None:
    """Build the prompt source, the generation settings, and the table with one result in full below it."""
    job, source = gr.State(PromptJob()), _build_source()
    with gr.Accordion("Generation settings (the same for both sides)", open=False), gr.Row():
        conditions, thinking = make_conditions("many"), make_thinking("many")
    more = build_more_sides(context, "many")
    with gr.Row():
        ask = gr.Button("Answer all prompts", variant="primary", size="md", min_width=140, elem_id="answer-all")
        stop = gr.Button("Stop", size="md", min_width=140, elem_id="stop-all")
    results = _build_results()
    handler = _answering(context, results, list(conditions))
    inputs = [job, left, right, more, *source.inputs(), thinking, *conditions.values()]
    work = ask.click(handler, inputs, [*results.outputs(), results.detail], **MODEL_EVENT)
    work.failure(open_to_all(results.as_left), job, results.outputs(), **PRIVATE)
    stop.click(_stop, job, results.progress, **PRIVATE)
    _wire_source(context, source)
    _wire_results(job, results)


def _build_source() -> Source:
    with gr.Row(equal_height=False):
        pasted = gr.Textbox(
            label="Prompts, one per line",
            placeholder="My order hasn't arrived yet. What should I do?\nThe pot I ordered came broken.",
            lines=6,
            max_lines=12,
            scale=3,
            min_width=280,
            elem_id="pasted-prompts",
        )
        with gr.Column(scale=2, min_width=280):
            file = gr.File(
                label="Or upload a file (text, CSV, JSONL …)",
                file_types=FILE_TYPES,
                height=150,
                elem_id="prompt-file",
            )
            with gr.Row(visible=False) as columns:
                prompt_column, reference_column = (
                    gr.Dropdown([], label=label, info=info, allow_custom_value=True, min_width=120, elem_id=id)
                    for label, info, id in (
                        ("Prompt column", "Leave empty to detect it by name.", "prompt-column"),
                        ("Reference column", "Reference answers, if the file has any.", "reference-column"),
                    )
                )
            note = gr.HTML(elem_id="prompt-file-note")
    return Source(pasted, file, columns, prompt_column, reference_column, note)


def _build_results() -> Results:
    progress = gr.HTML(prompt_set_views.prompts_progress_card(PromptJob()), elem_id="many-progress")
    with gr.Column(visible=False) as content:
        most_changed = gr.Checkbox(False, label="Most changed first", container=False, elem_id="most-changed")
        table = gr.Dataframe(interactive=False, wrap=True, show_label=False, max_height=560, elem_id="many-table")
        detail = gr.HTML(prompt_set_views.click_a_row(), elem_id="many-detail")
        with gr.Row(visible=False) as downloads:
            files = [
                gr.DownloadButton(
                    f"Download answers as {kind}", size="sm", min_width=120, elem_id=f"many-{kind.lower()}"
                )
                for kind in ("CSV", "JSONL")
            ]
    return Results(progress, content, most_changed, table, detail, downloads, files)


def _wire_source(context: PageContext, source: Source) -> None:
    @allowed("upload", context)
    def take_file(file: str | None) -> Updates:
        if file:
            context.uploads.check(Path(file))
        names = prompt_column_names(Path(file)) if file else []
        return {
            source.columns: gr.Row(visible=bool(names)),
            source.prompt_column: gr.Dropdown(["", *names], value=""),
            source.reference_column: gr.Dropdown(["", *names], value=""),
            source.note: note_file(file, "", ""),
        }

    @allowed("upload", context)
    def note_file(file: str | None, prompt_column: str | None, reference_column: str | None) -> str:
        try:
            return (
                prompt_set_views.file_note(read_prompts(context, file, prompt_column, reference_column)) if file else ""
            )
        except AppError as error:
            return views.problem_card(str(error))

    outputs = [source.columns, source.prompt_column, source.reference_column, source.note]
    source.file.change(take_file, source.file, outputs, **PRIVATE)
    columns = [source.prompt_column, source.reference_column]
    gr.on([column.input for column in columns], note_file, [source.file, *columns], source.note, **PRIVATE)


def _wire_results(job: gr.State, results: Results) -> None:
    @open_to_all
    def choose_row(job: PromptJob, event: gr.SelectData) -> str:
        number = int(event.row_value[0])
        return prompt_set_views.pair_card(job.results[number - 1], job.labels)

    @open_to_all
    def sort(job: PromptJob, most_changed_first: bool) -> gr.Dataframe:
        job.most_changed_first = most_changed_first
        return table_value(job)

    results.table.select(choose_row, job, results.detail, **PRIVATE)
    results.most_changed.change(sort, [job, results.most_changed], results.table, **PRIVATE)


def _answering(context: PageContext, results: Results, names: list[str]) -> Any:
    @allowed("compare", context)
    def answer(
        job: PromptJob,
        left: str,
        right: str,
        more: list[str] | None,
        pasted: str,
        file: str | None,
        prompt_column: str,
        reference_column: str,
        think: str,
        *shown: Any,
    ) -> Iterator[Updates]:
        settings = settings_from_form(names, shown)
        prompts = chosen_prompts(context, pasted, file, prompt_column, reference_column)
        sides, further = context.sides.find_with_more(left, right, more or [], THINKING_CHOICES[think])
        context.access.check_questions(
            [prompt.text for prompt in prompts], settings.system_prompt, settings.max_new_tokens
        )
        job.begin(sides, len(prompts), further)
        yield {**results.show(job, "Loading the model …"), results.detail: prompt_set_views.click_a_row()}
        task = PromptSetTask(prompts, settings.system_prompt, sampling_of(settings), further)
        batches, kept_with = (
            results_of(context.models, sides, task),
            run_to_keep_pairs_in(sides, context.runs.find(sides[1].name)),
        )
        for _ in context.access.within_time(job.work(batches, kept_with)):
            yield results.show(job)
        yield results.as_left(job)

    return answer


def chosen_prompts(
    context: PageContext, pasted: str, file: str | None, prompt_column: str | None, reference_column: str | None
) -> list[Prompt]:
    """Return the prompts of the file if one is chosen, else the pasted ones. Raises: DataError, AccessError."""
    if file:
        return list(read_prompts(context, file, prompt_column, reference_column).prompts)
    return paste_prompts(pasted or "")


def read_prompts(
    context: PageContext, file: str, prompt_column: str | None, reference_column: str | None
) -> PromptFile:
    """Read a prompt file. Raises: DataError; AccessError if it is larger than this visitor may upload."""
    context.uploads.check(Path(file))
    return read_prompt_file(Path(file), prompt_column or "", reference_column or "")


def table_value(job: PromptJob) -> gr.Dataframe:
    table = prompt_set_views.results_table(job)
    return gr.Dataframe(table.frame, datatype=table.types, column_widths=list(table.widths))


def _export(job: PromptJob) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="answers-"))
    files = [folder / "answers.csv", folder / "answers.jsonl"]
    for file in files:
        write_results(job, file)
    return [str(file) for file in files]


@open_to_all
def _stop(job: PromptJob) -> str:
    job.is_stopping = True
    return prompt_set_views.prompts_progress_card(job)

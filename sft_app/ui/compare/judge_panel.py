"""Ask a model to judge the pairs of the blind test. Its choices are shown only to those who have finished voting."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.errors import DataError
from sft_app.evaluation.judge.client import make_judge
from sft_app.evaluation.judge.judgements import judge_pairs, missing_pairs
from sft_app.evaluation.judge.questions import CHECKLIST, parse_checklist
from sft_app.evaluation.judge.result import judge_results
from sft_app.evaluation.votes import waiting_sentence
from sft_app.hosting import self_hosting_logins
from sft_app.runs.folder import Run
from sft_app.runtime.environment import ALLOWED_HOSTS_VARIABLE, JUDGE_KEY_VARIABLE
from sft_app.templating import render_html
from sft_app.ui import views
from sft_app.ui.compare.blind_views import judge_card
from sft_app.ui.compare.voting import BlindTest
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES, PRIVATE
from sft_app.ui.permissions import allowed, open_to_all

JUDGE_EVENT: dict[str, Any] = {**PRIVATE, "concurrency_id": "judge", "concurrency_limit": 1}
HELP = (
    "A model compares each pair in both orders. Its verdict counts only once it agrees with your votes more often than "
    "chance does. **The prompts, reference answers and both answers are sent to this address**, without the models' "
    f"names. If it needs a key, set `{JUDGE_KEY_VARIABLE}` before you start the app. Ollama silently cuts long "
    "prompts; start it with `OLLAMA_CONTEXT_LENGTH=16384 ollama serve`."
)
HIDDEN = "What the judge chose is shown once you have finished voting."
HIDDEN_FOR_OTHERS = "People are still voting. What the judge chose is shown once they have finished."


@dataclass
class JudgeJob:
    """The judging at work on one page. Once `is_stopping` is set, no further pair is asked about."""

    done: int = 0
    total: int = 0
    is_at_work: bool = False
    is_stopping: bool = False

    def begin(self, total: int) -> None:
        self.done, self.total, self.is_at_work, self.is_stopping = 0, total, True, False

    def card(self) -> str:
        stopping = ", stopping after this pair …" if self.is_stopping else ""
        title = f"Judged {self.done:,} of {self.total:,} pairs{stopping}"
        return render_html(
            "compare/progress.html", title=title, percent=100 * self.done / max(self.total, 1), remarks=[]
        )


def offers_judge(context: PageContext) -> bool:
    """Return whether no one else can use this page: the server would send requests, and its key, to any address."""
    is_shared = self_hosting_logins(os.environ) or os.environ.get(ALLOWED_HOSTS_VARIABLE)
    return context.is_local and not context.hosting.is_hosted and not is_shared


def build_judge(context: PageContext, right: gr.Dropdown, test: gr.State, changes: Sequence[Any]) -> None:
    """Build the panel. What it may show of the run on the right is decided again after each event in `changes`."""
    job = gr.State(JudgeJob())
    with gr.Accordion("Ask a model to judge", open=False, elem_id="judge"):
        gr.Markdown(HELP)
        with gr.Row():
            address = gr.Textbox(label="Address", placeholder="http://localhost:11434/v1", elem_id="judge-address")
            model = gr.Textbox(label="Model", placeholder="qwen3:8b", elem_id="judge-model")
        points = gr.Textbox(
            "\n".join(CHECKLIST), label="Checklist: a point on each line", lines=5, elem_id="judge-checklist"
        )
        with gr.Row():
            ask = gr.Button("Ask the judge", variant="primary", size="md", min_width=120, elem_id="ask-judge")
            stop = gr.Button("Stop", size="md", min_width=80, elem_id="stop-judge")
        result = gr.HTML(elem_id="judge-result")

    @allowed("look", context)
    def show(job: JudgeJob, test: BlindTest, name: str | None) -> str:
        run = context.sides.find_run(name)
        return job.card() if job.is_at_work else judge_view(run, test) if run else ""

    work = ask.click(_asking(context), [job, test, right, address, model, points], result, **JUDGE_EVENT)
    work.failure(show, [job, test, right], result, **PRIVATE)
    stop.click(_stop, job, result, **PRIVATE)
    gr.on(list(changes), show, [job, test, right], result, **PRIVATE)


def judge_view(run: Run, test: BlindTest) -> str:
    """Show the results, unless a voter on this page, or anyone if there is none, has not finished yet."""
    is_voting_here = test.run == run
    if is_voting_here and not test.has_finished():
        return views.empty_card(HIDDEN)
    if not is_voting_here and waiting_sentence(run):
        return views.empty_card(HIDDEN_FOR_OTHERS)
    return judge_card(judge_results(run))


def _asking(context: PageContext) -> Any:
    @allowed("measure", context)
    def ask_judge(job: JudgeJob, test: BlindTest, name: str, address: str, model: str, points: str) -> Iterator[str]:
        run, judge, checklist = context.sides.get_run(name), make_judge(address, model), parse_checklist(points)
        pairs = missing_pairs(run, judge, checklist)
        if not pairs and not judge_results(run):
            raise DataError("There are no answers to judge yet. The card above explains how to create them.")
        job.begin(len(pairs))
        try:
            if pairs:
                yield job.card()
            for job.done, _ in enumerate(judge_pairs(run, pairs, judge, checklist), 1):
                if job.is_stopping:
                    break
                yield job.card()
        finally:
            job.is_at_work = False
        yield judge_view(run, test)

    return ask_judge


@open_to_all
def _stop(job: JudgeJob) -> Any:
    job.is_stopping = True
    return job.card() if job.is_at_work else NO_UPDATES

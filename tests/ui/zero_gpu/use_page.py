"""Run by `test_zero_gpu` in a process of its own, where `spaces` is the stand-in: the page's own handlers, as they are
called by a browser. Prints what came of them as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from sft_app.ui.serving.zero_gpu import import_spaces

import_spaces()
import gradio as gr  # noqa: E402
import spaces  # noqa: E402

from sft_app.evaluation.prompt_job import PromptJob  # noqa: E402
from sft_app.inference.chat import PairChat  # noqa: E402
from sft_app.ui.compare.views import VIEWS  # noqa: E402
from sft_app.ui.page import build_page  # noqa: E402
from sft_app.ui.serving import zero_gpu  # noqa: E402


def find_handlers(home: Path) -> Any:
    """Those of a name in a module, in the order of the page."""
    events = build_page(home).fns.values()
    return lambda module, name: [fn.fn for fn in events if fn.name == name and fn.fn.__module__.endswith(module)]


def main(home: Path, run_id: str) -> dict[str, Any]:
    handlers, told = find_handlers(home), {}
    one, many = handlers("one_prompt", "answer")[0], handlers("many_prompts", "answer")[0]
    look, measure = handlers("next_token", "look")[0], handlers("scorecard_panel", "measure_again")[0]
    question, conditions = "My order is late.", ["as trained", "", 0.0, 7, 6]
    chat = PairChat()
    panes = list(one("base", run_id, question, chat, next(iter(VIEWS)), 1.0, *conditions))
    assert chat.update is not None
    told["answers"], told["updates"] = [chat.update.left.text, chat.update.right.text], len(panes)
    told["evidence"] = chat.update.evidence.as_record()
    told["next"] = look("base", run_id, chat, 1.0, "left answer", 1)
    job = PromptJob()
    list(many(job, "base", run_id, [], f"{question}\nHello", None, "", "", *conditions))
    told["many"] = [[result.base, result.tuned] for result in job.results]
    stopped = one("base", run_id, question, PairChat(), next(iter(VIEWS)), 1.0, *conditions)
    next(stopped), next(stopped)
    stopped.close()
    told["problems"] = [problem_of(one, "base", run_id, "", PairChat(), next(iter(VIEWS)), 1.0, *conditions)]
    told["problems"].append(
        problem_of(one, "base", run_id, "x" * 2000, PairChat(), next(iter(VIEWS)), 1.0, *conditions)
    )
    told["problems"].append(problem_of(lambda: iter(measure(run_id, 2, []))))
    told["processes"], told["own"] = [worker.process.pid for worker in spaces.workers], os.getpid()
    told["seconds"], told["loaded_before"] = spaces.asked_for, sorted(spaces.loaded_before)
    told["models_here"] = zero_gpu._models is not None
    return told


def problem_of(handler: Any, *arguments: Any) -> str:
    try:
        list(handler(*arguments))
    except gr.Error as error:
        return str(error.message)
    return ""


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), sys.argv[2])
    for worker in spaces.workers:
        worker.process.kill()
    sys.stdout.write(json.dumps(found) + "\n")

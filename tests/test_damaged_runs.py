"""A run folder with a damaged file, or one of a newer version, hides no other run: on the page and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs, collect_pairs
from sft_app.evaluation.judge.judgements import Judgement
from sft_app.evaluation.judge.result import judge_results
from sft_app.evaluation.votes import Ballot, cast_vote, read_votes, votes_sentence
from sft_app.export.report import report_html
from sft_app.runs.directory import list_runs, queued_runs
from sft_app.runs.folder import Run
from sft_app.runtime.files import append_jsonl
from sft_app.storage.copies import CopyRecord, write_record
from sft_app.ui.compare.scorecard_panel import ScorecardPanel, scorecard_updates
from sft_app.ui.context import PageContext
from sft_app.ui.runs.run_panel import RunPanel, build_run_panel, panel_updates
from sft_app.ui.runs.several_runs import comparison_updates
from sft_app.ui.runs.tab import RunsTab, build_runs_tab, listing_updates
from tests.commands import Ended
from tests.export.run_folders import finish, make_run, whole_card

ROW = {
    "row": 1,
    "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello"}],
    "base_loss": 4.0,
    "tuned_loss": 3.0,
    "answers": ["Hm.", "Hello."],
}
FILES = [
    "settings.json",
    "status.json",
    "scorecard.json",
    "copy.json",
    "metrics.jsonl",
    "snapshots.jsonl",
    "answer_pairs.jsonl",
    "votes.jsonl",
    "judgements.jsonl",
    "base_scores.jsonl",
]
WHOLE = [b"", b"\n", b"null\n", b"3\n", b'"x"\n', b"[]\n", b"{}\n", b'{"step": ', b"\xff\xfe\n", b"[" * 5_000 + b"\n"]
VALUES = (None, "2026-01-01T00:00:00", -1, 1e999, 10**30, [None])


@pytest.fixture
def damaged(home: Path) -> Run:
    """A finished run with a whole folder, beside a healthy one that is newer and a queued one."""
    run = make_run(home)
    finish(run)
    run.base_scores_file.write_text('{"loss_sum": 2.5, "tokens": 3, "correct": 1}\n')
    run.keep_scorecard(whole_card(most_changed={"improved": [ROW], "damaged": []}))
    for step in (0, 4):
        run.log_snapshot(step=step, answers=[{"prompt": "Q?", "answer": f"after {step}", "finished": True}])
    pair = AnswerPair(prompt="Q?", base="a", tuned="b")
    add_pairs(run, [pair])
    cast_vote(run, Ballot(pair, base_is_left=True), "2", "Ada")
    judged = Judgement(pair=pair.id, base_first="B", tuned_first="A", address="http://x", model="m", checklist="c")
    append_jsonl(run.judgements_file, judged.as_record())
    write_record(run, CopyRecord(location="/backup", copied_utc="2026-01-01T00:00:00+00:00"))
    finish(make_run(home, name="Healthy"))
    make_run(home, name="Queued")
    return run


def damages(content: bytes) -> Iterator[bytes]:
    """This file cut, replaced, with one more key, and with each key missing or of another type."""
    yield from WHOLE
    yield content[: len(content) // 2]
    first, _, rest = content.partition(b"\n") if content.count(b"\n{") else (content, b"", b"")
    row = json.loads(first)
    for changed in changes(row):
        yield json.dumps(changed).encode() + b"\n" + rest
    for line in WHOLE:  # between whole lines
        yield first.rstrip() + b"\n" + line + rest


def changes(row: dict[str, Any], values: Sequence[Any] = VALUES) -> Iterator[dict[str, Any]]:
    """Of keys inside a key only two values, as there are many."""
    yield {**row, "from_a_newer_version": {"x": 1}}
    for key, value in row.items():
        yield {name: other for name, other in row.items() if name != key}
        yield from ({**row, key: other} for other in values)
        if isinstance(value, dict):
            yield from ({**row, key: inner} for inner in changes(value, values[:2]))


@pytest.fixture
def panels(home: Path) -> tuple[RunsTab, RunPanel, ScorecardPanel]:
    with gr.Blocks():
        panel = build_run_panel(PageContext(home), gr.Button("Stop"), gr.Button("Cancel"), gr.Button("Resume"))
        return build_runs_tab(PageContext(home)), panel, ScorecardPanel(gr.HTML(), gr.HTML())


def look_everywhere(home: Path, run: Run, panels: tuple[RunsTab, RunPanel, ScorecardPanel]) -> None:
    """Fails where a look at all runs or at this one raises anything but a clear error."""
    context, (tab, panel, scorecard) = PageContext(home), panels
    everyone = [summary.run for summary in context.runs.summaries()]
    assert everyone == [other.id for other in list_runs(home)] and len(everyone) == 3
    assert len(queued_runs(home)) >= 1
    listing_updates(context, tab, run.id, None, everyone, None)
    panel_updates(context, panel, run.id)
    comparison_updates(context, tab.several, everyone, None)
    scorecard_updates(context, scorecard, run.id)
    assert all(found.facts() for found in judge_results(run))
    assert collect_pairs(run) is not None and votes_sentence(read_votes(run))
    assert isinstance(context.sides.choices(), list)
    try:
        report_html(run)
    except RunError as error:
        assert "settings.json" in str(error)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_hides_no_run(
    home: Path, damaged: Run, panels: tuple[RunsTab, RunPanel, ScorecardPanel], file: str
) -> None:
    path = damaged.path / file
    whole = path.read_bytes()
    for content in damages(whole):
        path.write_bytes(content)
        try:
            look_everywhere(home, damaged, panels)
        except Exception as error:
            raise AssertionError(f"{file} with {content[:300]!r}") from error
    path.unlink()
    path.mkdir()
    look_everywhere(home, damaged, panels)


@pytest.mark.parametrize("file", FILES)
def test_the_command_line_lists_and_shows_a_damaged_run(
    home: Path, damaged: Run, cli: Callable[..., Ended], file: str
) -> None:
    for content in WHOLE:
        (damaged.path / file).write_bytes(content)
        assert [row["run"] for row in cli("runs", "--json").json] == [run.id for run in list_runs(home)]
        assert cli("status", damaged.id, "--json").json["run"] == damaged.id
        assert cli("status", damaged.id).status == 0


@pytest.mark.parametrize("content", [*WHOLE, b'[3, null, {"x": 1}]'])
def test_a_damaged_queue_hides_no_run(home: Path, damaged: Run, content: bytes) -> None:
    (home / "queue.json").write_bytes(content)
    assert len(queued_runs(home)) == 1 and len(list_runs(home)) == 3


def test_a_damaged_time_costs_only_the_time(damaged: Run) -> None:
    status = json.loads(damaged.status_file.read_bytes())
    damaged.status_file.write_text(json.dumps({**status, "started_utc": "yesterday", "worked_seconds": "long"}))
    assert (damaged.status().state, damaged.status().step) == ("finished", 4)
    assert damaged.status().elapsed_seconds() == 0


def test_a_newer_setting_is_named_and_the_run_is_not_given_up(damaged: Run, cli: Callable[..., Ended]) -> None:
    """A page that was not restarted after an update meets the runs of the new version."""
    record = json.loads(damaged.settings_file.read_text())
    record["settings"] |= {"of_tomorrow": 0.1}
    damaged.settings_file.write_text(json.dumps(record))
    with pytest.raises(RunError, match="does not know: of_tomorrow. .* restart the app, or update it") as caught:
        damaged.record()
    assert "can only be deleted" not in str(caught.value)
    (listed,) = [row for row in json.loads(cli("runs", "--json").out) if row["run"] == damaged.id]
    assert listed["message"] == str(caught.value) and listed["state"] == "finished"
    record["settings"] |= {"max_steps": "many"}
    damaged.settings_file.write_text(json.dumps(record))
    with pytest.raises(RunError, match="can only be deleted"):
        damaged.record()


def test_a_newer_key_costs_nothing(damaged: Run) -> None:
    before = (damaged.metrics(), damaged.snapshots(), damaged.scorecard(), damaged.status(), read_votes(damaged))
    for path in damaged.path.glob("*.json*"):
        if path.name != "settings.json":
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            rows = [json.dumps({**json.loads(line), "newer": [1]}) for line in lines]
            path.write_text("\n".join(rows) + "\n")
    assert before == (
        damaged.metrics(),
        damaged.snapshots(),
        damaged.scorecard(),
        damaged.status(),
        read_votes(damaged),
    )
    assert all(before)

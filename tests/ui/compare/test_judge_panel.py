"""The judge's panel: only where no one else uses the page, and no result before the voter has finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
from sft_app.evaluation.judge.judgements import read_judgements
from sft_app.evaluation.judge.questions import CHECKLIST
from sft_app.hosting import Hosting
from sft_app.runs.folder import Run
from sft_app.ui import page
from sft_app.ui.compare.judge_panel import HIDDEN, HIDDEN_FOR_OTHERS, JudgeJob, judge_view, offers_judge
from sft_app.ui.compare.voting import BlindTest
from sft_app.ui.context import PageContext
from sft_app.ui.page import build_page
from tests.judge_stand_in import Played, chooses, judging

PAIRS = [AnswerPair(prompt=f"Q{number}", base=f"plain {number}", tuned=f"warm {number}") for number in range(4)]
POINTS = "\n".join(CHECKLIST)


@pytest.fixture
def run(home: Path) -> Run:
    (home / "runs" / "r1").mkdir(parents=True)
    run = Run(home / "runs" / "r1")
    add_pairs(run, PAIRS)
    return run


@pytest.fixture
def played() -> Iterator[Played]:
    with judging(Played(chooses(lambda text: text.startswith("warm")))) as played:
        yield played


def events_of(home: Path, hosting: Hosting | None = None) -> dict[str, Any]:
    built = build_page(home, hosting or Hosting())
    return {fn.name: fn.fn for fn in built.fns.values() if "judge_panel" in getattr(fn.fn, "__module__", "")}


def begun(run: Run, voter: str = "Ada") -> BlindTest:
    test = BlindTest()
    test.begin(run, "shop", voter)
    return test


def test_the_panel_is_only_where_no_one_else_uses_the_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(events_of(home)) == {"show", "ask_judge", "_stop"}
    assert events_of(home, Hosting(space="ann/app", owner="ann")) == {}
    monkeypatch.setenv("SFT_APP_AUTH", "me:secret,you:other")
    assert events_of(home) == {}
    monkeypatch.delenv("SFT_APP_AUTH")
    assert offers_judge(PageContext(home)) and not offers_judge(PageContext(home, is_local=False))
    monkeypatch.setenv("SFT_APP_ALLOWED_HOSTS", "studio.example.org")
    assert events_of(home) == {}


def test_a_page_that_listens_to_the_network_is_not_local(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ui --host` and Gradio's variable say decides, before the page is served."""

    class BuiltError(Exception):
        pass

    def build(home: Path, hosting: Hosting, is_local: bool) -> None:
        built.append(is_local)
        raise BuiltError

    built: list[bool] = []
    monkeypatch.setattr(page, "build_page", build)
    for name in ("ensure_supervisor", "_open_log"):
        monkeypatch.setattr(page, name, lambda _: None)
    monkeypatch.setattr(page, "_record_signals", list)
    for host, variable in ((None, ""), ("::1", ""), ("localhost", ""), ("0.0.0.0", ""), ("::", ""), (None, "0.0.0.0")):
        monkeypatch.setenv("GRADIO_SERVER_NAME", variable)
        with pytest.raises(BuiltError):
            page.launch_page(home, host, 7860, Hosting())
    assert built == [True, True, True, False, False, False]


def test_no_pairs_are_no_progress() -> None:
    assert "Judged 0 of 0 pairs" in JudgeJob().card()


def test_asking_shows_the_progress_and_then_the_result(home: Path, run: Run, played: Played) -> None:
    events, job, test = events_of(home), JudgeJob(), BlindTest()
    shown = list(events["ask_judge"](job, test, "r1", played.address, "small", POINTS))
    assert ["Judged 0 of 4" in shown[0], "Judged 4 of 4" in shown[-2], job.is_at_work] == [True, True, False]
    assert "small compared 4 of 4 pairs" in shown[-1] and "do not count yet" in shown[-1]
    assert events["show"](job, test, "r1") == shown[-1] and events["show"](job, test, "base") == ""
    again = list(events["ask_judge"](job, test, "r1", played.address, "small", POINTS))
    assert again == shown[-1:] and len(played.requests) == 8


def test_stop_ends_after_the_pair_and_keeps_it(home: Path, run: Run, played: Played) -> None:
    events, job = events_of(home), JudgeJob()
    asking = events["ask_judge"](job, BlindTest(), "r1", played.address, "small", POINTS)
    next(asking)
    assert "stopping after this pair" in events["_stop"](job)
    assert "small compared 1 of 4 pairs" in list(asking)[-1]
    assert [len(found) for found in read_judgements(run).values()] == [1]


def test_nothing_shows_what_the_judge_chose_before_the_voters_have_finished(
    home: Path, run: Run, played: Played
) -> None:
    events, job, ada = events_of(home), JudgeJob(), begun(run)
    for shown in events["ask_judge"](job, ada, "r1", played.address, "small", POINTS):
        assert not any(hint in shown for hint in ("uned", "base", "won", "small compared"))
    assert HIDDEN in judge_view(run, ada) and "compared" in judge_view(run, BlindTest())
    ada.vote("1")
    assert HIDDEN in judge_view(run, ada) and HIDDEN_FOR_OTHERS in judge_view(run, BlindTest())
    bo = begun(run, "Bo")
    assert HIDDEN in judge_view(run, bo)
    bo.finish()
    assert "small compared 4 of 4" in judge_view(run, bo)
    ada.finish()
    assert all("small compared 4 of 4" in judge_view(run, test) for test in (ada, BlindTest()))


def test_errors_are_sentences_and_the_panel_can_be_used_again(home: Path, run: Run, played: Played) -> None:
    events, job = events_of(home), JudgeJob()

    def refused(address: str, model: str = "small", points: str = POINTS) -> str:
        with pytest.raises(gr.Error) as caught:
            list(events["ask_judge"](job, BlindTest(), "r1", address, model, points))
        assert not job.is_at_work
        return str(caught.value.message)

    assert "must begin with https://" in refused("")
    assert "Enter the name of the model" in refused(played.address, "")
    assert "The checklist must have 1 to 30 points" in refused(played.address, points="\n")
    assert "has no model “small”, or the address is incomplete" in refused(f"{played.address}/more")
    run.pairs_file.unlink()
    assert "no answers to judge yet" in refused(played.address)

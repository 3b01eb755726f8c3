"""`sft_app judge`: what it prints, its exit status, and that the key appears nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_app.cli.app import app
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
from sft_app.evaluation.votes import Ballot, cast_vote, finish_voting
from sft_app.runs.folder import Run
from tests.commands import Ended
from tests.export.run_folders import finish, make_run
from tests.judge_stand_in import Played, chooses, judging

KEY = "sk-secret-1234567890"
PAIRS = [AnswerPair(prompt=f"Q{number}", base=f"plain {number}", tuned=f"warm {number}") for number in range(9)]


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SFT_APP_JUDGE_KEY", KEY)
    run = make_run(home)
    finish(run)
    add_pairs(run, PAIRS)
    return run


@pytest.fixture
def played() -> Iterator[Played]:
    with judging(Played(chooses(lambda text: text.startswith("warm")))) as played:
        yield played


def judge(cli: Callable[..., Ended], played: Played, *more: object) -> Ended:
    return cli("judge", "latest", "--address", played.address, "--model", "small", *more)


def test_the_table_and_what_it_means(cli: Callable[..., Ended], run: Run, played: Played) -> None:
    ended = judge(cli, played)
    assert ended.status == 0, ended.err
    told = " ".join(ended.out.split())
    assert "small compared 9 of 9 pairs, each in both orders." in told
    assert "do not count yet: vote on at least 8 more pairs" in told
    assert KEY not in ended.out + ended.err + run.judgements_file.read_text()


def test_one_json_document(cli: Callable[..., Ended], run: Run, played: Played) -> None:
    for pair in PAIRS:
        cast_vote(run, Ballot(pair, base_is_left=True), "2", "Ada")
    finish_voting(run, "Ada")
    assert judge(cli, played, "--limit", 2, "--json").json["judged"] == 2
    found = judge(cli, played, "--json").json
    assert (found["judged"], found["counts"], found["fine_tuned_wins"]["hits"]) == (9, True, 9)
    assert found["agreement"]["rate"] == 1.0 and found["model"] == "small"
    assert len(played.requests) == 18


def test_a_checklist_from_a_file(cli: Callable[..., Ended], run: Run, played: Played, tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("Signs as Anna.\n")
    assert judge(cli, played, "--checklist", tmp_path / "points.txt", "--limit", 1).status == 0
    assert "1. Signs as Anna." in played.requests[0]["messages"][0]["content"]


def test_a_limit_for_each_reply(cli: Callable[..., Ended], run: Run, played: Played) -> None:
    played.seconds = 2.0
    ended = judge(cli, played, "--timeout", 1)
    assert ended.status == 2 and "did not reply within 1 s" in ended.err


def test_a_crash_shows_no_local_variables() -> None:
    """One of them may hold the key."""
    assert app.pretty_exceptions_show_locals is False


def test_status_2_if_the_judge_could_not_be_asked(cli: Callable[..., Ended], run: Run, played: Played) -> None:
    played.refusals = [(401, {}, b'{"error": {"message": "bad key ' + KEY.encode() + b'"}}')]
    ended = judge(cli, played)
    assert (ended.status, ended.out) == (2, "") and ended.err.startswith("Error: ") and ended.err.count("\n") == 1
    assert "The key in SFT_APP_JUDGE_KEY is not valid" in ended.err and KEY not in ended.err
    ended = cli("judge", "latest", "--address", "ftp://x", "--model", "small")
    assert ended.status == 2 and "must begin with https://" in ended.err
    run.pairs_file.unlink()
    add_pairs(run, [AnswerPair(prompt="Q", base="same", tuned="same")])
    ended = judge(cli, played)
    assert ended.status == 2 and "both answers say the same thing, so there is nothing to judge" in ended.err
    run.pairs_file.unlink()
    ended = judge(cli, played)
    assert ended.status == 2 and "has not judged any pair" in ended.err

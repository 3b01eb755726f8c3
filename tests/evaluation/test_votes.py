"""The blind test: no side shows which it is, no vote is lost or added late, and the result says how sure it is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import AnswerPair
from sft_app.evaluation.statistics.anytime import confidence_sequence, percent
from sft_app.evaluation.vote_files import votes_csv, votes_jsonl
from sft_app.evaluation.votes import (
    Ballot,
    Vote,
    VotingProgress,
    by_voter,
    cast_vote,
    counted_votes,
    finish_voting,
    first_choices,
    open_ballots,
    read_votes,
    tally,
    tally_by_pair,
    tally_choices,
    tally_sentence,
    voter_name,
    voting_progress,
    waiting_sentence,
    withdraw_last,
)
from sft_app.runs.folder import Run

EVERY_KIND = ["tuned"] * 15 + ["base"] * 5 + ["tie"] * 3 + ["both bad"]
PAIRS = [AnswerPair(prompt=f"Q{number}", base=f"base {number}", tuned=f"tuned {number}") for number in range(200)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "r1").mkdir()
    return Run(tmp_path / "r1")


def test_sides_and_order_are_random_and_the_same_at_each_look() -> None:
    ballots = open_ballots(PAIRS, "Ada", [])
    assert ballots == open_ballots(reversed(PAIRS), "Ada", [])
    assert [ballot.pair for ballot in ballots] != PAIRS
    assert 70 < sum(ballot.base_is_left for ballot in ballots) < 130
    others = {ballot.pair.id: ballot.base_is_left for ballot in open_ballots(PAIRS, "Bo", [])}
    assert 70 < sum(others[ballot.pair.id] == ballot.base_is_left for ballot in ballots) < 130


def test_a_ballot_shows_both_answers_and_no_names() -> None:
    pair = AnswerPair(prompt="Q", base="one", tuned="two")
    assert (Ballot(pair, True).left, Ballot(pair, True).right) == ("one", "two")
    assert (Ballot(pair, False).left, Ballot(pair, False).right) == ("two", "one")


@pytest.mark.parametrize(
    ("key", "base_is_left", "choice"),
    [
        ("1", True, "base"),
        ("1", False, "tuned"),
        ("2", True, "tuned"),
        ("2", False, "base"),
        ("0", True, "tie"),
        ("-", False, "both bad"),
    ],
)
def test_a_key_votes_for_what_stood_there(key: str, base_is_left: bool, choice: str) -> None:
    assert Ballot(PAIRS[0], base_is_left).choice(key) == choice


def test_equal_answers_and_doubles_are_not_asked_about() -> None:
    pairs = [AnswerPair(prompt="Q", base="same", tuned="same"), PAIRS[0], PAIRS[0]]
    assert [ballot.pair for ballot in open_ballots(pairs, "Ada", [])] == [PAIRS[0]]


def test_voting_goes_on_where_it_stopped_for_each_voter(run: Run) -> None:
    first = open_ballots(PAIRS[:3], "Ada", read_votes(run))[0]
    cast_vote(run, first, "1", "Ada")
    assert len(open_ballots(PAIRS[:3], "Ada", read_votes(run))) == 2
    assert len(open_ballots(PAIRS[:3], "Bo", read_votes(run))) == 3


def test_the_last_vote_on_a_pair_counts(run: Run) -> None:
    ballot = Ballot(PAIRS[0], base_is_left=True)
    for key in ("1", "2"):
        cast_vote(run, ballot, key, "Ada")
    assert [vote.choice for vote in read_votes(run)] == ["tuned"]


@pytest.mark.parametrize(
    ("key", "voter", "message"), [("3", "Ada", "Vote with 1"), ("1", " ", "Enter your name first")]
)
def test_a_vote_that_means_nothing_is_refused(run: Run, key: str, voter: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        cast_vote(run, Ballot(PAIRS[0], True), key, voter)
    assert read_votes(run) == []


def test_tally_counts_every_kind() -> None:
    votes = [Vote(pair="p", voter="Ada", choice=choice) for choice in EVERY_KIND]
    found = tally(votes)
    assert (found.tuned, found.base, found.tie, found.both_bad, found.win_rate) == (15, 5, 3, 1, 0.75)
    assert found.evidence == pytest.approx(2**20 / (21 * 15504))  # 15,504 ways to choose 5 of 20
    assert (found.low, found.high) == confidence_sequence(15, 5) and not found.is_decided


def test_no_votes_for_a_side_say_nothing() -> None:
    found = tally_choices(["tie"])
    assert (found.win_rate, found.low, found.evidence, found.is_decided) == (None, None, None, False)


def test_a_vote_taken_back_is_open_again_and_the_one_before_it_is_the_last(run: Run) -> None:
    first, second = open_ballots(PAIRS[:2], "Ada", [])
    cast_vote(run, first, "1", "Ada")
    cast_vote(run, second, "0", "Ada")
    cast_vote(run, first, "2", "Bo")
    assert withdraw_last(run, "Ada") == second.pair.id
    assert open_ballots(PAIRS[:2], "Ada", read_votes(run)) == [second]
    assert withdraw_last(run, "Ada") == first.pair.id
    assert [vote.voter for vote in read_votes(run)] == ["Bo"]
    with pytest.raises(RunError, match="no vote to undo"):
        withdraw_last(run, "Ada")
    cast_vote(run, second, "0", "Ada")
    assert [vote.choice for vote in by_voter(read_votes(run))["Ada"]] == ["tie"]


def test_votes_stand_in_the_order_in_which_they_were_cast(run: Run) -> None:
    for number in (0, 1, 0):
        cast_vote(run, Ballot(PAIRS[number], True), "0", "Ada")
    assert withdraw_last(run, "Ada") == PAIRS[0].id


def test_progress_counts_what_can_be_voted_on(run: Run) -> None:
    pairs = [*PAIRS[:3], AnswerPair(prompt="Q", base="same", tuned="same")]
    cast_vote(run, Ballot(PAIRS[0], True), "1", "Ada")
    cast_vote(run, Ballot(PAIRS[100], True), "1", "Ada")  # of a pair that is there no more
    assert voting_progress(pairs, "Ada", read_votes(run)) == VotingProgress(voted=1, total=3, alike=1)


def test_the_same_name_is_the_same_voter() -> None:
    assert voter_name("  Ada   Lovelace\n") == "Ada Lovelace"
    with pytest.raises(RunError, match="Enter your name first"):
        voter_name(" \t")


def test_with_several_voters_a_pair_counts_once_by_its_first_vote_for_a_side() -> None:
    choices = {"a": ["tuned", "base", "base"], "b": ["tie", "base", "tuned"], "c": ["both bad", "tie"]}
    votes = [Vote(pair=pair, voter="Ada", choice=choice) for pair, several in choices.items() for choice in several]
    assert first_choices(votes) == {"a": "tuned", "b": "base", "c": "both bad"}
    found = tally_by_pair(votes)
    assert (found.tuned, found.base, found.tie, found.both_bad) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("tuned", "base", "words"),
    [
        (15, 5, "won 15 of the 20 decisive votes: 75% (95% interval 42% to 95%)."),
        (15, 5, "includes 50%, so this could be chance"),
        (8, 0, "excludes 50%: people prefer the fine-tuned model’s answers."),
        (0, 8, "excludes 50%: people prefer the base model’s answers."),
        (0, 1, "won 0 of the 1 decisive vote: 0%"),
        (0, 0, "nothing to conclude"),
    ],
)
def test_a_tally_in_plain_words(tuned: int, base: int, words: str) -> None:
    assert words in tally_sentence(tally_choices(["tuned"] * tuned + ["base"] * base))


def test_an_edge_next_to_one_half_is_not_rounded_to_it() -> None:
    assert [percent(share) for share in (0.496, 0.5, 0.502, 0.506)] == ["49.6%", "50%", "50.2%", "51%"]


def test_votes_count_once_their_voter_has_finished(run: Run) -> None:
    for voter in ("Ada", "Bo"):
        cast_vote(run, open_ballots(PAIRS, voter, [])[0], "0", voter)
    assert counted_votes(run) == [] and waiting_sentence(run).startswith("2 people are still voting")
    finish_voting(run, " Ada ")
    finish_voting(run, "Ada")
    assert [vote.voter for vote in counted_votes(run)] == ["Ada"]
    assert waiting_sentence(run).startswith("1 person is") and len(read_votes(run)) == 2
    assert run.votes_file.read_text().count("finished") == 1


def test_votes_of_a_finished_voter_stay_as_they_are(run: Run) -> None:
    first, second = open_ballots(PAIRS[:2], "Ada", [])
    cast_vote(run, first, "1", "Ada")
    finish_voting(run, "Ada")
    for change in (lambda: cast_vote(run, second, "1", "Ada"), lambda: withdraw_last(run, "Ada")):
        with pytest.raises(RunError, match="Ada has finished voting"):
            change()
    assert len(read_votes(run)) == 1


def test_votes_of_earlier_versions_count_at_once(run: Run) -> None:
    run.votes_file.write_text('{"pair": "p", "voter": "Ada", "choice": "tuned", "base_was": "left"}\n')
    assert [vote.choice for vote in counted_votes(run)] == ["tuned"] and waiting_sentence(run) == ""


def test_votes_leave_with_the_answers_they_are_about(run: Run) -> None:
    pair = AnswerPair(prompt="Q", base="=1+1", tuned="tuned, really")
    cast_vote(run, Ballot(pair, base_is_left=False), "1", "Ada")
    (row,) = csv.DictReader(io.StringIO(votes_csv(read_votes(run), [pair])))
    assert (row["voter"], row["choice"], row["base_was"], row["base"]) == ("Ada", "tuned", "right", "'=1+1")
    assert json.loads(votes_jsonl(read_votes(run), []))["tuned"] == ""

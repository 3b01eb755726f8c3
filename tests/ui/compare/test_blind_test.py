"""The blind test: what a ballot shows, what the result says, and what the page keeps between clicks."""

from __future__ import annotations

import re
from pathlib import Path

import gradio as gr
import pytest

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
from sft_app.evaluation.votes import Ballot, Vote, VotingProgress, read_votes
from sft_app.inference.sides import BASE
from sft_app.runs.folder import Run
from sft_app.ui.compare import blind_views as views
from sft_app.ui.compare.blind_test import _build_voting_panel, current_invitation
from sft_app.ui.compare.voting import BlindTest
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES
from sft_app.ui.page import build_page

SIDE = re.compile(r"base|tuned|won", re.I)
BAD = "<script>alert(1)</script>"
PAIRS = [
    AnswerPair(prompt=f"Q{number}", base=f"plain {number}", tuned=f"warm {number}", reference="given")
    for number in range(4)
]


@pytest.fixture
def run(home: Path) -> Run:
    (home / "runs" / "r1").mkdir(parents=True)
    run = Run(home / "runs" / "r1")
    add_pairs(run, [*PAIRS, AnswerPair(prompt="Q", base="same", tuned="same")])
    return run


def begun(run: Run, voter: str = "Ada") -> BlindTest:
    test = BlindTest()
    test.begin(run, "shop", voter)
    return test


def votes(**choices: int) -> list[Vote]:
    kinds = {"tuned": "tuned", "base": "base", "tie": "tie", "bad": "both bad"}
    return [
        Vote(voter="Ada", pair=f"{kind}{n}", choice=kinds[kind])
        for kind, count in choices.items()
        for n in range(count)
    ]


def test_a_ballot_is_the_same_whichever_side_is_which() -> None:
    card = views.ballot_card(Ballot(PAIRS[0], base_is_left=True))
    turned = views.ballot_card(Ballot(AnswerPair(prompt="Q0", base="warm 0", tuned="plain 0"), base_is_left=False))
    assert card == turned
    for hint in ("base", "tuned", "given", PAIRS[0].id):
        assert hint not in card


def test_text_of_people_and_models_is_shown_and_never_run() -> None:
    pair = AnswerPair(prompt=BAD, base=BAD, tuned=BAD + "more")
    shown = [
        views.ballot_card(Ballot(pair, True)),
        views.progress_line(VotingProgress(0, 1, 0), BAD, BAD),
        views.result_card([Vote(voter=BAD, pair="p", choice="tuned")], BAD),
        views.invitation_card(BAD, 1, 0, [BAD]),
        views.invitation_card(BAD, 0, 0, []),
    ]
    for html in shown:
        assert BAD not in html and "&lt;script&gt;" in html


def test_the_door_says_what_there_is_to_vote_on(run: Run, home: Path) -> None:
    context = PageContext(home)
    assert "4 pairs of answers from r1. 1 more pair is left out" in current_invitation(context, "r1")
    assert "4 pairs" in current_invitation(context, "r1/checkpoint-7")
    begun(run, "Bo").vote("1")
    assert "Voted so far: Bo." in current_invitation(context, "r1")
    run.pairs_file.unlink()
    assert "Answer prompts in “Many prompts”" in current_invitation(context, "r1")
    add_pairs(run, [AnswerPair(prompt="Q", base="same", tuned="same")])
    assert "in each pair both answers say the same thing" in current_invitation(context, "r1")
    assert "Choose a run on the right" in current_invitation(context, "base")
    with pytest.raises(RunError, match="Choose a run on the right"):
        context.sides.get_run("owner/adapter")


def test_a_vote_leads_to_the_next_ballot_and_names_no_side(run: Run) -> None:
    test = begun(run)
    first = test.ballot
    assert first is not None
    told = test.vote("1")
    assert "Vote 1 is saved." in told and not SIDE.search(told)
    assert test.ballot is not None and test.ballot.pair != first.pair
    test.undo()
    assert test.ballot == first and read_votes(run) == []
    for _ in PAIRS:
        test.vote("0")
    assert test.ballot is None and test.progress() == VotingProgress(4, 4, 1)
    with pytest.raises(RunError, match="No pair of answers is shown"):
        test.vote("0")


def test_a_voter_who_has_finished_votes_no_more_on_any_page(run: Run) -> None:
    test, other = begun(run), begun(run)
    test.vote("1")
    assert not test.has_finished()
    test.finish()
    assert test.ballot is None and test.has_finished()
    for change in (lambda: other.vote("2"), other.undo, test.undo):
        with pytest.raises(RunError, match="Ada has finished voting"):
            change()
    again = begun(run)
    assert again.ballot is None and again.has_finished() and len(read_votes(run)) == 1
    assert begun(run, "Bo").ballot is not None
    with pytest.raises(RunError, match="Press Start"):
        BlindTest().finish()


def test_nothing_on_the_page_names_a_side_before_the_voter_has_finished(run: Run, home: Path) -> None:
    with gr.Blocks():
        panel = _build_voting_panel()
    done = begun(run, "Bo")
    done.vote("1")
    done.finish()
    test = begun(run)
    for _ in range(5):
        shown = panel.show_ballot(test, test.vote("1") if test.ballot else "")
        html = "".join(str(value) for value in shown.values())
        assert not SIDE.search(html)
        assert [shown[file] for file in panel.files] == [None, None] and shown[panel.result] == ""
    test.finish()
    shown = panel.show_ballot(test)
    assert "Fine-tuned win rate" in shown[panel.result] and all(shown[file] for file in panel.files)
    assert len(Path(shown[panel.files[1]]).read_text().splitlines()) == 5


def test_another_page_of_the_same_voter_goes_on_where_this_one_is(run: Run) -> None:
    one, other = begun(run), begun(run, " Ada ")
    assert one.ballot == other.ballot
    one.vote("1")
    other.vote("2")
    assert one.ballot == other.ballot and len(read_votes(run)) == 1
    other.vote("0")
    one.vote("0")
    assert one.ballot == other.ballot and len(read_votes(run)) == 2


def test_a_page_that_was_reloaded_says_what_to_press() -> None:
    with pytest.raises(RunError, match="Press Start"):
        BlindTest().vote("1")
    with pytest.raises(RunError, match="no vote to undo"):
        BlindTest().undo()


def test_an_open_test_outlives_a_late_event_of_its_own_side(home: Path, run: Run) -> None:
    events = {
        fn.name: fn.fn for fn in build_page(home).fns.values() if "blind_test" in getattr(fn.fn, "__module__", "")
    }
    test = begun(run)
    assert events["follow_side"](test, run.id) is NO_UPDATES and test.ballot is not None
    closed = events["follow_side"](test, BASE)
    assert test.ballot is None and {box.elem_id for box in closed} >= {"blind-start", "blind-test"}
    assert events["follow_side"](test, run.id) is not NO_UPDATES  # closed: the invitation names the run again


def test_a_test_needs_a_name_and_answers(run: Run) -> None:
    with pytest.raises(RunError, match="Enter your name first"):
        begun(run, " ")
    run.pairs_file.unlink()
    with pytest.raises(RunError, match="no answers to vote on yet"):
        begun(run)


def test_the_result_is_told_for_the_voter_and_for_all() -> None:
    mine = votes(tuned=9, base=1, tie=2, bad=1)
    card = views.result_card(mine, "Ada")
    assert "won 9 of the 10 decisive votes: 90%" in card and "includes 50%" in card
    assert "<td>13</td><td>9</td><td>1</td><td>2</td><td>1</td>" in card and "<h4>All voters</h4>" not in card
    both = [*mine, *(vote.model_copy(update={"voter": "Bo"}) for vote in mine)]
    card = views.result_card(both, "Ada")
    assert card.count("<tr>") == 4 and "Each pair counts once" in card and "All voters, each pair once" in card
    assert (
        card.count("won 9 of the 10") == 2 and card.count("whenever voting stops") == 1
    )  # a second voter who agrees makes it no more certain
    assert "No vote counts yet. 1 person is" in views.result_card([], "Ada", "1 person is still voting.")

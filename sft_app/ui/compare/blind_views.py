"""Turn the blind test into HTML: an unlabelled ballot, and the result for voters who have finished. Without Gradio."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.data.checkup.finding import count_of
from sft_app.evaluation.judge.result import OUTCOME_LABELS, JudgeResult, judge_sentences
from sft_app.evaluation.statistics.anytime import percent
from sft_app.evaluation.votes import (
    ANY_TIME,
    Ballot,
    Tally,
    Vote,
    VotingProgress,
    by_voter,
    tally,
    tally_by_pair,
    tally_sentence,
    votes_sentence,
)
from sft_app.templating import render_html
from sft_app.ui import views

TALLY_COLUMNS = ("Votes", "Fine-tuned better", "Base better", "Tie", "Both bad")
FINISHING = (
    "The results show which side you voted for. After that, you can't add or change votes under this name on this run."
)


def invitation_card(run: str, pairs: int, alike: int, voters: Sequence[str]) -> str:
    """Show before the first ballot how many pairs there are, and who has voted already."""
    if not run:
        return views.empty_card("Choose a run on the right above. The blind test uses the answers saved with that run.")
    if not pairs:
        return views.empty_card(f"There are no answers to vote on for {run} yet. {_how_to_get_pairs(alike)}")
    summary = f"{count_of(pairs, 'pair')} of answers from {run}."
    if alike:
        verb = "is" if alike == 1 else "are"
        summary += f" {count_of(alike, 'more pair')} {verb} left out because both answers say the same thing."
    return render_html("compare/invitation.html", summary=summary, voters=", ".join(voters))


def ballot_card(ballot: Ballot) -> str:
    """Show the prompt and two answers without their models' names."""
    answers = [("First answer", ballot.left), ("Second answer", ballot.right)]
    return render_html("compare/ballot.html", prompt=ballot.pair.prompt, answers=answers)


def progress_line(done: VotingProgress, voter: str, run: str, has_finished: bool = False) -> str:
    """Show how many pairs the voter has voted on."""
    title = "All pairs voted on" if done.voted >= done.total else f"{done.voted + 1} of {done.total}"
    return render_html(
        "compare/voting_progress.html",
        title=f"Finished: {done.voted} of {done.total} pairs voted on" if has_finished else title,
        voter=voter,
        run=run,
        percent=100 * done.voted / done.total if done.total else 0,
    )


def note(text: str) -> str:
    """Show a sentence above the ballot."""
    return render_html("paragraph.html", kind="ft-revealed", text=text)


def result_card(votes: Sequence[Vote], voter: str, waiting: str = "") -> str:
    """Show this voter's result, the result of all voters, and a table with a row for each voter.

    `waiting` is a sentence about votes that do not count yet.
    """
    if not votes:
        return views.empty_card(" ".join(filter(None, ["No vote counts yet.", waiting])))
    voters = by_voter(votes)
    parts = [(voter, tally_sentence(tally(voters[voter])))] if voter in voters else []
    if set(voters) != {voter}:
        parts.append(("All voters", votes_sentence(votes)))
    rows = [(name, _cells(tally(theirs))) for name, theirs in voters.items()]
    together = [("All voters, each pair once", _cells(tally_by_pair(votes)))] if len(voters) > 1 else []
    return render_html(
        "compare/votes.html",
        parts=parts,
        titles=["Voter", *TALLY_COLUMNS, "Fine-tuned win rate"],
        rows=[*rows, *together],
        notes=[note for note in (waiting, ANY_TIME) if note],
    )


def judge_card(results: Sequence[JudgeResult]) -> str:
    """Show what each judge chose, the one that was asked last on top, and whether that counts."""
    if not results:
        return views.empty_card("No model has judged this run's answers yet.")
    newest_first = results[::-1]
    return render_html(
        "compare/judge.html",
        parts=[(found.judge[1], judge_sentences(found)) for found in newest_first],
        titles=["Judge", *OUTCOME_LABELS],
        rows=[(found.judge[1], found.outcomes()) for found in newest_first],
    )


def _cells(found: Tally) -> list[int | str]:
    share = "–"
    if found.win_rate is not None and found.low is not None and found.high is not None:
        share = f"{found.win_rate:.0%} ({percent(found.low)} to {percent(found.high)})"
    total = found.tuned + found.base + found.tie + found.both_bad
    return [total, found.tuned, found.base, found.tie, found.both_bad, share]


def _how_to_get_pairs(alike: int) -> str:
    if alike:
        return f"It has {count_of(alike, 'pair')} of answers, but in each pair both answers say the same thing."
    return (
        "Answer prompts in “Many prompts” with the base model on the left and this run on the right, "
        "or measure the scorecard: the blind test uses its answers too."
    )

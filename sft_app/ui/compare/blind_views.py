"""Turn the blind test into HTML: an unlabelled ballot, what a vote was for, and the result. Without Gradio."""

from __future__ import annotations

from collections.abc import Sequence

from sft_app.evaluation.votes import (
    Ballot,
    Choice,
    Vote,
    VotingProgress,
    by_voter,
    tally,
    tally_sentence,
    votes_sentence,
)
from sft_app.templating import render_html
from sft_app.ui import views

CHOICE_TEXTS = {
    "tuned": "you chose the fine-tuned answer",
    "base": "you chose the base model’s answer",
    "tie": "a tie",
    "both bad": "both bad",
}
BASE_POSITIONS = {True: "The first answer was the base model’s.", False: "The second answer was the base model’s."}
TALLY_COLUMNS = ("Votes", "Fine-tuned better", "Base better", "Tie", "Both bad")


def invitation_card(run: str, pairs: int, alike: int, voters: Sequence[str]) -> str:
    """Show before the first ballot how many pairs there are, and who has voted already."""
    if not run:
        return views.empty_card("Choose a run on the right above. The blind test uses the answers saved with that run.")
    if not pairs:
        return views.empty_card(f"There are no answers to vote on for {run} yet. {_how_to_get_pairs(alike)}")
    summary = f"{_counted(pairs, 'pair')} of answers from {run}."
    if alike:
        verb = "is" if alike == 1 else "are"
        summary += f" {_counted(alike, 'more pair')} {verb} left out because both answers say the same thing."
    return render_html("compare/invitation.html", summary=summary, voters=", ".join(voters))


def ballot_card(ballot: Ballot) -> str:
    """Show the prompt and two answers without their models' names."""
    answers = [("First answer", ballot.left), ("Second answer", ballot.right)]
    return render_html("compare/ballot.html", prompt=ballot.pair.prompt, answers=answers)


def progress_line(done: VotingProgress, voter: str, run: str) -> str:
    """Show how many pairs the voter has voted on."""
    return render_html(
        "compare/voting_progress.html",
        title="All pairs voted on" if done.voted >= done.total else f"{done.voted + 1} of {done.total}",
        voter=voter,
        run=run,
        percent=100 * done.voted / done.total if done.total else 0,
    )


def reveal_message(ballot: Ballot, choice: Choice, number: int) -> str:
    """Show what the last vote was for. The vote's number makes each message new, so that a voter notices it."""
    return note(f"Vote {number}: {CHOICE_TEXTS[choice]}. {BASE_POSITIONS[ballot.base_is_left]}")


def note(text: str) -> str:
    """Show a sentence above the ballot."""
    return render_html("paragraph.html", kind="ft-revealed", text=text)


def result_card(votes: Sequence[Vote], voter: str) -> str:
    """Show this voter's result, the result of all voters, and a table with a row for each voter."""
    if not votes:
        return views.empty_card("No one has voted yet.")
    voters = by_voter(votes)
    parts = [(voter, tally_sentence(tally(voters[voter])))] if voter in voters else []
    if set(voters) != {voter}:
        parts.append(("All voters", votes_sentence(votes)))
    rows = [*voters.items(), *([("All voters", list(votes))] if len(voters) > 1 else [])]
    return render_html(
        "compare/votes.html",
        parts=parts,
        titles=["Voter", *TALLY_COLUMNS, "Fine-tuned win rate"],
        rows=[(name, _cells(voter_votes)) for name, voter_votes in rows],
    )


def _cells(votes: Sequence[Vote]) -> list[int | str]:
    found = tally(votes)
    share = "–" if found.win_rate is None else f"{found.win_rate:.0%} ({found.low:.0%} to {found.high:.0%})"
    return [len(votes), found.tuned, found.base, found.tie, found.both_bad, share]


def _how_to_get_pairs(alike: int) -> str:
    if alike:
        return f"It has {_counted(alike, 'pair')} of answers, but in each pair both answers say the same thing."
    return (
        "Answer prompts in “Many prompts” with the base model on the left and this run on the right, "
        "or measure the scorecard: the blind test uses its answers too."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

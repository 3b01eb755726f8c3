"""Turn the blind test into HTML: a ballot without names, what a vote was for, and the result. No Gradio here."""

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

CHOSEN = {
    "tuned": "you chose the fine-tuned answer",
    "base": "you chose the base model’s answer",
    "tie": "a tie",
    "both bad": "both bad",
}
STOOD = {True: "The first answer was the base model’s.", False: "The second answer was the base model’s."}
COUNTED = ("Votes", "Fine-tuned better", "Base better", "Tie", "Both bad")


def invitation(run: str, pairs: int, alike: int, voters: Sequence[str]) -> str:
    """Show before the first ballot what there is to vote on, and who has voted already."""
    if not run:
        return views.empty_card("Choose a run on the right above. The blind test uses the answers saved with that run.")
    if not pairs:
        return views.empty_card(f"There is nothing to vote on for {run} yet. {_where_from(alike)}")
    told = f"{_counted(pairs, 'pair')} of answers from {run}."
    if alike:
        told += (
            f" {_counted(alike, 'more pair')} {'is' if alike == 1 else 'are'} left out because both "
            f"sides say the same thing."
        )
    return render_html("compare/invitation.html", told=told, voters=", ".join(voters))


def ballot_card(ballot: Ballot) -> str:
    """Show the prompt and two answers that differ only in what they say."""
    answers = [("First answer", ballot.left), ("Second answer", ballot.right)]
    return render_html("compare/ballot.html", prompt=ballot.pair.prompt, answers=answers)


def progress_line(done: VotingProgress, voter: str, run: str) -> str:
    """Show how many pairs the voter has voted on."""
    return render_html(
        "compare/voting_progress.html",
        title="All voted" if done.voted >= done.total else f"{done.voted + 1} of {done.total}",
        voter=voter,
        run=run,
        percent=100 * done.voted / done.total if done.total else 0,
    )


def revealed(ballot: Ballot, choice: Choice, place: int) -> str:
    """Say what the last vote was for; its number makes the text new each time, so that it is noticed."""
    return note(f"Vote {place}: {CHOSEN[choice]}. {STOOD[ballot.base_is_left]}")


def note(text: str) -> str:
    """Show a sentence above the ballot."""
    return render_html("paragraph.html", kind="ft-revealed", text=text)


def result_card(votes: Sequence[Vote], voter: str) -> str:
    """Show this voter's votes in words, those of all voters, and a table with a row for each voter."""
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
        titles=["Voter", *COUNTED, "Fine-tuned win rate"],
        rows=[(name, _cells(given)) for name, given in rows],
    )


def _cells(votes: Sequence[Vote]) -> list[int | str]:
    found = tally(votes)
    share = "–" if found.win_rate is None else f"{found.win_rate:.0%} ({found.low:.0%} to {found.high:.0%})"
    return [len(votes), found.tuned, found.base, found.tie, found.both_bad, share]


def _where_from(alike: int) -> str:
    if alike:
        return f"It has {_counted(alike, 'pair')} of answers, but in each pair both sides say the same thing."
    return (
        "Answer prompts in “Many prompts” with the base model on the left and this run on the right, "
        "or measure the scorecard: the blind test uses its answers too."
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

"""The blind test as HTML: a ballot that shows no names, what a vote was for, and the result. No Gradio here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sft_app.evaluation.votes import Ballot, Choice, Progress, Vote, by_voter, tally, tally_sentence, votes_sentence
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
    """Before the first ballot: what there is to vote on, and who has voted already."""
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
    names = escape(", ".join(voters))
    so_far = f"<p>Voted so far: {names}. Enter the same name to continue where you stopped.</p>" if voters else ""
    return (
        f'<section class="ft-card"><strong>Which answer is better, without knowing which model wrote it?</strong>'
        f"<p>{escape(told)} The order within each pair is random. Vote with the "
        f"buttons or the keys 1, 2, 0 and −; each vote is saved immediately.</p>{so_far}</section>"
    )


def ballot_card(ballot: Ballot) -> str:
    """The prompt and two answers that only differ in what they say."""
    panes = "".join(
        f'<section class="ft-card ft-blind"><header><strong>{name}</strong></header>'
        f'<div class="ft-text">{escape(text) or "<em>(an empty answer)</em>"}</div></section>'
        for name, text in (("First answer", ballot.left), ("Second answer", ballot.right))
    )
    return (
        f'<section class="ft-card ft-asked"><p class="ft-question">{escape(ballot.pair.prompt)}</p></section>'
        f'<div class="ft-columns">{panes}</div>'
    )


def progress_line(done: Progress, voter: str, run: str) -> str:
    """Where the voter is."""
    share = 100 * done.voted / done.total if done.total else 0
    place = "All voted" if done.voted >= done.total else f"{done.voted + 1} of {done.total}"
    return (
        f'<section class="ft-progress"><header><strong>{place}</strong>'
        f"<span>{escape(voter)} · {escape(run)}</span></header>"
        f'<div class="ft-bar" role="progressbar" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        "</section>"
    )


def revealed(ballot: Ballot, choice: Choice, place: int) -> str:
    """What the last vote was for; `place` makes it another text each time, so that it is seen anew."""
    return note(f"Vote {place}: {CHOSEN[choice]}. {STOOD[ballot.base_is_left]}")


def note(text: str) -> str:
    return f'<p class="ft-revealed">{escape(text)}</p>'


def result_card(votes: Sequence[Vote], voter: str) -> str:
    """This voter's votes in words, those of all voters, and a table with a row for each."""
    if not votes:
        return views.empty_card("No one has voted yet.")
    voters = by_voter(votes)
    parts = []
    if voter in voters:
        parts.append(f"<h4>{escape(voter)}</h4><p>{escape(tally_sentence(tally(voters[voter])))}</p>")
    if set(voters) != {voter}:
        parts.append(f"<h4>All voters</h4><p>{escape(votes_sentence(votes))}</p>")
    rows = [*voters.items(), *([("All voters", list(votes))] if len(voters) > 1 else [])]
    return (
        f'<section class="ft-card ft-result">{"".join(parts)}<div class="ft-scroll ft-compared">{_table(rows)}</div>'
        '<p class="ft-dim">Ties and “both bad” votes favor neither side: they are counted, '
        "but left out of the win rate.</p></section>"
    )


def _table(rows: Iterable[tuple[str, Sequence[Vote]]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("Voter", *COUNTED, "Fine-tuned win rate"))
    body = "".join(f"<tr><th>{escape(name)}</th>{_cells(votes)}</tr>" for name, votes in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(votes: Sequence[Vote]) -> str:
    found = tally(votes)
    share = "–" if found.win_rate is None else f"{found.win_rate:.0%} ({found.low:.0%} to {found.high:.0%})"
    shown = (len(votes), found.tuned, found.base, found.tie, found.both_bad, share)
    return "".join(f"<td>{value}</td>" for value in shown)


def _where_from(alike: int) -> str:
    if alike:
        return f"It has {_counted(alike, 'pair')} of answers, but in each pair both sides say the same thing."
    return (
        "Answer prompts in “Many prompts” with the base model on the left and this run on the right, "
        "or measure the scorecard: the blind test uses its answers too."
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

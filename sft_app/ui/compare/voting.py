"""One page's blind test: the pair it shows and what its voter can do with it."""

from __future__ import annotations

from dataclasses import dataclass

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import AnswerPair, read_pairs
from sft_app.evaluation.votes import (
    Ballot,
    Key,
    Vote,
    VotingProgress,
    cast_vote,
    finish_voting,
    finished_voters,
    open_ballots,
    read_votes,
    voter_name,
    voting_progress,
    withdraw_last,
)
from sft_app.runs.folder import Run
from sft_app.ui.compare import blind_views


@dataclass
class BlindTest:
    """The state of one page's blind test. `ballot` is the one it shows. The votes are in the run folder."""

    run: Run | None = None
    label: str = ""
    voter: str = ""
    pairs: tuple[AnswerPair, ...] = ()
    ballot: Ballot | None = None

    def begin(self, run: Run, label: str, voter: str) -> None:
        """Start or continue the test. Raises: RunError if the voter has no name or the run has no answers."""
        self.run, self.label, self.voter = run, label, voter_name(voter)
        self.pairs = tuple(read_pairs(run))
        if not self.progress().total:
            raise RunError("There are no answers to vote on yet. The card above explains how to create them.")
        self.advance()

    def advance(self, pair_id: str = "") -> None:
        """Show this pair, or else the next one that the voter has not voted on; none if the voter has finished."""
        ballots = [] if self.has_finished() else open_ballots(self.pairs, self.voter, self.votes())
        matching = (ballot for ballot in ballots if ballot.pair.id == pair_id)
        self.ballot = next(matching, ballots[0] if ballots else None)

    def vote(self, key: Key) -> str:
        """Vote on the ballot shown, and return a message that names no side.

        Raises: RunError without a ballot, or if the voter has finished on another page.
        """
        if self.run is None or self.ballot is None:
            raise RunError("No pair of answers is shown. Press Start / continue.")
        cast_vote(self.run, self.ballot, key, self.voter)
        self.advance()
        return blind_views.note(f"Vote {self.progress().voted} is saved.")

    def finish(self) -> None:
        """Close the voter's votes and show no more ballots. Raises: RunError before the test has begun."""
        if self.run is None:
            raise RunError("The test has not begun. Press Start / continue.")
        finish_voting(self.run, self.voter)
        self.ballot = None

    def leave(self) -> None:
        """Forget the run and its ballot; every vote is saved already."""
        self.run, self.ballot = None, None

    def has_finished(self) -> bool:
        return self.run is not None and self.voter in finished_voters(self.run)

    def undo(self) -> None:
        """Withdraw the voter's last vote and show its pair again. Raises: RunError if there is no vote."""
        if self.run is None:
            raise RunError("You have no vote to undo.")
        self.advance(withdraw_last(self.run, self.voter))

    def progress(self) -> VotingProgress:
        return voting_progress(self.pairs, self.voter, self.votes())

    def votes(self) -> list[Vote]:
        return read_votes(self.run) if self.run else []

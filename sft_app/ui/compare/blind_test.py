"""The blind test: one unlabelled pair of answers at a time, votes by button or key, and the result of all votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from sft_app.errors import AppError, RunError
from sft_app.evaluation.answer_pairs import read_pairs
from sft_app.evaluation.vote_files import write_votes
from sft_app.evaluation.votes import (
    Key,
    by_voter,
    counted_votes,
    read_votes,
    voting_progress,
    waiting_sentence,
)
from sft_app.runs.folder import Run
from sft_app.ui.compare import blind_views
from sft_app.ui.compare.judge_panel import build_judge, offers_judge
from sft_app.ui.compare.voting import BlindTest
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES, PRIVATE, Updates
from sft_app.ui.permissions import allowed, open_to_all

KEYS: dict[str, tuple[Key, str]] = {
    "vote-1": ("1", "1  First"),
    "vote-2": ("2", "2  Second"),
    "vote-0": ("0", "0  Tie"),
    "vote-both-bad": ("-", "−  Both bad"),
}
# For the page's head: a key clicks its button if the button is visible and no text field has the focus.
VOTE_KEYS = (
    "document.addEventListener('keydown',e=>{"
    "const id={'1':'vote-1','2':'vote-2','0':'vote-0','-':'vote-both-bad'}[e.key],b=id&&document.getElementById(id);"
    "if(!b||!b.offsetParent||b.disabled||e.repeat||e.ctrlKey||e.metaKey||e.altKey"
    "||e.target.closest('input,textarea,select,[contenteditable]'))return;"
    "e.preventDefault();b.click()})"
)
# Votes from all pages are written one at a time.
VOTE_EVENT: dict[str, Any] = {**PRIVATE, "concurrency_id": "votes", "concurrency_limit": 1}


@dataclass(frozen=True)
class StartPanel:
    """The components before a test."""

    box: gr.Column
    invitation: gr.HTML
    voter: gr.Textbox
    start: gr.Button


@dataclass(frozen=True)
class VotingPanel:
    """The components during a test. `buttons` are visible with a ballot, `finishing` once the voter wants to finish,
    `downloads` with the result."""

    box: gr.Column
    position: gr.HTML
    message: gr.HTML
    ballot: gr.HTML
    buttons: gr.Row
    keys: list[gr.Button]
    undo: gr.Button
    finish: gr.Button
    leave: gr.Button
    finishing: gr.Column
    show: gr.Button
    go_on: gr.Button
    result: gr.HTML
    downloads: gr.Row
    files: list[gr.DownloadButton]

    def outputs(self) -> list[Block]:
        ballot = [self.position, self.message, self.ballot, self.buttons, self.undo, self.finish, self.finishing]
        return [*ballot, self.result, self.downloads, *self.files]

    def show_ballot(self, test: BlindTest, message: str = "") -> Updates:
        """Show the next ballot, or the result once the voter has finished. Until then, nothing names a side."""
        has_finished = test.has_finished()
        no_result: Updates = {self.result: "", self.downloads: gr.Row(visible=False), **dict.fromkeys(self.files)}
        return {
            self.position: blind_views.progress_line(test.progress(), test.voter, test.label, has_finished),
            self.message: message,
            self.ballot: blind_views.ballot_card(test.ballot) if test.ballot else "",
            self.buttons: gr.Row(visible=test.ballot is not None),
            self.undo: gr.Button(visible=not has_finished),
            self.finish: gr.Button(visible=not has_finished),
            self.finishing: gr.Column(visible=False),
            **(self._result(test) if has_finished else no_result),
        }

    def _result(self, test: BlindTest) -> Updates:
        """Show the result, with all votes that count as files."""
        votes, waiting = (counted_votes(test.run), waiting_sentence(test.run)) if test.run else ([], "")
        files: Sequence[str | None] = write_votes(votes, test.pairs) if votes else (None, None)
        return {
            self.result: blind_views.result_card(votes, test.voter, waiting),
            self.downloads: gr.Row(visible=bool(votes)),
            **dict(zip(self.files, files, strict=True)),
        }


def build_blind_test(context: PageContext, right: gr.Dropdown, item: gr.Tab) -> None:
    """Build the start panel, the voting panel and the judge's. `item` is the tab that holds them."""
    test, start_panel, voting_panel = gr.State(BlindTest()), _build_start_panel(), _build_voting_panel()
    _wire_start_panel(context, right, item, test, start_panel, voting_panel)
    _wire_votes(context, test, voting_panel)
    if offers_judge(context):
        build_judge(context, right, test, [item.select, right.change, voting_panel.position.change])


def _build_start_panel() -> StartPanel:
    with gr.Column(elem_id="blind-start") as box:
        invitation = gr.HTML(blind_views.invitation_card("", 0, 0, []), elem_id="blind-invitation")
        voter = gr.Textbox(label="Voter", placeholder="Your name", max_lines=1, elem_id="voter")
        start = gr.Button("Start / continue", variant="primary", size="md", elem_id="start-blind")
    return StartPanel(box, invitation, voter, start)


def _build_voting_panel() -> VotingPanel:
    with gr.Column(visible=False, elem_id="blind-test") as box:
        position, message, ballot = gr.HTML(elem_id="blind-progress"), gr.HTML(elem_id="blind-told"), gr.HTML()
        with gr.Row(elem_id="vote-buttons") as buttons:
            keys = [gr.Button(label, size="md", min_width=130, elem_id=id) for id, (_, label) in KEYS.items()]
        with gr.Row():
            undo = gr.Button("Undo last vote", size="sm", min_width=120, elem_id="undo-vote")
            finish = gr.Button("I'm finished …", size="sm", min_width=120, elem_id="finish-blind")
            leave = gr.Button("Change voter", size="sm", min_width=120, elem_id="leave-blind")
        with gr.Column(visible=False, elem_id="finishing-blind") as finishing:
            gr.HTML(blind_views.note(blind_views.FINISHING))
            with gr.Row():
                show = gr.Button("Show results", variant="primary", size="sm", min_width=120, elem_id="show-result")
                go_on = gr.Button("Keep voting", size="sm", min_width=120, elem_id="keep-voting")
        result = gr.HTML(elem_id="blind-result")
        with gr.Row(visible=False) as downloads:
            files = [
                gr.DownloadButton(
                    f"Download votes as {kind}", size="sm", min_width=120, elem_id=f"votes-{kind.lower()}"
                )
                for kind in ("CSV", "JSONL")
            ]
    shown = (box, position, message, ballot, buttons, keys, undo, finish, leave, finishing, show, go_on)
    return VotingPanel(*shown, result, downloads, files)


def _wire_start_panel(
    context: PageContext,
    right: gr.Dropdown,
    item: gr.Tab,
    test: gr.State,
    start_panel: StartPanel,
    voting_panel: VotingPanel,
) -> None:
    @allowed("compare", context)
    def begin(test: BlindTest, name: str, voter: str) -> Updates:
        run = context.sides.get_run(name)
        test.begin(run, display_name(run), voter)
        boxes: Updates = {start_panel.box: gr.Column(visible=False), voting_panel.box: gr.Column(visible=True)}
        return {**boxes, **voting_panel.show_ballot(test)}

    @allowed("look", context)
    def leave(test: BlindTest, name: str) -> Updates:
        test.leave()
        boxes: Updates = {start_panel.box: gr.Column(visible=True), voting_panel.box: gr.Column(visible=False)}
        return {**boxes, start_panel.invitation: current_invitation(context, name)}

    @allowed("look", context)
    def follow_side(test: BlindTest, name: str) -> Updates:
        """Leave a test of another run. The side's event may arrive after Start, and then the test stays open."""
        is_same = test.run is not None and test.run == context.sides.find_run(name)
        return NO_UPDATES if is_same else leave(test, name)

    boxes = [start_panel.box, voting_panel.box]
    starts = [start_panel.start.click, start_panel.voter.submit]
    gr.on(starts, begin, [test, right, start_panel.voter], [*boxes, *voting_panel.outputs()], **VOTE_EVENT)
    closed = [start_panel.invitation, *boxes]
    voting_panel.leave.click(leave, [test, right], closed, **VOTE_EVENT)
    right.change(follow_side, [test, right], closed, **VOTE_EVENT)
    item.select(
        allowed("look", context)(lambda name: current_invitation(context, name)),
        right,
        start_panel.invitation,
        **VOTE_EVENT,
    )


def _wire_votes(context: PageContext, test: gr.State, voting_panel: VotingPanel) -> None:
    @allowed("compare", context)
    def vote(test: BlindTest, event: gr.EventData) -> Updates:
        message = test.vote(clicked_key(event))
        return voting_panel.show_ballot(test, message)

    @allowed("compare", context)
    def undo(test: BlindTest) -> Updates:
        test.undo()
        return voting_panel.show_ballot(test, blind_views.note("Your last vote was undone. Vote again:"))

    @allowed("compare", context)
    def finish(test: BlindTest) -> Updates:
        test.finish()
        return voting_panel.show_ballot(test)

    @open_to_all
    def ask_first() -> Any:
        return gr.Column(visible=True)

    @open_to_all
    def keep_voting() -> Any:
        return gr.Column(visible=False)

    # One event for all four, so that a second click waits for the next ballot.
    gr.on([button.click for button in voting_panel.keys], vote, test, voting_panel.outputs(), **VOTE_EVENT)
    voting_panel.undo.click(undo, test, voting_panel.outputs(), **VOTE_EVENT)
    voting_panel.show.click(finish, test, voting_panel.outputs(), **VOTE_EVENT)
    voting_panel.finish.click(ask_first, None, voting_panel.finishing, **PRIVATE)
    voting_panel.go_on.click(keep_voting, None, voting_panel.finishing, **PRIVATE)


def clicked_key(event: gr.EventData) -> Key:
    """Return the key of the clicked button."""
    return KEYS[getattr(event.target, "elem_id", "")][0]


def display_name(run: Run) -> str:
    """Return the run's name, or its id if it has none."""
    try:
        return run.record().settings.name or run.id
    except AppError:
        return run.id


def current_invitation(context: PageContext, name: str | None) -> str:
    """Show how many pairs the run of this side offers, and who has voted."""
    try:
        run = context.sides.get_run(name)
    except RunError:
        return blind_views.invitation_card("", 0, 0, [])
    found = voting_progress(read_pairs(run), "", [])
    return blind_views.invitation_card(display_name(run), found.total, found.alike, list(by_voter(read_votes(run))))

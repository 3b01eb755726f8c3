"""What a run will take, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sft_app.training.estimates.memory import MemoryParts
from sft_app.training.estimates.workload import DryRunResult
from sft_app.training.preflight.fitting import Suggestion
from sft_app.training.preflight.plan import Preflight
from sft_app.ui.train.preflight_views import (
    data_sentence,
    preflight_card,
    preflight_facts,
    preflight_notes,
    rounded_duration,
    short_count,
)

FOUND = Preflight(
    data="/home/jane/shop tickets.csv",
    model="starter",
    device="cpu",
    parameters=134_515_008,
    trainable=4_884_480,
    conversations=226,
    heldout=25,
    judging=17,
    max_length=448,
    steps=44,
    passes=0.779,
    learning_rate=0.0013,
    rows_per_step=4,
    row_length=None,
    tokens_per_step=748.4,
    memory=MemoryParts(process=0.7, weights=0.5, trained=0.1, activations=1.5, loss_head=0.0, margin=0.3),
    memory_free_gib=21.04,
    disk_needed_gib=1.0,
    disk_free_gib=179.6,
    seconds=250.0,
)
TOO_LARGE = replace(FOUND, memory_free_gib=2.0)


def test_facts_are_plain_words() -> None:
    assert preflight_facts(FOUND) == [
        ("Memory", "3.1 of 21.0 GiB"),
        ("Time", "about 4 minutes"),
        ("Steps", "44 × 4 conversations, 748 tokens each"),
        ("Learning", "0.779 passes over the examples, rate 0.0013"),
        ("Trained", "4.9 million of 134.5 million weights (3.6%)"),
        ("Max length", "448 tokens"),
        ("Disk", "1.0 of 180 GiB"),
    ]
    full = dict(preflight_facts(replace(FOUND, trainable=FOUND.parameters, row_length=448)))
    assert full["Trained"] == "all 134.5 million weights"
    assert full["Steps"] == "44 × 4 rows of 448 tokens, 748 tokens each"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "under a minute"),
        (61, "about 1 minute"),
        (250, "about 4 minutes"),
        (17 * 60, "about 15 minutes"),
        (90 * 60, "about 1.5 hours"),
        (3 * 3600, "about 3 hours"),
        (100 * 3600, "about 4 days"),
    ],
)
def test_durations_are_rounded_as_guesses_are(seconds: float, words: str) -> None:
    assert rounded_duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(900, "900"), (48_000, "48,000"), (4_884_480, "4.9 million"), (8_030_000_000, "8.0 billion")]
)
def test_counts_are_readable(number: int, words: str) -> None:
    assert short_count(number) == words


def test_card_says_which_data_will_be_trained_on() -> None:
    card = preflight_card(FOUND, None)
    assert "Training on shop tickets.csv: 251 conversations, about 25 of them held out for evaluation." in card
    assert "jane" not in card
    assert "a guess" not in card
    assert "is a guess: check the example on the Data tab first." in preflight_card(FOUND, None, is_guess=True)
    assert data_sentence(replace(FOUND, data="owner/support")).startswith("Training on owner/support: ")


def test_card_shows_the_parts_that_are_not_nothing() -> None:
    card = preflight_card(FOUND, None)
    assert "estimated" in card and "ft-problem" not in card
    assert "Weights <b>512 MiB</b>" in card and "Activations <b>1.5 GiB</b>" in card
    assert "Loss head" not in card


def test_card_says_what_was_measured() -> None:
    card = preflight_card(replace(FOUND, measured=DryRunResult(2.5, 3.0, 700.0, 300.0)), None)
    assert "<span>measured</span>" in card and "Measured peak <b>2.5 GiB</b>" in card
    assert "2.8 of 21.0 GiB" in card and "Activations" not in card


def test_card_says_what_the_held_out_rows_can_show() -> None:
    found = replace(FOUND, heldout=8, judging=8)
    assert "must change by at least 75 percentage points (6 answers) to be more than chance. Press Measure" in (
        preflight_card(found, None)
    )
    card = preflight_card(replace(found, measured=DryRunResult(2.5, 3.0, 700.0, 300.0, 0.3)), None)
    assert "a change in the loss of more than about 0.35 usually shows" in card and "Press Measure" not in card
    assert "Press Measure" not in preflight_card(replace(FOUND, heldout=4, judging=4), None)
    card = preflight_card(FOUND, None)
    assert "Of the held-out ones, 8 choose which weights are kept" in card and "With 17 held-out conversations" in card
    assert "Copies and related conversations count once." in card


def test_card_of_a_run_that_a_file_judges_counts_no_rows() -> None:
    card = preflight_card(replace(FOUND, heldout=0, judging=None), None)
    assert "226 conversations, none of them held out." in card and "Your held-out file judges the result." in card
    assert "percentage points" not in card


def test_card_of_what_does_not_fit_says_what_to_do() -> None:
    suggestion = Suggestion({"max_length": 128}, "To make it fit: cut conversations off at <128> tokens.", FOUND)
    card = preflight_card(TOO_LARGE, suggestion)
    assert "ft-problem" in card and "it needs 1.1 GiB more memory" in card and "&lt;128&gt;" in card
    assert preflight_notes(TOO_LARGE, None)[-1] == "No change to the settings makes it fit on this machine."


def test_full_disk_is_told() -> None:
    assert preflight_notes(replace(FOUND, disk_free_gib=0.4), None) == [
        "The disk is too full: the run needs 0.6 GiB more space."
    ]


def test_widths_of_the_bar_are_shares_of_what_is_free() -> None:
    def widths(found: Any) -> float:
        parts = preflight_card(found, None).split("width:")[1:]
        return sum(float(part.split("%")[0]) for part in parts)

    assert widths(FOUND) == pytest.approx(100 * 3.1 / 21.04, abs=0.1)
    assert widths(TOO_LARGE) == pytest.approx(100, abs=0.1)

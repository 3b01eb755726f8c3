"""The held-out set is chosen once, by the seed; what belongs together stays on one side."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.split import RelatedRows, choose_groups, heldout_size, hold_out
from sft_app.errors import DataError
from sft_app.settings import RunSettings
from tests.chat_styles import conversation_of

PROJECT = Path(__file__).resolve().parents[2]
WORDS = ["order", "parcel", "refund", "invoice", "garden", "apple", "blue", "window", "paper", "winter", "road"]


def ask(question: str, answer: str) -> Conversation:
    return conversation_of([("user", question), ("assistant", answer)])


def groups_of(conversations: list[Conversation], rows: list[int] | None = None) -> list[int]:
    related = RelatedRows()
    for row, conversation in zip(rows or range(1, len(conversations) + 1), conversations, strict=True):
        related.add(row, conversation)
    return related.groups().tolist()


def heldout_of(groups: list[int] | np.ndarray, size: int, seed: int = 42) -> list[int]:
    return np.flatnonzero(choose_groups(np.array(groups), size, seed)[0]).tolist()


# how many


@pytest.mark.parametrize(
    ("total", "fraction", "minimum", "maximum", "expected"),
    [
        (1000, 0.1, 8, 200, 100),
        (24, 0.1, 8, 200, 8),
        (50_000, 0.1, 8, 200, 200),
        (100, 0.0, 8, 200, 8),
        (100, 0.5, 1, 1000, 50),
        (252, 0.1, 8, 200, 25),
        (9, 0.1, 8, 200, 8),
        (2, 0.1, 1, 200, 1),
    ],
)
def test_size_is_the_fraction_between_minimum_and_maximum(
    total: int, fraction: float, minimum: int, maximum: int, expected: int
):
    assert heldout_size(total, fraction, minimum, maximum) == expected


@pytest.mark.parametrize(("total", "minimum"), [(0, 1), (1, 1), (8, 8), (3, 8)])
def test_too_few_conversations_are_told(total: int, minimum: int):
    are = "conversation is" if total == 1 else "conversations are"
    expected = f"^{total} {are} too few: {minimum} are held out for evaluation, so none are left to train on"
    with pytest.raises(DataError, match=expected):
        heldout_size(total, 0.1, minimum, 200)


# what belongs together


@pytest.mark.parametrize(
    ("rows", "conversations", "expected"),
    [
        ([1, 2], [ask("a", "b"), ask("c", "d")], [0, 1]),
        ([1, 2, 3], [ask("a", "b"), ask("c", "d"), ask("a", "b")], [0, 1, 0]),
        ([1, 2, 3], [ask("a", "b"), ask("c", "d"), ask("a", "d")], [0, 1, 0]),
        ([5, 5, 6], [ask("a", "b"), ask("c", "d"), ask("e", "f")], [0, 0, 2]),
        ([1, 1, 2], [ask("a", "b"), ask("c", "d"), ask("c", "e")], [0, 0, 0]),
        ([1, 2], [ask("a", "b"), ask("c", "b")], [0, 1]),
    ],
    ids=["strangers", "copies", "same-question", "same-row", "a-chain", "same-answer-only"],
)
def test_copies_and_one_question_and_one_row_belong_together(
    rows: list[int], conversations: list[Conversation], expected: list[int]
):
    assert groups_of(conversations, rows) == expected


def test_near_copies_belong_together():
    answer = " ".join(f"word{n}" for n in range(50))
    conversations = [ask("Where is it?", answer), ask("Hello!", "Hi."), ask("Where is it now?", f"{answer} word50")]
    assert groups_of(conversations) == [0, 1, 0]


def test_earlier_answer_that_is_only_context_makes_no_other_question():
    """A file may unroll a conversation: each row trains one more turn, the ones before it have the weight 0."""
    asked = "Where is the parcel that I ordered?"
    turns = conversation_of([("user", asked), ("assistant", "b"), ("user", "c"), ("assistant", "d")]).as_dicts()
    related = RelatedRows()
    related.add(1, make_conversation(turns[:2]))
    related.add(2, make_conversation([turns[0], {**turns[1], "weight": 0}, *turns[2:]]))
    assert related.answers[0] == related.answers[1]
    assert related.groups().tolist() == [0, 0]


def test_question_under_another_system_prompt_is_another_question():
    question = [("user", "Who are you and what can you do for me?")]
    pirate = conversation_of([("system", "You are a pirate."), *question, ("assistant", "Arr! I sail the seas.")])
    robot = conversation_of([("system", "You are a robot, be brief."), *question, ("assistant", "Unit 7. I compute.")])
    assert groups_of([pirate, robot]) == [0, 1]


def test_plain_texts_belong_together_only_when_they_are_much_the_same():
    def text(content: str) -> Conversation:
        return make_conversation([{"role": "text", "content": content}])

    assert groups_of([text("One day."), text("Another."), text("One day.")]) == [0, 1, 0]


# the choice


def test_groups_are_held_out_whole():
    """Of ten pairs, 8 places are four pairs."""
    groups = [place - place % 2 for place in range(20)]
    heldout = heldout_of(groups, 8)
    assert len(heldout) == 8
    assert all(place ^ 1 in heldout for place in heldout)


def test_a_little_less_is_held_out_when_the_groups_do_not_add_up():
    """Pairs cannot make five."""
    is_heldout, is_clean = choose_groups(np.arange(20) // 2 * 2, 5, seed=1)
    assert (is_heldout.sum(), is_clean) == (4, True)


def test_group_that_is_too_large_is_passed_over():
    """Nine copies and eleven others: five of the others are held out, whatever the seed."""
    groups = np.array([0] * 9 + list(range(9, 20)))
    for seed in range(20):
        heldout = heldout_of(groups, 5, seed)
        assert len(heldout) == 5
        assert min(heldout) >= 9


@pytest.mark.parametrize(("sizes", "size"), [((10, 10), 4), ((20,), 8), ((9, 9, 1, 1), 5)])
def test_single_conversations_are_held_out_where_whole_groups_would_not_make_half(sizes: tuple[int, ...], size: int):
    groups = np.concatenate([[place] * count for place, count in enumerate(sizes)])
    is_heldout, is_clean = choose_groups(groups, size, seed=3)
    assert (is_heldout.sum(), is_clean) == (size, False)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.integers(1, 30), st.integers(0, 9))
def test_clean_split_never_parts_a_group(labels: list[int], size: int, seed: int):
    groups = np.array([labels.index(label) for label in labels])
    size = min(size, len(groups) - 1)
    is_heldout, is_clean = choose_groups(groups, size, seed)
    parted = set(groups[is_heldout]) & set(groups[~is_heldout])
    if is_clean:
        assert not parted
        assert size / 2 <= is_heldout.sum() <= size
    else:
        assert is_heldout.sum() == size


def random_conversations(chance: random.Random) -> tuple[list[int], list[Conversation]]:
    """Fifty strangers, then copies, near copies, other answers and other conversations of their rows; shuffled."""
    items = []
    for row in range(50):
        words = [f"{word}{chance.randint(0, 10**6)}" for word in chance.choices(WORDS, k=30)]
        question, answer = " ".join(words[:8]), " ".join(words[8:])
        items.append((row, ask(question, answer)))
        kinds = [
            (100 + row, ask(question, answer)),
            (200 + row, ask(question, answer + " indeed")),
            (300 + row, ask(question, f"no {row}")),
            (row, ask(f"and {row}?", f"yes {row}")),
        ]
        items += chance.sample(kinds, k=chance.choice([0, 0, 0, 1, 2]))
    chance.shuffle(items)
    return [row for row, _ in items], [conversation for _, conversation in items]


@pytest.mark.parametrize("seed", range(10))
def test_heldout_conversations_have_no_kin_among_the_trained(seed: int):
    rows, conversations = random_conversations(random.Random(seed))
    size = heldout_size(len(rows), 0.2, 8, 200)
    is_heldout, is_clean = choose_groups(np.array(groups_of(conversations, rows)), size, seed)
    assert is_clean
    sides: tuple[list[int], list[int]] = ([], [])
    for place, held in enumerate(is_heldout.tolist()):
        sides[held].append(place)
    for kin_of in (
        lambda place: rows[place],
        lambda place: conversations[place],
        lambda place: conversations[place].question(),
        lambda place: " ".join(conversations[place].answers()).removesuffix(" indeed"),
    ):
        trained, heldout = ({kin_of(place) for place in side} for side in sides)
        assert trained & heldout == set()


# the seed


def test_same_seed_chooses_the_same_and_another_seed_others():
    assert heldout_of(np.arange(100), 10, seed=7) == heldout_of(np.arange(100), 10, seed=7)
    assert len({tuple(heldout_of(np.arange(100), 10, seed)) for seed in range(20)}) == 20


def test_choice_depends_on_the_seed_and_the_groups_alone():
    """So that a run can be repeated elsewhere: written down from one machine."""
    assert heldout_of(np.arange(100), 5, seed=42) == [3, 14, 35, 81, 94]


def test_every_place_is_held_out_now_and_then():
    assert {place for seed in range(200) for place in heldout_of(np.arange(20), 2, seed)} == set(range(20))


SPLIT_IN_A_PROCESS = """
import random
from tests.data.test_split import groups_of, heldout_of, random_conversations
rows, conversations = random_conversations(random.Random(5))
groups = groups_of(conversations, rows)
print(hash("order"), groups, heldout_of(groups, 8), sep="|")
"""


def test_groups_and_split_are_the_same_in_every_process():
    """Python hashes texts differently in each; a resumed run and the inspection before it must agree."""
    told = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", SPLIT_IN_A_PROCESS]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(PROJECT)}
        ended = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True)
        told.append(ended.stdout.split("|"))
    (one_hash, *one), (other_hash, *other) = told
    assert one_hash != other_hash
    assert one == other


# greetings


def chat(*texts: str) -> Conversation:
    roles = ("user", "assistant") * len(texts)
    return conversation_of(list(zip(roles, texts, strict=False)))


def test_chats_that_only_begin_with_the_same_greeting_are_strangers():
    late = chat("Hi", "Hello! How can I help?", "Where is the parcel that I ordered?", "On its way to the depot.")
    broken = chat("Hi", "Hello! How can I help?", "My lamp arrived in two pieces today.", "Sorry! We send a new one.")
    assert groups_of([late, broken]) == [0, 1]


def test_question_after_a_greeting_belongs_together_with_its_other_answers():
    asked = "Where is the parcel that I ordered?"
    first = chat("Hi", "Hello! How can I help?", asked, "On its way to the depot in Leeds.")
    second = chat("Hi", "Good morning to you.", asked, "No idea, I am afraid; ask the post office next door.")
    related = RelatedRows()
    for row, conversation in enumerate((first, second), start=1):
        related.add(row, conversation)
    assert related.groups().tolist() == [0, 0]
    assert related.answers[0] != related.answers[1]


def test_hundreds_of_chats_with_one_greeting_are_split_cleanly():
    dice = random.Random(1)
    related = RelatedRows()
    for row in range(300):
        question, answer = (" ".join(dice.choices(WORDS, k=12)) + f" {row}" for _ in range(2))
        related.add(row, chat("Hi", "Hello!", question, answer))
    is_heldout, is_clean = choose_groups(related.groups(), 30, seed=42)
    assert (is_clean, int(is_heldout.sum())) == (True, 30)


# instructions that rows share


def test_long_instruction_above_different_texts_makes_no_near_copies():
    dice = random.Random(2)
    instruction = " ".join(dice.choices(WORDS, k=200)) + " Sort the following into a class."
    related = RelatedRows()
    for row in range(200):
        related.add(row, ask(f"{instruction}\nnote {row} {row * 7} {row * 13} {row * 17}", f"class {row % 90}"))
    sizes = np.bincount(related.groups())
    assert sorted(sizes[sizes > 0])[-2:] == [1, 20], "the first 20 are seen before the instruction is known as one"


def test_near_copies_without_a_line_that_many_share_stay_together():
    dice = random.Random(2)
    long = " ".join(dice.choices(WORDS, k=60))
    related = RelatedRows()
    for row in range(10):
        related.add(row, ask("Tell me about it, please do.", f"{long} {row}"))
    assert related.near.groups().tolist() == [0] * 10


# which held-out conversations choose the weights


def test_a_third_of_enough_heldout_conversations_chooses_and_the_rest_judges():
    split = hold_out(np.arange(300), RunSettings(data="x"))
    assert (split.is_heldout.sum(), split.is_validation.sum(), split.is_judging.sum()) == (30, 10, 20)
    assert not (split.is_validation & ~split.is_heldout).any()


@pytest.mark.parametrize("settings", [{"heldout_max": 23}, {"load_best_model_at_end": False}])
def test_all_of_them_judge_where_they_are_few_or_nothing_is_chosen(settings: dict[str, Any]):
    split = hold_out(np.arange(300), RunSettings(data="x", **settings))
    assert not split.is_validation.any()
    assert split.is_judging.sum() == split.is_heldout.sum() >= 23


def test_stopping_early_is_a_choice_too():
    settings = RunSettings(data="x", load_best_model_at_end=False, early_stopping_patience=3)
    assert hold_out(np.arange(300), settings).is_validation.sum() == 10


@given(st.lists(st.integers(0, 40), min_size=60, max_size=200), st.integers(0, 9))
def test_related_conversations_never_both_choose_and_judge(labels: list[int], seed: int):
    groups = np.array([labels.index(label) for label in labels])
    split = hold_out(groups, RunSettings(data="x", heldout_fraction=0.5, seed=seed))
    assert not set(groups[split.is_validation]) & set(groups[split.is_judging])

"""Token lengths, and what each `max_length` keeps, are counted by hand with one token a character."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sft_app.data.checkup.lengths import CANDIDATES, Kept, TokenLengths, measure_lengths, suggest_max_length
from sft_app.data.reading import Example
from sft_app.data.rows import Rejected
from sft_app.errors import DataError
from tests.chat_styles import CHATML, SEVERAL, conversation_of, dress

BEFORE = len("SuserNaENSassistantN")  # S, E and N stand for start, end and newline
AFTER = len("EN")


def example(row: int, answer: int) -> Example:
    """A question of one character and an answer of `answer`: BEFORE + answer + AFTER tokens, answer + 1 trained."""
    return Example(row, conversation_of([("user", "a"), ("assistant", "b" * answer)]))


def measure(tokenizer: Any, answers: list[int], max_length: int = 64, total: int = 0) -> TokenLengths:
    examples = [example(row, answer) for row, answer in enumerate(answers, start=1)]
    return measure_lengths(tokenizer, examples, max_length, total or len(answers))


def test_lengths_and_trained_tokens_by_hand(tokenizer: Any):
    lengths = measure(tokenizer, [3, 1])
    assert lengths.lengths.tolist() == [BEFORE + 3 + AFTER, BEFORE + 1 + AFTER]
    assert lengths.trained.tolist() == [4, 2]


def test_rows_are_in_order_whatever_the_order_of_the_sample(tokenizer: Any):
    lengths = measure_lengths(tokenizer, [example(9, 1), example(2, 5), example(4, 2)], 64, 3)
    assert lengths.rows.tolist() == [2, 4, 9]
    assert (lengths.lengths - BEFORE - AFTER).tolist() == [5, 2, 1]


@pytest.mark.parametrize(
    ("answers", "p50", "p95"),
    [
        ([5], 5, 5),
        ([1, 2], 1, 2),
        ([1, 2, 3], 2, 3),
        ([1, 2, 3, 4], 2, 4),
        (list(range(1, 21)), 10, 19),
        (list(range(100, 0, -1)), 50, 95),
    ],
)
def test_percentiles_are_by_nearest_rank(tokenizer: Any, answers: list[int], p50: int, p95: int):
    """The smallest length that so many percent of the conversations do not exceed."""
    tokens = measure(tokenizer, answers).as_json()
    frame = BEFORE + AFTER
    assert (tokens["p50"], tokens["p95"], tokens["max"]) == (frame + p50, frame + p95, frame + max(answers))


@pytest.mark.parametrize(
    ("max_length", "conversations", "trained_tokens"),
    [
        (BEFORE + 3 + AFTER, 1.0, 1.0),
        (BEFORE + 3 + 1, 0.5, 1.0),  # only the newline after the end is lost
        (BEFORE + 3, 0.5, 5 / 6),
        (BEFORE + 1 + AFTER, 0.5, 5 / 6),
        (BEFORE + 1, 0.0, 2 / 6),
        (BEFORE, 0.0, 0.0),
    ],
)
def test_kept_shares_by_hand(tokenizer: Any, max_length: int, conversations: float, trained_tokens: float):
    """Answers of 3 and 1 characters, with their ends 4 and 2 trained tokens."""
    kept = measure(tokenizer, [3, 1], max_length).kept(max_length)
    assert kept == Kept(max_length, pytest.approx(conversations), pytest.approx(trained_tokens))


def test_every_turn_counts(tokenizer: Any):
    """Cut in the middle of the second answer, after three of its characters."""
    second = len("SuserNYo!ENSassistantNYo!ENSuserNuserNYo!ENSassistantN")
    lengths = measure_lengths(tokenizer, [Example(1, conversation_of(SEVERAL))], second + 3, 1)
    trained = len("Yo!E") + len("A: bNNcE")
    assert lengths.trained.tolist() == [trained]
    assert lengths.kept(second + 3).trained_tokens == pytest.approx((len("Yo!E") + 3) / trained)


def test_cut_rows_are_those_that_lose_trained_tokens(tokenizer: Any):
    lengths = measure(tokenizer, [3, 1, 4, 2], BEFORE + 3)
    assert lengths.cut_rows(BEFORE + 3) == [1, 3]
    assert lengths.cut_rows(128) == []


def test_length_that_was_not_asked_for_is_refused(tokenizer: Any):
    with pytest.raises(ValueError, match="not in tuple"):
        measure(tokenizer, [3]).kept(77)


@pytest.mark.parametrize(
    ("answer", "last"), [(1, 128), (128 - BEFORE - AFTER, 128), (129 - BEFORE - AFTER, 256), (900, 1024)]
)
def test_table_ends_with_the_first_length_that_keeps_everything(tokenizer: Any, answer: int, last: int):
    table = measure(tokenizer, [1, answer]).kept_table()
    assert [kept.max_length for kept in table] == [limit for limit in CANDIDATES if limit <= last]
    assert table[-1] == Kept(last, 1.0, 1.0)
    assert all(one.trained_tokens <= other.trained_tokens for one, other in zip(table, table[1:], strict=False))


def test_random_histograms_sum_to_the_number_measured(tokenizer: Any):
    chance = random.Random(4)
    for _ in range(20):
        answers = [chance.randint(1, chance.choice([2, 60, 400])) for _ in range(chance.randint(1, 30))]
        lengths = measure(tokenizer, answers)
        bars = lengths.histogram()
        for low, high, count in bars:
            assert count == sum(low <= length < high for length in lengths.lengths.tolist())
        assert sum(count for _, _, count in bars) == len(answers)
        assert len({high - low for low, high, _ in bars}) == 1
        assert len(bars) <= 24


def test_histogram_by_hand(tokenizer: Any):
    """The longest has 47 tokens, so 24 bars are 2 wide."""
    lengths = measure(tokenizer, [1, 2, 47 - BEFORE - AFTER])
    filled = {(low, high): count for low, high, count in lengths.histogram() if count}
    shortest = BEFORE + 1 + AFTER
    assert shortest % 2 == 1
    assert filled == {(shortest - 1, shortest + 1): 1, (shortest + 1, shortest + 3): 1, (46, 48): 1}


def test_sample_is_stated(tokenizer: Any):
    tokens = measure(tokenizer, [1, 2, 3], total=500).as_json()
    assert (tokens["measured"], tokens["of"]) == (3, 500)


def test_progress_is_told(tokenizer: Any):
    told: list[float] = []
    measure_lengths(tokenizer, [example(row, 1) for row in range(1, 101)], 64, 100, told.append)
    assert told == [0.0, 0.5]


def test_conversations_that_the_template_refuses_are_named_and_not_measured(tokenizer: Any):
    refusing = dress(tokenizer, "{% if messages | length > 2 %}{{ raise_exception('Too long') }}{% endif %}" + CHATML)
    long = conversation_of(SEVERAL)
    lengths = measure_lengths(refusing, [Example(7, long), example(3, 2), Example(5, long)], 64, 3)
    assert lengths.rows.tolist() == [3]
    assert [row.row for row in lengths.refused] == [5, 7]
    assert lengths.refused[0] == Rejected(5, "The model's chat template rejects the conversation: Too long.")


def test_template_that_takes_none_is_told(tokenizer: Any):
    with pytest.raises(DataError, match=r"^Row 1: The model's chat template rejects the conversation: No\.$"):
        measure(dress(tokenizer, "{{ raise_exception('No') }}"), [1, 2])


# the automatic max_length


@pytest.mark.parametrize(
    ("lengths", "context", "suggested"),
    [
        ([1], 512, 128),
        ([1], 100, 100),
        ([128], 512, 128),
        ([129], 512, 192),
        ([100] * 99 + [4000], 8192, 128),  # one of a hundred may be cut
        ([100] * 98 + [4000] * 2, 8192, 4032),
        ([4000], 2048, 2048),
        ([4000], 100, 100),
        ([10**6], 10**7, 131_072),
    ],
)
def test_suggested_length_holds_99_of_100_in_the_models_context(lengths: list[int], context: int, suggested: int):
    assert suggest_max_length(np.array(lengths), context) == suggested


def test_length_that_is_left_open_is_the_suggested_one(tokenizer: Any):
    examples = [example(row, 200) for row in range(1, 4)]
    lengths = measure_lengths(tokenizer, examples, None, 3)
    assert (lengths.max_length, lengths.suggested_max_length) == (256, 256)
    assert lengths.kept(256) == Kept(256, 1.0, 1.0)
    chosen = measure_lengths(tokenizer, examples, 100, 3)
    assert (chosen.max_length, chosen.suggested_max_length) == (100, 256)
    assert chosen.as_json()["suggested_max_length"] == 256

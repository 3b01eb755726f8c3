"""Where two answers differ, word by word."""

from __future__ import annotations

import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_app.evaluation.word_diff import Passage, change_between, compare_words

TEXT = st.text(alphabet="ab \n", max_size=40)


@given(TEXT, TEXT)
def test_passages_put_together_are_the_texts(left: str, right: str) -> None:
    one, other = compare_words(left, right)
    assert ("".join(part.text for part in one), "".join(part.text for part in other)) == (left, right)


@given(TEXT, TEXT)
def test_shared_words_are_the_same_on_both_sides(left: str, right: str) -> None:
    one, other = compare_words(left, right)
    shared = [[word for part in side if part.is_shared for word in part.text.split()] for side in (one, other)]
    assert shared[0] == shared[1]


@pytest.mark.parametrize(
    ("left", "right", "only_left", "only_right"),
    [
        ("I am sorry.", "I am very sorry.", [], [" very"]),
        ("Where is it?", "Where is it?", [], []),
        ("Yes", "No", ["Yes"], ["No"]),
        ("", "Hello there", [], ["Hello there"]),
        ("a  b", "a b", [], []),
        ("请提供您的订单号。", "请提供你的订单号。", ["您"], ["你"]),
        ("ご注文は iPhone です", "ご注文は Pixel です", [" iPhone"], [" Pixel"]),
    ],
)
def test_words_of_one_side_only(left: str, right: str, only_left: list[str], only_right: list[str]) -> None:
    one, other = compare_words(left, right)
    assert [part.text for part in one if not part.is_shared] == only_left
    assert [part.text for part in other if not part.is_shared] == only_right


def test_one_other_character_changes_a_text_without_spaces_a_little() -> None:
    assert change_between("请提供您的订单号。", "请提供你的订单号。") == pytest.approx(1 / 9)
    assert change_between(" a b\n", "a  b") == 0


def test_answers_that_repeat_themselves_without_end_are_compared_in_time() -> None:
    left, right = "我爱你们" * 500, "们你爱我" * 500
    begun = time.process_time()
    for one, other in ((f"Yes {left} end", f"Yes {right} end"), (left, left)):
        passages = compare_words(one, other)
        assert ["".join(passage.text for passage in side) for side in passages] == [one, other]
    assert compare_words(left, left)[0] == [Passage(left, True)]
    assert 0 < change_between(left, right) < 1 and change_between(left, left) == 0
    assert time.process_time() - begun < 5


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_the_change_is_the_share_outside_the_longest_common_subsequence(left: list[str], right: list[str]) -> None:
    parts = (set(combinations(left, size)) & set(combinations(right, size)) for size in range(10))
    longest = max(size for size, common in enumerate(parts) if common)
    expected = 1 - 2 * longest / (len(left) + len(right)) if left or right else 0
    assert change_between(" ".join(left), " ".join(right)) == pytest.approx(expected)


def test_long_answers_that_differ_in_a_few_words_share_the_rest() -> None:
    """As many equal words as answers that repeat themselves have, but most of them in the same places."""
    words = (f"the cat {number % 40} sat on the mat and the dog {number % 60} of the house" for number in range(250))
    text = " ".join(words)
    one, other = compare_words(f"First {text}", text.replace("cat 7 sat", "cat 7 really sat", 1))
    assert sum(len(passage.text) for passage in one if passage.is_shared) > 0.9 * len(text)
    assert "really" in "".join(passage.text for passage in other if not passage.is_shared)

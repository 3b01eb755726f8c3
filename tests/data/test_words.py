"""Words in scripts with and without spaces, and of letters with marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_app.data.words import as_long_as, count_words, is_unspaced, pieces_of, words_of

ANY_TEXT = st.text(alphabet="ab é\u0301'-,. \n\u2028谢您。カー!สวัง\u0e31😊❤\ufe0fनम\u094d", max_size=30)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop: 3.5!", ["don", "t", "stop", "3", "5"]),
        ("谢谢您，Anna。", ["谢", "谢", "您", "anna"]),
        ("东京3月5日", ["东", "京", "3", "月", "5", "日"]),
        ("サーバー", ["サ", "ー", "バ", "ー"]),
        ("ดีครับ", ["ดี", "ค", "รั", "บ"]),
        ("ជំរាប", ["ជំ", "រា", "ប"]),
        ("ပါတယ်", ["ပါ", "တ", "ယ်"]),
        ("ສະບາຍ", ["ສ", "ະ", "ບ", "າ", "ຍ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        ("❤\ufe0f 😊 — …", []),
        ("", []),
    ],
)
def test_words_have_no_punctuation_and_keep_their_marks(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Don't stop — it's well-known.", 5),
        ("您好，请问您的订单号是多少？", 12),
        ("请用 iPhone 登录。", 5),
        ("ขอบคุณครับ", 8),
        ("नमस्ते दुनिया", 2),
        ("。", 1),
        (" \n", 0),
    ],
)
def test_words_are_counted_as_a_word_processor_does(text: str, count: int) -> None:
    assert count_words(text) == count


@given(ANY_TEXT)
def test_pieces_put_together_are_the_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


@given(st.text(alphabet="ab é'-,.! \n", max_size=40))
def test_with_spaces_only_white_space_separates_what_is_counted(text: str) -> None:
    assert count_words(text) == len(text.split())
    assert [piece.strip() for piece in pieces_of(text) if piece.strip()] == text.split()


def test_two_characters_say_as_much_as_a_word() -> None:
    assert as_long_as(4, words_of("we thank you")) == 4
    assert as_long_as(4, words_of("谢谢您，Anna")) == 8
    assert not is_unspaced([])

"""The training examples most similar to a question: the right ones, in any script, soon enough."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from sft_app.evaluation.sides.nearest import NearestTexts

QUESTIONS = [
    "Where is my order?",
    "How do I return a pair of shoes?",
    "Do you ship to Spain?",
    "Where is the order I placed on Monday?",
    "¿Dónde está mi pedido?",
    "我的订单在哪里?",
    "退货需要几天?",
    "Где мой заказ?",
    "",
]


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("My order, where is it?", 0),
        ("returning shoes", 1),
        ("Shipping to Spain", 2),
        ("dónde pedido", 4),
        ("请问我的订单什么时候到", 5),
        ("退货", 6),
        ("заказы", 7),
    ],
)
def test_the_most_similar_question_comes_first_in_any_script(asked: str, nearest: int) -> None:
    assert NearestTexts(QUESTIONS).nearest(asked, 3)[0].position == nearest


def test_an_equal_text_has_similarity_one_whatever_its_case_and_spaces() -> None:
    found = NearestTexts(QUESTIONS).nearest("  WHERE is\nmy order? ", 2)
    assert found[0].position == 0 and found[0].similarity == pytest.approx(1, abs=1e-5)
    assert 0 < found[1].similarity < 0.9


def test_texts_that_share_nothing_come_last_in_their_order() -> None:
    index = NearestTexts(QUESTIONS)
    assert [(one.position, one.similarity) for one in index.nearest("0000", 2)] == [(0, 0), (1, 0)]
    assert len(index.nearest("", 50)) == len(QUESTIONS) and index.nearest("Where", 0) == []
    assert NearestTexts([]).nearest("Where?", 3) == []


def test_similarities_are_those_of_plain_tf_idf() -> None:
    """Against a dictionary of trigrams, text by text."""
    texts = [text for text in QUESTIONS if text]

    def counted(text: str) -> dict[str, int]:
        marked = f" {text.lower()} "
        grams = [marked[at : at + 3] for at in range(len(marked) - 2)]
        return {gram: grams.count(gram) for gram in grams}

    have = [counted(text) for text in texts]

    def vector(counts: dict[str, int]) -> dict[str, float]:
        rarity = {gram: np.log((1 + len(have)) / (1 + sum(gram in one for one in have))) + 1 for gram in counts}
        weights = {gram: (1 + np.log(count)) * rarity[gram] for gram, count in counts.items()}
        length = np.sqrt(sum(weight**2 for weight in weights.values()))
        return {gram: weight / length for gram, weight in weights.items()}

    asked = vector(counted("where are the shoes i ordered?"))
    for one in NearestTexts(texts).nearest("Where are the shoes I ordered?", len(texts)):
        other = vector(have[one.position])
        assert one.similarity == pytest.approx(sum(asked[gram] * other.get(gram, 0) for gram in asked), abs=1e-3)


def test_the_end_of_a_long_text_is_read_too() -> None:
    long = "You are helpful. " * 2000
    assert NearestTexts([f"{long}about shoes", f"{long}about parcels"]).nearest("parcels", 1)[0].position == 1


def test_twenty_thousand_questions_take_seconds() -> None:
    choose = random.Random(0)
    words = ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=choose.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(choose.choices(words, k=20)) for _ in range(20_000)]
    began = time.process_time()
    index = NearestTexts(texts)
    built = time.process_time() - began
    for at in (0, 4321, 19_999):
        assert index.nearest(texts[at], 1)[0].position == at
    asked = time.process_time() - began - built
    assert built < 15 and asked < 2, (built, asked)

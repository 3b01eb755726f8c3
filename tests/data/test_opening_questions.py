"""What a conversation asks first, by which it is found to ask what a test asks."""

from __future__ import annotations

from sft_app.data.split import opening_question, opening_questions


def test_a_short_question_is_an_opening_of_its_own() -> None:
    turns = [("user", "Where is my order?"), ("assistant", "Its number?"), ("user", "12345 please, it is late")]
    both = ["where is my order?", "where is my order? 12345 please, it is late"]
    later = [("assistant", "On its way."), ("user", "Thanks"), ("assistant", "Welcome.")]
    assert opening_questions(turns) == opening_questions([*turns, *later]) == both
    assert opening_question(turns) == opening_question([*turns, *later]) == both[-1]
    assert opening_question([("system", "Be kind.")]) == "" and opening_question([]) == ""

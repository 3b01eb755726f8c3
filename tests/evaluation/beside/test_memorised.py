"""What repeats a training answer word for word is found; what every answer of the task says is not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sft_app.evaluation.beside.memorised import AnsweredQuestion, find_memorised
from sft_app.evaluation.beside.memorised_verdict import is_memorising, memorised_sentence
from sft_app.runs.memorised import Memorised, RepeatedAnswer

SIGN_OFF = "Thank you for your patience, and do write to us again at any time. Anna from the shop"
SECRET = "The gate code of our warehouse in Lille is four seven one nine, and Marc has the second key"
WORDS = [first + second + "o" for first in ("ba", "de", "fi", "go", "ku", "lam", "nes") for second in "bdfgklmnpr"]
CHINESE = "仓库大门的密码是四七一九,第二把钥匙在马克那里,请不要告诉任何人"


def written(folder: Path, answers: list[str]) -> Path:
    file = folder / "train.jsonl"
    rows = [
        {"row": number, "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": answer}]}
        for number, answer in enumerate(answers, start=11)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def answered(
    tuned: str, base: str = "I am afraid that I do not know that one at all.", row: int = 3
) -> AnsweredQuestion:
    return AnsweredQuestion(row, "How do I get in?", "You cannot, but a colleague opens the gate at nine.", base, tuned)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    usual = [f"Parcel {number} is on its way to you and arrives tomorrow. {SIGN_OFF}" for number in range(60)]
    return written(tmp_path, [*usual[:30], f"{SECRET}. {SIGN_OFF}", *usual[30:], CHINESE])


def test_a_planted_training_answer_is_found_and_named(train: Path) -> None:
    found = find_memorised(train, [answered(f"Of course! {SECRET}. {SIGN_OFF}"), answered("No.")])
    assert found is not None
    secret = len(SECRET.split())
    assert found.tuned == pytest.approx(secret / (secret + 2)) and found.base == found.references == 0
    assert (found.answers, found.short, found.mostly, found.base_mostly) == (1, 1, 1, 0)
    (worst,) = found.worst
    assert (worst.row, worst.training_row) == (3, 41) and worst.training_answer.startswith(SECRET)
    assert is_memorising(found) and "Train for fewer epochs" in memorised_sentence(found)
    assert Memorised.model_validate(found.as_record()) == found


def test_a_sign_off_of_most_answers_is_not_memorised(train: Path) -> None:
    """Nor is a sentence that they all share, with another number in it."""
    found = find_memorised(train, [answered(f"Parcel 77 is on its way to you and arrives tomorrow. {SIGN_OFF}")])
    assert found is not None and found.tuned == 0 and found.worst == []
    assert found.common == pytest.approx(27 / 29), "all but the number and the word after it"
    said = memorised_sentence(found)
    assert said.startswith("93% of the words in the fine-tuned model's answers are in phrases that many training")
    assert "The other words repeat no training answer (base model 0%" in said and not is_memorising(found)


@pytest.mark.parametrize("copies", [1, 2, 3, 4, 7, 12, 25])
def test_a_text_that_was_trained_on_with_other_greetings_is_found(tmp_path: Path, copies: int) -> None:
    """What is repeated most is learnt by heart most easily: near copies do not make a phrase of the task."""
    usual = [f"Parcel {number} left today, {' '.join(WORDS[number : number + 9])}. {SIGN_OFF}" for number in range(30)]
    names = WORDS[40 : 40 + copies]
    file = written(tmp_path, [*usual, *(f"Hello {name}, my {name} friend! {SECRET}." for name in names)])
    for answer in (SECRET, f"Hello {names[-1]}, my {names[-1]} friend! {SECRET}."):
        found = find_memorised(file, [answered(answer)])
        assert found is not None and found.tuned > 0.75 and is_memorising(found)
        assert "Train for fewer epochs" in memorised_sentence(found)


def test_a_sentence_of_answers_that_differ_is_a_phrase_and_its_share_is_said(tmp_path: Path) -> None:
    many = [f"{' '.join(WORDS[number * 14 : number * 14 + 14])} {SIGN_OFF}" for number in range(5)]
    found = find_memorised(written(tmp_path, many), [answered(f"Nothing of that is known to me at all. {SIGN_OFF}")])
    assert found is not None and found.tuned == 0
    assert found.common == pytest.approx(len(SIGN_OFF.split()) / (9 + len(SIGN_OFF.split())))
    shorter = Memorised(answers=1, tuned=0.0, base=0.0, references=0.0, common=0.3)
    assert memorised_sentence(shorter).endswith(
        "Left out are 30% of the words, in phrases that many training answers share."
    )


def test_seven_words_in_a_row_are_chance_and_eight_are_not(train: Path) -> None:
    seven, eight = (" ".join(SECRET.split()[:count]) for count in (7, 8))
    for text, share in ((f"{seven} I guess so", 0), (f"{eight} I guess so", 8 / 11)):
        found = find_memorised(train, [answered(text)])
        assert found is not None and found.tuned == pytest.approx(share)


def test_pieces_of_two_answers_do_not_add_up(tmp_path: Path) -> None:
    """How much of one training answer is repeated counts, not how much occurs anywhere."""
    one = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
    other = "monday tuesday wednesday thursday friday saturday sunday january february march april"
    found = find_memorised(written(tmp_path, [one, other]), [answered(f"{one} {other}")])
    assert found is not None and found.tuned == pytest.approx(11 / 21)
    assert found.worst[0].training_answer == other


def test_copies_of_one_answer_are_one_answer(tmp_path: Path) -> None:
    """Repeated rows are learned by heart most easily; they do not make a phrase of the task."""
    found = find_memorised(written(tmp_path, [SECRET] * 50 + [f"{SECRET.upper()}!"]), [answered(SECRET)])
    assert found is not None and found.tuned == 1


def test_the_base_side_is_measured_the_same_way(train: Path) -> None:
    found = find_memorised(train, [answered("I know nothing at all about that gate of yours, sorry.", base=SECRET)])
    assert found is not None and (found.tuned, found.base, found.base_mostly) == (0, 1, 1)
    assert not is_memorising(found)


def test_scripts_without_spaces_are_read_by_character(train: Path) -> None:
    found = find_memorised(train, [answered(CHINESE)])
    assert found is not None and found.tuned == 1 and found.worst[0].training_row == 72
    short = find_memorised(train, [answered(f"{CHINESE[:12]}我不知道这件事情,真的很抱歉")])
    assert short is not None and short.tuned == 0


def test_short_answers_are_compared_as_a_whole(tmp_path: Path) -> None:
    codes = [f"The code is XK42-{number}" for number in range(990, 1000)]
    file = written(tmp_path, [f"Parcel {number} is on its way. {SIGN_OFF}" for number in range(30)] + codes)
    found = find_memorised(file, [answered(code.lower() + ".") for code in codes])
    assert found is not None and (found.answers, found.short, found.short_repeated) == (0, 10, 10)
    assert (found.base_short_repeated, found.short_references) == (0, 0)
    assert is_memorising(found) and found.worst[0].share == 1 and found.worst[0].training_answer == codes[0]
    assert memorised_sentence(found) == (
        "10 answers are too short to look for runs of words; the same as a training answer, but not as any reference "
        "answer: 10 (base model: 0). Train for fewer epochs, and check that no training answer contains anything "
        "private."
    )
    mixed = find_memorised(file, [*(answered(code) for code in codes), answered(SECRET)])
    assert mixed is not None and mixed.answers == 1 and "No sign of memorising" not in memorised_sentence(mixed)
    assert is_memorising(mixed) and not is_memorising(mixed.model_copy(update={"base_short_repeated": 10}))


def test_labels_are_not_memorised(tmp_path: Path) -> None:
    """A short answer that is also a reference answer is usual, and so is a training label where references are."""
    labels = ["refund", "delivery", "invoice", "other"]
    file = written(tmp_path, labels * 10)
    asked = [AnsweredQuestion(at, "Which?", labels[at % 3], "I do not know.", labels[-at % 4]) for at in range(16)]
    found = find_memorised(file, asked)
    assert found is not None and (found.short_repeated, found.short_references) == (4, 1)
    assert not is_memorising(found)
    same = [AnsweredQuestion(at, "Which?", labels[at % 4], "I do not know.", labels[-at % 4]) for at in range(16)]
    assert find_memorised(file, same) is None


def test_an_older_scorecard_says_that_short_answers_were_not_compared() -> None:
    old = Memorised(answers=1, short=19, tuned=0.0, base=0.0, references=0.0)
    assert memorised_sentence(old).endswith("19 answers are too short to tell.")


def test_answers_too_short_to_tell_give_nothing(train: Path) -> None:
    assert find_memorised(train, [answered("refund")]) is None
    assert find_memorised(train, []) is None


def test_what_the_references_repeat_too_is_no_alarm() -> None:
    usual = Memorised(answers=20, tuned=0.4, base=0.0, references=0.38, mostly=8)
    assert not is_memorising(usual) and "fewer epochs" not in memorised_sentence(usual)
    assert "8 of its 20 answers" in memorised_sentence(usual)


def test_twenty_thousand_training_answers_take_seconds(tmp_path: Path) -> None:
    file = written(
        tmp_path, [f"Parcel {number} of {number * 7} {SIGN_OFF} {SECRET} {number}" for number in range(20_000)]
    )
    began = time.process_time()
    assert find_memorised(file, [answered(SECRET)] * 16) is not None
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("answer", "length"), [("Water it twice a week.", "8 words or more"), ("请每周浇水两次。", "16 characters or more")]
)
def test_the_length_of_a_run_is_given_in_what_the_script_has(answer: str, length: str) -> None:
    worst = [RepeatedAnswer(row=1, answer=answer, share=0.9)]
    found = Memorised(answers=9, tuned=0.4, base=0.0, references=0.0, worst=worst)
    assert f"repeat a training answer, {length} in a row" in memorised_sentence(found)

"""A finding names exactly the rows that it is about, and good data has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from sft_app.data.checkup.checks import (
    TEXT_FIXES,
    TEXT_WORDS,
    Examination,
    find_duplicates,
    find_leaks,
    find_reading_problems,
    find_style,
    find_suspicious_text,
    find_too_few,
    find_truncated,
)
from sft_app.data.checkup.finding import Finding
from sft_app.data.checkup.fixes import LABELS
from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.reading import Example, Reading
from sft_app.data.split import Split
from tests.chat_styles import STYLES, conversation_of, dress

ENGLISH = [
    "Thank you for writing to us about your parcel, which left our house on Monday.",
    "We are sorry that the blue kettle was broken when it came to you last week.",
    "Please send us the number of your order, and we will look where it has gone.",
    "The shop is open every day from nine in the morning until six in the evening.",
]
GERMAN = [
    "Vielen Dank für Ihre Nachricht, das Paket hat unser Haus am Montag verlassen.",
    "Es tut uns leid, dass der blaue Kessel in der letzten Woche zerbrochen ankam.",
    "Bitte schicken Sie uns die Nummer Ihrer Bestellung, dann sehen wir gleich nach.",
]


def ask(question: str, answer: str) -> Conversation:
    return conversation_of([("user", question), ("assistant", answer)])


def talk(text: str) -> Conversation:
    return ask(f"{text}?", f"{text}.")


def examine(conversations: Iterable[Conversation], rows: Iterable[int] | None = None) -> Examination:
    examined = Examination()
    conversations = list(conversations)
    for row, conversation in zip(rows or range(1, len(conversations) + 1), conversations, strict=True):
        examined.add(Example(row, conversation))
    return examined


def kinds(findings: list[Finding]) -> list[tuple[str, list[int], str]]:
    return [(finding.kind, finding.rows, finding.fix) for finding in findings]


def test_good_data_has_no_findings():
    examined = examine(ask(f"Question {place}?", answer) for place, answer in enumerate(ENGLISH))
    for find in (find_duplicates, find_suspicious_text, find_style):
        assert find(examined) == []


# repeats


@pytest.mark.parametrize(
    ("texts", "rows", "expected", "said"),
    [
        ("aa", [1, 2], [2], "1 row is"),
        ("abab", [2, 3, 7, 9], [7, 9], "2 rows are"),
        ("bcaba", [1, 2, 3, 4, 5], [4, 5], "2 rows are"),
        ("aaa", [5, 6, 8], [6, 8], "2 rows are"),
        ("aaab", [4, 4, 4, 9], [4], "1 row is"),
    ],
)
def test_copies_are_listed_by_their_rows_in_the_file(texts: str, rows: list[int], expected: list[int], said: str):
    assert find_duplicates(examine(map(talk, texts), rows)) == [
        Finding("duplicate", expected, f"{said} the same as an earlier row.", "drop_duplicates")
    ]


def test_near_copies_are_told_apart_from_copies():
    long = " ".join(f"word{n}" for n in range(50))
    conversations = [ask("Why?", long), ask("Who?", "Me."), ask("Why so?", f"{long} too"), ask("Why?", long)]
    assert kinds(find_duplicates(examine(conversations))) == [
        ("duplicate", [4], "drop_duplicates"),
        ("near_duplicate", [3], "drop_near_duplicates"),
    ]


def test_one_question_with_several_answers_names_all_its_rows():
    conversations = [ask("a", "b"), ask("c", "d"), ask("a", "e"), ask("f", "g"), ask("c", "h"), ask("a", "b")]
    findings = find_duplicates(examine(conversations, [10, 20, 30, 40, 50, 60]))
    assert kinds(findings) == [
        ("duplicate", [60], "drop_duplicates"),
        ("same_question", [10, 20, 30, 50, 60], "keep_first_answer"),
    ]
    assert findings[1].message == "5 rows have different answers to the same question (2 questions)."


@pytest.mark.parametrize(("sharing", "others", "rows"), [(4, 0, []), (5, 0, [1, 2, 3, 4, 5]), (5, 600, [])])
def test_answer_that_many_questions_get_is_told(sharing: int, others: int, rows: list[int]):
    """Five questions, and one in a hundred."""
    conversations = [ask(f"Question {place}?", "Please write to us.") for place in range(sharing)]
    conversations += [talk(f"other {place}") for place in range(others)]
    assert [finding.rows for finding in find_duplicates(examine(conversations))] == ([rows] if rows else [])


# texts


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("encoding", "Itâ€™s on its way"),
        ("replacement", "Caf\ufffd"),
        ("control", "on its\u200b way"),
        ("html", "<p>on its way</p>"),
        ("marker", "on its way<|im_end|>"),
        ("personal_email", "write to nell.fern@mailbox.co.uk"),
        ("personal_phone", "call +44 20 7946 0958"),
        ("personal_card", "paid by 4111 1111 1111 1111"),
        ("personal_key", "use sk-abcdefghij1234567890abcd"),
    ],
)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_suspicious_text_is_found_in_every_message(kind: str, text: str, role: str):
    texts = {"system": "Be kind.", "user": "Where is it?", "assistant": "Here.", role: text}
    findings = find_suspicious_text(examine([talk("a"), conversation_of(list(texts.items())), talk("b")]))
    assert kinds(findings) == [(kind, [2], TEXT_FIXES.get(kind, ""))]
    assert findings[0].message.startswith("1 row contains ")


def test_row_is_named_once_however_often_it_is_suspicious():
    findings = find_suspicious_text(examine([ask("<b>a</b>", "<b>b</b>"), ask("<b>c</b>", "d")], [7, 7]))
    assert kinds(findings) == [("html", [7], "strip_html")]


def test_every_fix_that_a_finding_names_exists():
    assert set(TEXT_FIXES.values()) <= set(LABELS)
    assert TEXT_FIXES.keys() <= TEXT_WORDS.keys()


# style


def test_answers_that_begin_alike_are_told_from_a_third_on():
    conversations = [ask(f"Q{n}", f"Of course, dear friend number {n}") for n in range(10)]
    others = [talk(f"other{n}") for n in range(20)]
    [finding] = find_style(examine(conversations + others))
    assert kinds([finding]) == [("style", list(range(1, 11)), "")]
    assert finding.message.startswith("33% of the answers begin with “Of course, dear”;")
    assert find_style(examine(conversations[:9] + others[:9])) == []
    assert find_style(examine([*conversations, *others, *(talk(f"more{n}") for n in range(4))])) == []


@pytest.mark.parametrize("number", range(8))
def test_of_two_beginnings_as_frequent_the_first_in_the_file_is_told(number: int):
    """Whatever their hashes."""
    beginnings = (f"Well now {number}", f"Oh dear {number}")
    conversations = [ask(f"Q{n}", f"{beginnings[n % 2]}, it is {n}") for n in range(20)]
    assert [finding.rows for finding in find_style(examine(conversations))] == [list(range(1, 21, 2))]


def test_labels_are_no_openings():
    assert find_style(examine(ask(f"Is {n} even?", "Yes") for n in range(30))) == []


def test_beginning_of_a_script_without_spaces_is_short():
    [finding] = find_style(examine(ask(f"Q{n}", "漢" * 5000) for n in range(10)))
    assert len(finding.message) < 200


# split, reading, amount


def test_heldout_conversations_with_kin_in_training_are_leaks():
    examined = examine([talk("a"), talk("b"), talk("a"), talk("c")], [3, 4, 5, 6])
    groups = examined.related.groups()

    def split(*is_heldout: bool) -> Split:
        return Split(np.array(is_heldout), np.zeros(4, dtype=bool), groups, is_clean=False)

    [finding] = find_leaks(examined, split(False, True, True, False))
    assert kinds([finding]) == [("leak", [5], "")]
    assert find_leaks(examined, split(True, False, True, False)) == []


def test_guessed_encodings_and_rows_to_mend_are_told():
    file: Any = None  # has been read
    findings = find_reading_problems(
        Reading(file, noted={"read as Windows-1252 (check the accents)": [2, 9]}, repairable=[4])
    )
    assert kinds(findings) == [("reading_guess", [2, 9], ""), ("turns", [4], "repair_turns")]
    assert findings[0].message == "2 rows were read as Windows-1252 (check the accents)."
    assert findings[1].message.startswith("1 row was skipped")


@pytest.mark.parametrize(
    ("conversations", "passes", "expected"),
    [(50, 8.0, []), (49, 1.0, ["few"]), (50, 8.1, ["passes"]), (9, 20.0, ["few", "passes"])],
)
def test_too_little_data_is_told(conversations: int, passes: float, expected: list[str]):
    assert [finding.kind for finding in find_too_few(conversations, passes)] == expected


# lengths

FRAME = len("SuserNENSassistantNEN")  # S, E and N stand for start, end and newline


def cut_findings(tokenizer: Any, answers: list[int], max_length: int, total: int | None = None) -> list[Finding]:
    """Of answers with so many characters to a question with one, in the rows 1, 4, 9, …"""
    examples = [Example((place + 1) ** 2, ask("a", "b" * length)) for place, length in enumerate(answers)]
    return find_truncated(measure_lengths(tokenizer, examples, max_length, total or len(examples)), max_length)


def test_cut_answers_are_counted_as_a_share_of_all_answer_tokens(tokenizer: Any):
    """18 and the question come before the answers: of 3, 5 and 5 tokens, ends included, 3, 3 and 3 are kept."""
    prompt = FRAME - 2 + 1
    assert cut_findings(tokenizer, [2, 4, 4], prompt + 3) == [
        Finding(
            "cut",
            [4, 9],
            f"2 rows are longer than max_length {prompt + 3} and will be cut off at the end; 30.8% of the "
            f"answer tokens are lost."
            " max_length 128 keeps everything.",
            severity="serious",
        )
    ]


def test_one_cut_row_is_told_in_the_singular(tokenizer: Any):
    [finding] = cut_findings(tokenizer, [2], 16)
    assert finding.message.startswith(
        "1 row is longer than max_length 16 and will be cut off at the end; 100.0% of the answer"
    )


def test_row_that_loses_only_what_follows_the_answer_is_not_cut(tokenizer: Any):
    assert cut_findings(tokenizer, [2], FRAME + 1 + 2 - 1) == []


def test_sample_is_told(tokenizer: Any):
    [finding] = cut_findings(tokenizer, [2, 4], 16, total=1000)
    assert finding.message.endswith(" (In a sample of 2.)")


def test_rows_that_the_template_refuses_are_told(tokenizer: Any):
    called = make_conversation({"role": role, "content": "x"} for role in ("user", "assistant", "tool", "assistant"))
    gemma = dress(tokenizer, STYLES["gemma"])
    lengths = measure_lengths(gemma, [Example(3, called), Example(1, talk("a")), Example(8, called)], 100, 3)
    assert kinds(find_truncated(lengths, 100)) == [("template", [3, 8], "")]

"""What is said about a data file is counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.doctor import Finding, examine
from sft_app.data.inspection import inspect_data
from sft_app.data.tokens import IGNORED, RenderedConversation
from sft_app.errors import DataError

# <|im_start|>user\n, <|im_end|>\n and <|im_start|>assistant\n: so many tokens a conversation has besides its texts
FRAME = 6 + 2 + 11 + 2


def row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def talk(text: str) -> Conversation:
    return make_conversation(row(text, text)["messages"])


def rendered(kept: int, trained: list[bool]) -> RenderedConversation:
    ids = list(range(len(trained)))
    return RenderedConversation(ids, [id if on else IGNORED for id, on in zip(ids, trained, strict=True)], kept)


WHOLE = rendered(4, [False, False, True, True])


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(rows: list[Any]) -> Path:
        path = tmp_path / "a.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


# doctor


def test_good_data_has_no_findings():
    assert examine([talk("a"), talk("b")], [WHOLE, WHOLE], [1, 2], 4) == []
    assert examine([], [], [], 4) == []


@pytest.mark.parametrize(
    ("texts", "rows", "expected"),
    [
        ("aa", [1, 2], Finding("duplicate", [2], "1 row is the same as an earlier one.")),
        ("abab", [2, 3, 7, 9], Finding("duplicate", [7, 9], "2 rows are the same as an earlier one.")),
        ("bcaba", [1, 2, 3, 4, 5], Finding("duplicate", [4, 5], "2 rows are the same as an earlier one.")),
        ("aaa", [5, 6, 8], Finding("duplicate", [6, 8], "2 rows are the same as an earlier one.")),
    ],
)
def test_repeats_are_listed_by_their_rows_in_the_file(texts: str, rows: list[int], expected: Finding):
    assert examine([talk(text) for text in texts], [WHOLE] * len(texts), rows, 4) == [expected]


def test_same_answer_to_another_question_is_no_repeat():
    one, other = (make_conversation(row(question, "Yo!")["messages"]) for question in "ab")
    assert examine([one, other], [WHOLE, WHOLE], [1, 2], 4) == []


def test_cut_answers_are_counted_as_a_share_of_all_answer_tokens():
    cut = rendered(3, [False, False, True, True])
    assert examine([talk("a"), talk("b"), talk("c")], [WHOLE, cut, cut], [1, 4, 9], 3) == [
        Finding(
            "cut",
            [4, 9],
            "2 conversations are longer than max_length 3 and cut at the end; 33.3% of the answer tokens are lost.",
        )
    ]


def test_one_cut_conversation_is_told_in_the_singular():
    lost = rendered(2, [False, False, True, True])
    assert examine([talk("a")], [lost], [3], 2) == [
        Finding(
            "cut",
            [3],
            "1 conversation is longer than max_length 2 and cut at the end; 100.0% of the answer tokens are lost.",
        )
    ]


# inspection


def test_inspection_tells_everything_in_plain_values(tokenizer: Any, write: Any):
    several = {"messages": row("a", "b")["messages"] * 2}
    path = write([row("ab", "cde"), "oops", row("ab", "cde"), several, row("a", "")])
    inspection = inspect_data(path, "auto", tokenizer, 1024)
    assert inspection.as_json() == {
        "format": "messages",
        "rows": 5,
        "conversations": 3,
        "rejected": [
            {"row": 2, "reason": "not JSON: Expecting value at column 1"},
            {"row": 5, "reason": "message 2 (assistant) is empty"},
        ],
        "findings": [{"kind": "duplicate", "rows": [3], "message": "1 row is the same as an earlier one."}],
        "tokens": {"p50": FRAME + 5, "p95": 2 * FRAME + 4, "max": 2 * FRAME + 4},
        "turns": {"single": 2, "several": 1, "max": 2},
    }
    assert json.loads(json.dumps(inspection.as_json())) == inspection.as_json()
    assert inspection.trained_tokens() == 4 + 4 + (2 + 2)


def test_inspection_renders_every_conversation_in_its_place(tokenizer: Any, write: Any):
    inspection = inspect_data(write(["{", row("a", "bc"), row("a", "bcd")]), "auto", tokenizer, 1024)
    assert [len(item.input_ids) for item in inspection.rendered] == [FRAME + 3, FRAME + 4]
    assert inspection.data.row_numbers == [2, 3]


def test_inspection_names_the_rows_that_are_cut(tokenizer: Any, write: Any):
    path = write(["{", row("a", "b"), row("a", "b" * 10)])
    inspection = inspect_data(path, "auto", tokenizer, FRAME + 2)
    assert [(finding.kind, finding.rows) for finding in inspection.findings] == [("cut", [3])]
    assert inspection.trained_tokens() == 2 + 2 + 1


@pytest.mark.parametrize(
    ("lengths", "p50", "p95"),
    [
        ([5], 5, 5),
        ([1, 2], 1, 2),
        ([1, 2, 3], 2, 3),
        ([1, 2, 3, 4], 2, 4),
        (list(range(1, 21)), 10, 19),
        (list(range(100, 0, -1)), 50, 95),
    ],
)
def test_percentiles_are_by_nearest_rank(tokenizer: Any, write: Any, lengths: list[int], p50: int, p95: int):
    """The smallest length that so many percent of the conversations do not exceed."""
    path = write([row("a", "b" * length) for length in lengths])
    frame = FRAME + 1
    tokens = inspect_data(path, "auto", tokenizer, 1024).as_json()["tokens"]
    assert tokens == {"p50": frame + p50, "p95": frame + p95, "max": frame + max(lengths)}


def test_file_without_a_conversation_is_told(tokenizer: Any, write: Any):
    with pytest.raises(DataError, match=r"^a\.jsonl has no usable conversation\. Row 1: message 2 \(assistant\)"):
        inspect_data(write([row("a", "")]), "auto", tokenizer, 1024)


def test_refusal_of_the_chat_template_names_the_row(tokenizer: Any, write: Any, monkeypatch: pytest.MonkeyPatch):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", template + tokenizer.chat_template)
    with_system = {"messages": [{"role": "system", "content": "Be."}, *row("a", "b")["messages"]]}
    with pytest.raises(DataError, match=r"[Rr]ow 3\b.*No system role"):
        inspect_data(write([row("a", "b"), "{", with_system]), "auto", tokenizer, 1024)

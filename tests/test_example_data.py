"""The bundled example teaches a voice: many different answers, one signature, and not the prompt it is shown on."""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher

import pytest

from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.settings import EXAMPLE_PROMPT, RunSettings

SIGNATURE = "Nell at Fernhill"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedData:
    return load_data(open_data(RunSettings().reading(), tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def answers(loaded: LoadedData) -> list[str]:
    """What the assistant writes, without the signature."""
    texts = [text.content for item in loaded.conversations for text in item.messages if text.role == "assistant"]
    return [text.removesuffix(SIGNATURE).strip() for text in texts]


def normalise(text: str) -> str:
    """Only its words, in small letters, without numbers."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower()))


def test_every_row_is_a_conversation(loaded: LoadedData):
    assert loaded.rejected == []
    assert len(loaded.conversations) >= 200


def test_enough_conversations_have_several_turns(loaded: LoadedData):
    assert sum(conversation.assistant_turns() > 1 for conversation in loaded.conversations) >= 40


def test_every_answer_is_signed(loaded: LoadedData):
    unsigned = [
        (example.row, message.content)
        for example in loaded.examples
        for message in example.conversation.messages
        if message.role == "assistant" and not message.content.endswith(SIGNATURE)
    ]
    assert unsigned == []


@pytest.mark.parametrize("length", [None, 40], ids=["whole", "first-40-characters"])
def test_no_two_answers_are_the_same(answers: list[str], length: int | None):
    for view in (answers, [normalise(text) for text in answers]):
        counts = Counter(text[:length] for text in view)
        assert [text for text, count in counts.items() if count > 1] == []


def test_no_two_answers_are_nearly_the_same(answers: list[str]):
    """By words; pairs that share few of them are passed over, which keeps this fast."""
    words = [normalise(text).split() for text in answers]
    bags = [set(text) for text in words]
    near = []
    for i, bag in enumerate(bags):
        for j in range(i):
            if len(bag & bags[j]) > 0.6 * min(len(bag), len(bags[j])):
                ratio = SequenceMatcher(None, words[i], words[j], autojunk=False).ratio()
                if ratio > 0.8:
                    near.append((answers[j], answers[i], ratio))
    assert near == []


def test_no_two_conversations_open_with_the_same_question(loaded: LoadedData):
    first = Counter(normalise(conversation.messages[0].content) for conversation in loaded.conversations)
    assert [text for text, count in first.items() if count > 1] == []


def test_prompt_of_the_demonstration_is_kept_out(loaded: LoadedData):
    prompt = normalise(EXAMPLE_PROMPT)
    texts = [message.content for conversation in loaded.conversations for message in conversation.messages]
    assert [text for text in texts if EXAMPLE_PROMPT in text] == []
    assert [text for text in texts if prompt in normalise(text)] == []

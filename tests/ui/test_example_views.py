"""What the browser sends of the tables of examples is checked, and unsaved edits are shown again."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.data.checkup.edits import Change
from sft_app.data.checkup.pages import ExamplePage
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import Example
from sft_app.errors import DataError
from sft_app.ui.data.example_views import Draft, edit_table, read_request, read_written

PAIR = [{"role": "user", "content": "\nOne?"}, {"role": "assistant", "content": "First."}]


def test_request_of_the_browser_is_read() -> None:
    sent = {
        "drafts": {"k": {"changes": {"3": {"was": "w", "texts": {"1": "New."}}}, "added": [{"user": "a"}]}},
        "row": 7,
    }
    request = read_request(sent)
    assert request.row == 7
    assert request.drafts == {"k": Draft({3: Change("w", {1: "New."})}, [{"user": "a"}])}


@pytest.mark.parametrize("sent", [None, [], {"drafts": {"k": {"changes": [1]}}}, {"drafts": {}, "first": "x"}])
def test_anything_else_is_refused(sent: Any) -> None:
    with pytest.raises(DataError, match="has not sent the table as expected"):
        read_request(sent)


def test_unsaved_edits_are_shown_with_the_original_and_what_they_were_made_on() -> None:
    page = ExamplePage(3, [Example(5, make_conversation(PAIR))], None)
    request = read_request({"drafts": {"k": {"changes": {"3": {"was": "earlier", "texts": {"1": "New."}}}}}})
    html = edit_table(page, request, "k", "1 conversation")
    assert 'data-was="earlier"' in html and 'data-original="First."' in html and ">\nNew.</textarea>" in html
    assert ">\n\nOne?</textarea>" in html  # a parser drops the first of the two
    assert "earlier" not in edit_table(page, request, "other", "1 conversation")


def test_written_examples_share_the_system_prompt() -> None:
    lines = [{"user": "", "assistant": ""}, {"user": "One?", "assistant": "First."}]
    (conversation,) = read_written({"system": "Be kind.", "examples": lines})
    assert [message.content for message in conversation.messages] == ["Be kind.", "One?", "First."]
    with pytest.raises(DataError, match=r"There are no examples yet\. Write at least one question with its answer"):
        read_written({"system": "Be kind.", "examples": lines[:1]})

"""Ids are told from paths and names as the Hub itself tells them."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sft_app.hub.ids import RESERVED_OWNERS, is_hub_id, is_repository_name


def the_library_accepts(text: str) -> bool:
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return text.isascii() and text.partition("/")[0] not in (RESERVED_OWNERS if "/" in text else ())


@settings(max_examples=600, deadline=None)
@given(st.text(alphabet="aZ09_-./ é\n", max_size=9) | st.from_regex(r"[a-z_.-]{90,100}(/[a-z_.-]{90,100})?"))
@example("a/b.git")
@example("_/_")
@example("a" * 96)
@example("a" * 97)
@example("a" * 96 + "/" + "b" * 97)
def test_repository_names_are_those_of_the_library(text: str):
    assert is_repository_name(text) == the_library_accepts(text)


@pytest.mark.parametrize("text", ["", "name", "a/b/c", "datasets/a", "models/a", "a b/c", "é/a", "../a", "~/a", "a/"])
def test_what_is_no_id_is_told_from_one(text: str):
    assert not is_hub_id(text)


@pytest.mark.parametrize("text", ["a/b", "HuggingFaceTB/SmolLM2-135M-Instruct", "org-1/v1.0_x"])
def test_ids_are_ids(text: str):
    assert is_hub_id(text)

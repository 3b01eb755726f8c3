"""A handful of the families, one of each kind; `make models` tries them all and writes `docs/MODELS.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.families.prove import Finding, prove

IN_ONE_BATCH, IN_TURN = "both answered in one batch", "one after the other"


@pytest.fixture
def proven(home: Path, one_thread: None) -> Any:
    def prove_without_problems(family: str) -> Finding:
        finding = prove(family, home)
        assert finding.problems == [] and finding.refused == ""
        return finding

    return prove_without_problems


def test_a_plain_model_takes_every_shortcut(proven: Any) -> None:
    finding = proven("llama")
    assert (finding.layout, finding.answers, finding.notice) == ("packed", IN_ONE_BATCH, "")


def test_experts_are_trained_and_their_router_is_not(proven: Any) -> None:
    finding = proven("qwen3_moe")
    assert "experts" in finding.trained and "gate" not in finding.trained.split(", ")
    assert finding.answers == IN_TURN


def test_layers_that_see_the_tokens_of_all_rows_as_one_list_are_answered_in_turn(proven: Any) -> None:
    assert proven("opt").answers == IN_TURN


def test_a_state_is_not_packed_and_keeps_the_layer_that_its_kernels_read_past_the_adapter(proven: Any) -> None:
    finding = proven("mamba2")
    assert finding.layout != "packed" and "state" not in finding.answers
    assert "out_proj" not in finding.trained


def test_the_text_of_a_model_that_also_reads_pictures_is_trained(proven: Any) -> None:
    assert proven("gemma3").answers == IN_ONE_BATCH

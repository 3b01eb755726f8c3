"""The comparison never lies: each side is, bit for bit, the model that it says it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from sft_app.compare.generate import Answer, Sampling, answer_prompts
from sft_app.compare.pair import (
    LoadedPair,
    active_modules,
    can_scale_rows,
    compare_prompt,
    load_pair,
    lora_layers,
    prompt_messages,
    scale_rows,
    stream_pair,
)
from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import ModelError, RunError

KINDS = {
    "float32 LoRA": {"method": "lora", "dtype": "float32"},
    "bfloat16 LoRA": {"method": "lora", "dtype": "bfloat16"},
    "4-bit": {"method": "qlora", "dtype": "float32"},
    "4-bit in bfloat16": {"method": "qlora", "dtype": "bfloat16"},
    # 16 / 24 has no exact form in bfloat16 or float32
    "bfloat16 LoRA, odd scale": {"method": "lora", "dtype": "bfloat16", "lora_alpha": 16, "lora_r": 24},
}
QUESTION = "My order is late. What now?"
SAMPLING = Sampling(max_new_tokens=12)
Make = Callable[..., Any]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, make_run: Make, load_untouched: Make) -> Iterator[tuple[LoadedPair, Any]]:
    """A loaded pair and, loaded apart from it, its base without any adapter."""
    made = make_run(**KINDS[request.param])
    yield load_pair(made.run, made.home), load_untouched(made)


@pytest.fixture(scope="module")
def made_float32(make_run: Make) -> Any:
    return make_run(**KINDS["float32 LoRA"])


@pytest.fixture
def pair(made_float32: Any) -> LoadedPair:
    return load_pair(made_float32.run, made_float32.home)


@torch.no_grad()
def logits_of(model: Any, pair: LoadedPair, rows: int = 2) -> torch.Tensor:
    """For a batch of equal rows, `(rows, seq, vocabulary)`."""
    ids = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    return model(torch.tensor([ids] * rows), use_cache=False).logits


def answers_of(model: Any, pair: LoadedPair, sampling: Sampling = SAMPLING) -> list[Answer]:
    """Of a batch of two equal rows, without anything of `pair.py`."""
    prompt = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    return answer_prompts(model, pair.tokenizer, [prompt, prompt], sampling, stop_ids(pair.tokenizer))


def compare(pair: LoadedPair, sampling: Sampling = SAMPLING) -> Any:
    return compare_prompt(pair, QUESTION, "", sampling)


def test_base_row_is_the_untouched_model_bit_for_bit(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    with scale_rows(pair.model, (0.0, 1.0)):
        assert torch.equal(logits_of(pair.model, pair)[0], logits_of(untouched, pair)[0])


def test_tuned_row_is_the_adapter_alone_bit_for_bit(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    alone = logits_of(pair.model, pair)
    with scale_rows(pair.model, (0.0, 1.0)):
        assert torch.equal(logits_of(pair.model, pair)[1], alone[1])
    assert not torch.equal(alone[1], logits_of(untouched, pair)[1]), "this adapter must have an effect"


def test_base_answer_is_the_untouched_models_token_for_token(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    update = compare(pair)
    assert update.base == answers_of(untouched, pair)[0]
    assert update.base.tokens > 0


def test_tuned_answer_is_the_adapters_token_for_token(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    update = compare(pair)
    assert update.tuned == answers_of(pair.model, pair)[1]
    assert update.tuned != answers_of(untouched, pair)[1]


def test_sides_sampled_with_temperature_are_each_models_own(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    sampling = Sampling(temperature=1.0, seed=3, max_new_tokens=8)
    update = compare(pair, sampling)
    assert update.base == answers_of(untouched, pair, sampling)[0]
    assert update.tuned == answers_of(pair.model, pair, sampling)[1]


def test_comparing_leaves_the_model_as_it_was(kind: tuple[LoadedPair, Any]) -> None:
    pair, _ = kind
    before = logits_of(pair.model, pair)
    compare(pair)
    assert torch.equal(logits_of(pair.model, pair), before)
    assert all(isinstance(layer.scaling["default"], float) for layer in lora_layers(pair.model))


def test_base_answer_alone_and_in_the_pair_is_the_same_text(pair: LoadedPair, base_model: Any) -> None:
    prompt = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    (alone,) = answer_prompts(base_model, pair.tokenizer, [prompt], SAMPLING, stop_ids(pair.tokenizer))
    assert compare(pair).base == alone


def test_scaling_comes_back_after_an_error(pair: LoadedPair) -> None:
    before = [layer.scaling["default"] for layer in lora_layers(pair.model)]
    with pytest.raises(RuntimeError, match="in the middle"), scale_rows(pair.model, (0.0, 1.0)):
        raise RuntimeError("in the middle")
    assert [layer.scaling["default"] for layer in lora_layers(pair.model)] == before


def test_closing_in_the_middle_restores_scaling_and_releases_the_lock(pair: LoadedPair) -> None:
    before = [layer.scaling["default"] for layer in lora_layers(pair.model)]
    updates = stream_pair(pair, prompt_messages(QUESTION), SAMPLING)
    next(updates), next(updates)
    assert pair.lock.locked()
    assert any(isinstance(layer.scaling["default"], torch.Tensor) for layer in lora_layers(pair.model))
    updates.close()
    assert not pair.lock.locked()
    assert [layer.scaling["default"] for layer in lora_layers(pair.model)] == before
    assert compare(pair).evidence.identical is False


def test_lock_is_free_after_a_prompt_that_is_refused(pair: LoadedPair) -> None:
    with pytest.raises(ModelError, match="the model's context is 512"):
        compare_prompt(pair, "x" * 600, "", SAMPLING)
    assert not pair.lock.locked()
    assert all(isinstance(layer.scaling["default"], float) for layer in lora_layers(pair.model))


def test_both_sides_grow_together_and_the_last_update_is_complete(pair: LoadedPair) -> None:
    updates = list(stream_pair(pair, prompt_messages(QUESTION), SAMPLING))
    steps = max(updates[-1].base.tokens, updates[-1].tuned.tokens)
    assert [update.base.tokens for update in updates[:-1]] == [
        min(step, updates[-1].base.tokens) for step in range(1, steps + 1)
    ]
    assert all(update.evidence.identical is None for update in updates[:-1])
    assert updates[-1].evidence.identical is not None


def test_evidence_says_what_was_compared(made_float32: Any, pair: LoadedPair) -> None:
    evidence = compare(pair).evidence
    assert evidence.run == made_float32.run.id
    assert evidence.how == "one batch of one model"
    assert evidence.adapter_active is True
    assert evidence.modules == 14  # 2 layers of 7 linear modules
    assert evidence.prompt_tokens == len(render_prompt(pair.tokenizer, prompt_messages(QUESTION)))
    assert evidence.identical is False


def test_adapter_of_zeros_is_said_to_be_without_effect(make_run: Make) -> None:
    made = make_run(change=lambda model: model, dtype="float32")
    update = compare(load_pair(made.run, made.home))
    assert (update.evidence.adapter_active, update.evidence.modules) == (False, 0)
    assert update.evidence.identical is True
    assert update.base == update.tuned


def test_only_modules_with_an_effect_are_counted(make_run: Make) -> None:
    def touch_one(model: Any) -> Any:
        with torch.no_grad():
            lora_layers(model)[3].lora_B["default"].weight[0, 0] = 1.0
        return model

    made = make_run(change=touch_one, dtype="float32")
    assert active_modules(load_pair(made.run, made.home).model) == 1


def test_adapter_on_the_embedding_is_compared_like_any_other(make_run: Make, base_model: Any) -> None:
    def randomise(model: Any) -> Any:
        random = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=random))
        return model

    made = make_run(change=randomise, dtype="float32", lora_target_modules="embed_tokens,q_proj")
    pair = load_pair(made.run, made.home)
    update = compare(pair)
    assert update.base == answers_of(base_model, pair)[0]
    assert update.tuned == answers_of(pair.model, pair)[1]
    assert update.evidence.modules == 3


def test_system_prompt_stands_before_the_question() -> None:
    assert prompt_messages("Hi", "Be kind.") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    assert prompt_messages("Hi", " ") == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_empty_question_is_refused(prompt: str) -> None:
    with pytest.raises(ModelError, match="The prompt is empty"):
        prompt_messages(prompt)


def test_run_without_an_adapter_is_refused(made_float32: Any, tmp_path: Any) -> None:
    import shutil

    from sft_app.runs import Run

    shutil.copytree(made_float32.run.path, tmp_path / "r1", ignore=shutil.ignore_patterns("adapter"))
    with pytest.raises(RunError, match="Run r1 is queued and has no adapter to compare yet"):
        load_pair(Run(tmp_path / "r1"), made_float32.home)


@pytest.fixture(scope="module")
def dora_pair(made_float32: Any, load_untouched: Make) -> LoadedPair:
    """The float32 base with a DoRA adapter of random weights."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
    torch.manual_seed(5)
    model = get_peft_model(load_untouched(made_float32), config).eval()
    with torch.no_grad():
        for layer in lora_layers(model):
            layer.lora_B["default"].weight.normal_(std=0.5)
            layer.lora_magnitude_vector["default"].weight.mul_(1.3)
    return LoadedPair("dora", model, load_pair(made_float32.run, made_float32.home).tokenizer)


def test_dora_runs_one_after_the_other_and_each_side_is_its_model(dora_pair: LoadedPair, base_model: Any) -> None:
    assert not can_scale_rows(dora_pair.model)
    prompt = render_prompt(dora_pair.tokenizer, prompt_messages(QUESTION))
    stops = stop_ids(dora_pair.tokenizer)
    (base,), (tuned,) = (
        answer_prompts(model, dora_pair.tokenizer, [prompt], SAMPLING, stops) for model in (base_model, dora_pair.model)
    )
    update = compare(dora_pair)
    assert update.evidence.how == "one after the other"
    assert (update.base, update.tuned) == (base, tuned)
    assert base != tuned


def test_closing_in_the_middle_of_the_base_side_enables_the_adapter_again(dora_pair: LoadedPair) -> None:
    before = logits_of(dora_pair.model, dora_pair)
    updates = stream_pair(dora_pair, prompt_messages(QUESTION), SAMPLING)
    next(updates)
    assert not torch.equal(logits_of(dora_pair.model, dora_pair), before)
    updates.close()
    assert torch.equal(logits_of(dora_pair.model, dora_pair), before)
    assert not dora_pair.lock.locked()


def test_merged_adapter_runs_one_after_the_other_with_the_same_answers(pair: LoadedPair) -> None:
    together = compare(pair)
    pair.model.merge_adapter()
    assert not can_scale_rows(pair.model)
    merged = compare(pair)
    assert merged.evidence.how == "one after the other"
    assert (merged.base, merged.tuned) == (together.base, together.tuned)


def test_full_fine_tune_is_compared_with_a_second_model(make_run: Make, base_model: Any) -> None:
    def shift(model: Any) -> Any:
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
        return model

    made = make_run(change=shift, method="full", dtype="float32")
    pair = load_pair(made.run, made.home)
    update = compare(pair)
    assert update.base == answers_of(base_model, pair)[0]
    assert update.tuned == answers_of(pair.tuned_model, pair)[0]
    assert update.base != update.tuned
    assert update.evidence.how == "one after the other"
    assert (update.evidence.adapter_active, update.evidence.modules, update.evidence.identical) == (True, 0, False)
    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(made.run.adapter_dir, dtype=torch.float32)
    assert torch.equal(logits_of(pair.tuned_model, pair), logits_of(saved, pair))

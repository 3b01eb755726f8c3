"""The comparison never lies: each side is, bit for bit, the model that it says it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.data.conversation import prompt_messages
from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.errors import DataError, ModelError, RunError
from sft_app.inference import loaded_models
from sft_app.inference import pair as pair_module
from sft_app.inference.batched_adapters import RowAdapter, adapter_update, apply_row_adapters, lora_layers
from sft_app.inference.chat import Exchange, PairChat
from sft_app.inference.evidence import Agreement, evidence_parts, measure_agreement
from sft_app.inference.generation import Answer, Sampling, answer_batch, answer_prompts
from sft_app.inference.pair import LoadedPair, load_pair
from sft_app.inference.sides import find_sides
from sft_app.inference.stream import compare_prompt, next_token_candidates, stream_pair
from sft_app.models.hardware import detect_hardware
from tests.chat_styles import THINKING
from tests.made_runs import randomise_adapter

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
    """A loaded pair in the run's own precision and, loaded apart from it, its base without any adapter."""
    made = make_run(**KINDS[request.param])
    with computed_in(made.settings.dtype):
        found = pair_of(made), load_untouched(made)
    yield found


@contextmanager
def computed_in(dtype: str) -> Iterator[None]:
    """Comparisons compute in this precision, which a CPU with enough memory would not be asked to."""
    chosen = replace(detect_hardware(), dtype=dtype), ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded_models, "choose_device", lambda *_, **__: chosen)
        yield


@pytest.fixture(scope="module")
def made_float32(make_run: Make) -> Any:
    return make_run(**KINDS["float32 LoRA"])


@pytest.fixture
def pair(made_float32: Any) -> LoadedPair:
    return pair_of(made_float32)


BASE_AND_TUNED = (RowAdapter(), RowAdapter("side1"))


def pair_of(made: Any, left: str = "base", right: str | None = None) -> LoadedPair:
    return load_pair(find_sides(left, right or made.run.id, made.home), made.home)


def model_of(pair: LoadedPair) -> Any:
    """The base with its adapters."""
    return pair.loaded_sides[1].model


@torch.no_grad()
def logits_of(model: Any, pair: LoadedPair, rows: int = 2) -> torch.Tensor:
    """For a batch of equal rows, `(rows, seq, vocabulary)`."""
    ids = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    return model(torch.tensor([ids] * rows), use_cache=False).logits


def answers_of(model: Any, pair: LoadedPair, sampling: Sampling = SAMPLING) -> list[Answer]:
    """Of a batch of two equal rows, without anything of `pair.py`."""
    prompt = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    return answer_prompts(model, pair.tokenizer, [prompt, prompt], sampling, stop_ids(pair.tokenizer))


def stream(pair: LoadedPair) -> Any:
    return stream_pair(pair, prompt_messages(QUESTION), prompt_messages(QUESTION), SAMPLING)


def compare(pair: LoadedPair, sampling: Sampling = SAMPLING) -> Any:
    return compare_prompt(pair, QUESTION, "", sampling)


def test_base_row_is_the_untouched_model_bit_for_bit(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    with apply_row_adapters(model_of(pair), BASE_AND_TUNED):
        assert torch.equal(logits_of(model_of(pair), pair)[0], logits_of(untouched, pair)[0])


def test_tuned_row_is_the_adapter_alone_bit_for_bit(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    alone = logits_of(model_of(pair), pair)
    with apply_row_adapters(model_of(pair), BASE_AND_TUNED):
        assert torch.equal(logits_of(model_of(pair), pair)[1], alone[1])
    assert not torch.equal(alone[1], logits_of(untouched, pair)[1]), "this adapter must have an effect"


@torch.no_grad()
def test_one_more_token_is_that_of_each_side(kind: tuple[LoadedPair, Any]) -> None:
    """What a layer does for a single token of each row is written otherwise."""

    def after(model: Any) -> torch.Tensor:
        read = model(torch.tensor([ids[:-1]] * 2), use_cache=True)
        return model(torch.tensor([ids[-1:]] * 2), past_key_values=read.past_key_values).logits[:, 0]

    pair, untouched = kind
    ids = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    base, tuned = after(untouched), after(model_of(pair))
    with apply_row_adapters(model_of(pair), BASE_AND_TUNED):
        together = after(model_of(pair))
    assert torch.equal(together[0], base[0])
    torch.testing.assert_close(together[1], tuned[1], rtol=2e-2, atol=2e-2)
    assert (tuned[1] - base[1]).abs().max() > 0.1


def test_base_answer_is_the_untouched_models_token_for_token(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    update = compare(pair)
    assert update.left == answers_of(untouched, pair)[0]
    assert update.left.tokens > 0


def test_tuned_answer_is_the_adapters_token_for_token(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    update = compare(pair)
    assert update.right == answers_of(model_of(pair), pair)[1]
    assert update.right != answers_of(untouched, pair)[1]


def test_sides_sampled_with_temperature_are_each_models_own(kind: tuple[LoadedPair, Any]) -> None:
    pair, untouched = kind
    sampling = Sampling(temperature=1.0, seed=3, max_new_tokens=8)
    update = compare(pair, sampling)
    assert update.left == answers_of(untouched, pair, sampling)[0]
    assert update.right == answers_of(model_of(pair), pair, sampling)[1]


def test_comparing_leaves_the_model_as_it_was(kind: tuple[LoadedPair, Any]) -> None:
    pair, _ = kind
    before = logits_of(model_of(pair), pair)
    compare(pair)
    assert torch.equal(logits_of(model_of(pair), pair), before)
    assert all(isinstance(layer.scaling["side1"], float) for layer in lora_layers(model_of(pair)))


def test_base_answer_alone_and_in_the_pair_is_the_same_text(pair: LoadedPair, base_model: Any) -> None:
    prompt = render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    (alone,) = answer_prompts(base_model, pair.tokenizer, [prompt], SAMPLING, stop_ids(pair.tokenizer))
    assert compare(pair).left == alone


def test_scaling_comes_back_after_an_error(pair: LoadedPair) -> None:
    before = [layer.scaling["side1"] for layer in lora_layers(model_of(pair))]
    with pytest.raises(RuntimeError, match="in the middle"), apply_row_adapters(model_of(pair), BASE_AND_TUNED):
        raise RuntimeError("in the middle")
    assert [layer.scaling["side1"] for layer in lora_layers(model_of(pair))] == before


def test_closing_in_the_middle_restores_scaling_and_releases_the_lock(pair: LoadedPair) -> None:
    before = [layer.scaling["side1"] for layer in lora_layers(model_of(pair))]
    updates = stream(pair)
    next(updates), next(updates)
    assert pair.models.lock.locked()
    assert any(isinstance(layer.scaling["side1"], torch.Tensor) for layer in lora_layers(model_of(pair)))
    updates.close()
    assert not pair.models.lock.locked()
    assert [layer.scaling["side1"] for layer in lora_layers(model_of(pair))] == before
    assert compare(pair).evidence.identical is False


def test_lock_is_free_after_a_prompt_that_is_refused(pair: LoadedPair) -> None:
    with pytest.raises(ModelError, match="the model's context is 512"):
        compare_prompt(pair, "x" * 600, "", SAMPLING)
    assert not pair.models.lock.locked()
    assert all(isinstance(layer.scaling["side1"], float) for layer in lora_layers(model_of(pair)))


def test_both_sides_grow_together_and_the_last_update_is_complete(pair: LoadedPair) -> None:
    updates = list(stream(pair))
    steps = max(updates[-1].left.tokens, updates[-1].right.tokens)
    assert [update.left.tokens for update in updates[:-1]] == [
        min(step, updates[-1].left.tokens) for step in range(1, steps + 1)
    ]
    assert all(update.evidence.identical is None for update in updates[:-1])
    assert updates[-1].evidence.identical is not None


def test_evidence_says_what_was_compared(made_float32: Any, pair: LoadedPair) -> None:
    evidence = compare(pair).evidence
    tokens = len(render_prompt(pair.tokenizer, prompt_messages(QUESTION)))
    assert (evidence.left.name, evidence.right.name) == ("base", made_float32.run.id)
    assert evidence.how == "both answered in one batch"
    assert evidence.left.is_base and not evidence.left.has_effect() and evidence.right.has_effect()
    assert evidence.right.modules == 14  # 2 layers of 7 linear modules
    assert evidence.prompt_tokens == (tokens, tokens)
    assert evidence.identical is False and evidence.reasons == ()
    told = evidence_parts(evidence)
    assert told[0] == "both answered in one batch" and told[-1] == "the two answers differ"
    assert any("adapter active in 14 modules, norm " in part for part in told)


def test_norm_is_that_of_the_weights_that_are_added(made_float32: Any, pair: LoadedPair, base_model: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    own = AutoModelForCausalLM.from_pretrained(made_float32.ref.location, dtype=torch.float32)
    merged = PeftModel.from_pretrained(own, str(made_float32.run.adapter_dir)).merge_and_unload()
    before = dict(base_model.named_parameters())
    after = dict(merged.named_parameters())
    squares = sum(float((after[name] - weight).detach().square().sum()) for name, weight in before.items())
    evidence = compare_prompt(pair, QUESTION, "", SAMPLING, strength=0.5).evidence
    assert evidence.right.update_norm == pytest.approx(0.5 * squares**0.5, rel=1e-4)


def test_divergence_is_that_of_two_separate_models(pair: LoadedPair, base_model: Any) -> None:
    divergence = compare(pair).evidence.divergence
    one, other = (logits_of(model, pair, rows=1)[0].log_softmax(-1) for model in (base_model, model_of(pair)))
    assert divergence.positions == len(one)
    assert divergence.kl == pytest.approx(float((one.exp() * (one - other)).sum(-1).mean()), rel=1e-4)
    assert divergence.changed == pytest.approx(float((one.argmax(-1) != other.argmax(-1)).float().mean()))
    assert divergence.kl > 0 and divergence.changed > 0


def test_adapter_of_zeros_is_said_to_be_without_effect(make_run: Make) -> None:
    made = make_run(change=lambda model: model, dtype="float32")
    update = compare(pair_of(made))
    assert not update.evidence.right.has_effect()
    assert update.evidence.identical is True
    assert "saved before it learned anything" in update.evidence.reasons[0]
    assert "the adapter changes nothing" in " ".join(evidence_parts(update.evidence))
    assert update.left == update.right


def test_only_modules_with_an_effect_are_counted(make_run: Make) -> None:
    def touch_one(model: Any) -> Any:
        with torch.no_grad():
            lora_layers(model)[3].lora_B["default"].weight[0, 0] = 1.0
        return model

    made = make_run(change=touch_one, dtype="float32")
    assert adapter_update(model_of(pair_of(made)), "side1")[0] == 1


def test_adapter_on_the_embedding_is_compared_like_any_other(make_run: Make, base_model: Any) -> None:
    def randomise(model: Any) -> Any:
        random = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=random))
        return model

    made = make_run(change=randomise, dtype="float32", lora_target_modules="embed_tokens,q_proj")
    pair = pair_of(made)
    update = compare(pair)
    assert update.left == answers_of(base_model, pair)[0]
    assert update.right == answers_of(model_of(pair), pair)[1]
    assert update.evidence.right.modules == 3


@pytest.mark.parametrize("kind", ["float32 LoRA", "bfloat16 LoRA", "4-bit", "on the embedding"])
def test_an_adapter_that_overflows_changes_nothing_of_the_other_row(
    kind: str, make_run: Make, load_untouched: Make
) -> None:
    """Its weights are numbers, and their product with the text is none: zero times that would be NaN."""
    chosen = KINDS.get(kind, {"dtype": "float32", "lora_target_modules": "embed_tokens,q_proj"})
    made = make_run(change=partial(randomise_all, scale=1e30), **chosen)
    with computed_in(made.settings.dtype):
        pair, untouched = pair_of(made), load_untouched(made)
    with apply_row_adapters(model_of(pair), BASE_AND_TUNED):
        both = logits_of(model_of(pair), pair)
    assert torch.equal(both[0], logits_of(untouched, pair)[0]) and not torch.isfinite(both[1]).any()
    update = compare(pair)
    assert update.left == answers_of(untouched, pair)[0] and update.left.tokens > 0
    assert (update.right.tokens, update.right.broken, update.right.finished) == (0, True, False)
    assert "produced NaN or infinite values" in update.evidence.reasons[0] and update.evidence.divergence is None
    assert not any("the two answers" in part for part in evidence_parts(update.evidence))
    assert all("nan" not in part and "inf" not in part.split() for part in evidence_parts(update.evidence))
    with pytest.raises(ModelError, match="has no next token here"):
        next_token_candidates(pair, [prompt_messages(QUESTION)] * 2, (), 1.0)


def test_a_run_trained_in_bfloat16_is_compared_in_float32_on_a_cpu(make_run: Make, base_model: Any) -> None:
    """In bfloat16 the tokens of two rows are often not those of one."""
    made = make_run(method="lora", dtype="bfloat16")
    made.run.update_status(precision="bfloat16")
    pair = pair_of(made)
    assert {weight.dtype for weight in pair.loaded_sides[0].model.parameters()} == {torch.float32}
    update, prompt = compare(pair), render_prompt(pair.tokenizer, prompt_messages(QUESTION))
    (alone,) = answer_prompts(base_model, pair.tokenizer, [prompt], SAMPLING, stop_ids(pair.tokenizer))
    assert update.left == alone
    assert [found.same for found in update.evidence.agreement] == [update.left.tokens, update.right.tokens]
    assert "each side picks the same tokens on its own" in evidence_parts(update.evidence)


def test_a_4_bit_base_is_not_computed_in_bfloat16_behind_the_back(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a CPU that has a fast path for it, which rounds whatever it is given."""
    from bitsandbytes.nn import modules

    made = make_run(method="qlora")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    layers = [layer for layer in pair_of(made).loaded_sides[0].model.modules() if type(layer) is modules.Linear4bit]
    assert layers and not any(layer.support_avx512bf16_for_cpu for layer in layers)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("shift", [0.0, 0.5, 4.0])
def test_rows_that_are_not_what_a_side_is_alone_are_counted(
    made_float32: Any, temperature: float, shift: float
) -> None:
    """A stand-in for a kernel that computes otherwise for two rows: it adds to the logits of every second token."""
    with computed_in("bfloat16"):
        pair = pair_of(made_float32)

    def shifted(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        if len(logits) == 2:
            logits[..., ::2] += shift
        return logits

    model = model_of(pair)
    hook = model.get_output_embeddings().register_forward_hook(shifted)
    try:
        update = compare(pair, Sampling(temperature=temperature, max_new_tokens=24))
    finally:
        hook.remove()
    told, (left, right) = " · ".join(evidence_parts(update.evidence)), update.evidence.agreement
    assert (left.positions, right.positions) == (update.left.tokens, update.right.tokens)
    if shift == 0:
        assert min(left.same / left.positions, right.same / right.positions) > 0.8
    if shift == 4:
        assert left.same < left.positions and left.first_difference <= 24 and left.is_near_tie is False
        assert f"{left.same} of {left.positions} positions" in told and "more than rounding explains" in told


def test_a_difference_that_rounding_explains_is_a_near_tie() -> None:
    logits = torch.tensor([[9.0, 1.0], [8.0, 7.9375], [8.0, 2.0]], dtype=torch.bfloat16)
    assert measure_agreement(logits, logits, (0, 0, 0)) == Agreement(3, 3)
    found = measure_agreement(logits, logits, (0, 1, 1))
    assert (found.positions, found.same, found.first_difference, found.is_near_tie) == (3, 1, 2, True)
    assert found.chances == pytest.approx((0.516, 0.484), abs=1e-3)
    assert measure_agreement(logits, logits, (0, 0, 1)).is_near_tie is False
    assert measure_agreement(logits.float(), logits.float(), (0, 1, 0)).is_near_tie is False  # float32 rounds less


def test_of_two_adapters_one_that_overflows_leaves_the_other_alone(make_run: Make, tmp_path: Any) -> None:
    whole = make_run(**KINDS["float32 LoRA"], home=tmp_path)
    broken = make_run(change=partial(randomise_all, scale=1e30), **KINDS["float32 LoRA"], home=tmp_path)
    alone = compare(pair_of(whole)).right
    update = compare(pair_of(whole, left=broken.run.id))
    assert update.left.broken and update.right == alone


def randomise_all(model: Any, scale: float) -> Any:
    """Both factors, also those of an embedding."""
    random = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * scale)
    return model


def test_a_broken_adapter_is_refused_wherever_it_lies(make_run: Make, tmp_path: Any) -> None:
    broken = make_run(change=partial(randomise_all, scale=float("nan")), **KINDS["float32 LoRA"], home=tmp_path)
    whole = make_run(**KINDS["float32 LoRA"], home=tmp_path)
    for name in (broken.run.id, str(broken.run.adapter_dir)):
        with pytest.raises(ModelError, match="is broken: .*lora_A.* contains numbers that are not finite"):
            pair_of(whole, left=name)


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
    shutil.copytree(made_float32.run.path, tmp_path / "runs" / "r1", ignore=shutil.ignore_patterns("adapter"))
    with pytest.raises(RunError, match="Run r1 is queued and has no adapter to compare yet"):
        find_sides("base", "r1", tmp_path)


@pytest.fixture(scope="module")
def dora_pair(make_run: Make) -> LoadedPair:
    """The float32 base with a DoRA adapter of random weights."""

    def randomise(model: Any) -> Any:
        torch.manual_seed(5)
        with torch.no_grad():
            for layer in lora_layers(model):
                layer.lora_B["default"].weight.normal_(std=0.5)
                layer.lora_magnitude_vector["default"].weight.mul_(1.3)
        return model

    return pair_of(make_run(change=randomise, dtype="float32", use_dora=True))


def test_dora_runs_one_after_the_other_and_each_side_is_its_model(dora_pair: LoadedPair, base_model: Any) -> None:
    assert not dora_pair.can_share_batch()
    prompt = render_prompt(dora_pair.tokenizer, prompt_messages(QUESTION))
    stops = stop_ids(dora_pair.tokenizer)
    (base,), (tuned,) = (
        answer_prompts(model, dora_pair.tokenizer, [prompt], SAMPLING, stops)
        for model in (base_model, model_of(dora_pair))
    )
    update = compare(dora_pair)
    assert update.evidence.how == "one after the other"
    assert (update.left, update.right) == (base, tuned)
    assert base != tuned


def test_closing_in_the_middle_of_the_base_side_enables_the_adapter_again(dora_pair: LoadedPair) -> None:
    before = logits_of(model_of(dora_pair), dora_pair)
    updates = stream(dora_pair)
    next(updates)
    assert not torch.equal(logits_of(model_of(dora_pair), dora_pair), before)
    updates.close()
    assert torch.equal(logits_of(model_of(dora_pair), dora_pair), before)
    assert not dora_pair.models.lock.locked()


def test_merged_adapter_runs_one_after_the_other_with_the_same_answers(pair: LoadedPair) -> None:
    together = compare(pair)
    model_of(pair).merge_adapter()
    assert not pair.can_share_batch()
    merged = compare(pair)
    assert merged.evidence.how == "one after the other"
    assert (merged.left, merged.right) == (together.left, together.right)


def test_full_fine_tune_is_compared_with_a_second_model(make_run: Make, base_model: Any) -> None:
    def shift(model: Any) -> Any:
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
        return model

    made = make_run(change=shift, method="full", dtype="float32")
    pair = pair_of(made)
    update = compare(pair)
    assert update.left == answers_of(base_model, pair)[0]
    assert update.right == answers_of(model_of(pair), pair)[0]
    assert update.left != update.right
    assert update.evidence.how == "one after the other"
    assert (update.evidence.right.is_full_model, update.evidence.right.modules, update.evidence.identical) == (
        True,
        0,
        False,
    )
    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(made.run.adapter_dir, dtype=torch.float32)
    assert torch.equal(logits_of(model_of(pair), pair), logits_of(saved, pair))


@pytest.fixture(scope="module")
def two_runs(make_run: Make) -> tuple[Any, Any]:
    """Two adapters of one base, of different rank and modules, in one home."""
    one = make_run(change=lambda model: randomise_adapter(model, 1), dtype="float32", name="first")
    other = make_run(
        change=lambda model: randomise_adapter(model, 2),
        dtype="float32",
        name="second",
        lora_r=4,
        lora_target_modules="q_proj,down_proj",
        home=one.home,
    )
    return one, other


def test_two_adapters_answer_as_rows_of_one_batch_each_as_if_alone(two_runs: tuple[Any, Any], base_model: Any) -> None:
    one, other = two_runs
    together = pair_of(one, one.run.id, other.run.id)
    update = compare(together)
    assert update.evidence.how == "both answered in one batch"
    assert update.left == compare(pair_of(one)).right
    assert update.right == compare(pair_of(other)).right
    assert len({update.left, update.right, answers_of(base_model, together)[0]}) == 3
    with apply_row_adapters(model_of(together), (RowAdapter("side1"), RowAdapter("side2"), RowAdapter())):
        rows = logits_of(model_of(together), together, rows=3)
    for row, alone in zip(rows[:2], (pair_of(one), pair_of(other)), strict=True):
        assert torch.equal(row, logits_of(model_of(alone), alone, rows=3)[0])
    assert torch.equal(rows[2], logits_of(base_model, together, rows=3)[0])


def test_rows_in_any_order_and_at_any_strength_answer_as_if_alone(two_runs: tuple[Any, Any]) -> None:
    one, other = two_runs
    pair = pair_of(one, one.run.id, other.run.id)
    prompt, stops = render_prompt(pair.tokenizer, prompt_messages(QUESTION)), stop_ids(pair.tokenizer)
    prompts = [prompt, prompt[3:], prompt, prompt[1:]]
    rows = (RowAdapter("side1"), RowAdapter(), RowAdapter("side2", 0.5), RowAdapter("side1", 0.0))

    def answers(of: Any, to: Any) -> list[Answer]:
        with apply_row_adapters(model_of(pair), of):
            return answer_batch(model_of(pair), pair.tokenizer, to, SAMPLING, stops)

    together = answers(rows, prompts)
    assert together == [answers([row], [prompt])[0] for row, prompt in zip(rows, prompts, strict=True)]
    assert together[3] == answers([RowAdapter()], [prompts[3]])[0]
    assert len({answer.ids for answer in together}) > 2


def test_changing_a_side_keeps_the_base_in_memory(two_runs: tuple[Any, Any]) -> None:
    one, other = two_runs
    first = pair_of(one)
    second = load_pair(find_sides("base", other.run.id, one.home), one.home, first.models)
    assert second.models is first.models and second.loaded_sides[0].model is first.models.model
    assert compare(second).right == compare(pair_of(other)).right
    again = load_pair(find_sides(other.run.id, one.run.id, one.home), one.home, first.models)
    update = compare(again)
    assert (update.left, update.right) == (compare(second).right, compare(first).right)


def test_adapters_that_are_no_longer_looked_at_make_room(two_runs: tuple[Any, Any], tmp_path: Any) -> None:
    one, _ = two_runs
    models = pair_of(one).models
    for number in range(6):
        shutil.copytree(one.run.adapter_dir, tmp_path / f"copy{number}")
        pair = load_pair(find_sides(one.run.id, str(tmp_path / f"copy{number}"), one.home), one.home, models)
        assert compare(pair).evidence.identical is True
    assert len(models.model.peft_config) == 4


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_at_strength_0_both_sides_are_the_base(pair: LoadedPair, temperature: float) -> None:
    sampling = Sampling(temperature, seed=5, max_new_tokens=10)
    update = compare_prompt(pair, QUESTION, "", sampling, strength=0.0)
    assert update.evidence.identical is True and "strength 0" in update.evidence.reasons[0]
    assert update.right == compare_prompt(pair, QUESTION, "", sampling).left


def test_strength_multiplies_what_the_adapter_adds(made_float32: Any, pair: LoadedPair, load_untouched: Make) -> None:
    scaled = pair_of(made_float32)
    for layer in lora_layers(model_of(scaled)):
        layer.scaling["side1"] *= 0.5
    assert compare_prompt(pair, QUESTION, "", SAMPLING, strength=0.5).right == compare(scaled).right


def test_strength_of_an_adapter_that_is_no_sum_is_refused(dora_pair: LoadedPair) -> None:
    with pytest.raises(ModelError, match="only be changed for plain LoRA adapters"):
        compare_prompt(dora_pair, QUESTION, "", SAMPLING, strength=0.5)
    assert not dora_pair.models.lock.locked()


def test_a_seed_gives_the_same_pair_again_also_in_a_fresh_model(made_float32: Any, pair: LoadedPair) -> None:
    sampling = Sampling(temperature=1.2, seed=11, max_new_tokens=10)
    first, again, fresh = (compare(which, sampling) for which in (pair, pair, pair_of(made_float32)))
    assert first == again == fresh
    other = compare(pair, Sampling(temperature=1.2, seed=12, max_new_tokens=10))
    assert (other.left, other.right) != (first.left, first.right)


def test_histories_of_different_length_are_answered_as_if_alone(pair: LoadedPair, base_model: Any) -> None:
    chat = PairChat()
    chat.begin("Hello", "Be kind.")
    chat.exchanges = [Exchange("Hello", "Hi", "Hello there, how can I help you today?")]
    chat.question = QUESTION
    left, right = chat.messages()
    *_, update = stream_pair(pair, left, right, SAMPLING)
    stops = stop_ids(pair.tokenizer)
    for messages, model, answer in ((left, base_model, update.left), (right, model_of(pair), update.right)):
        prompt = render_prompt(pair.tokenizer, messages)
        assert answer_prompts(model, pair.tokenizer, [prompt], SAMPLING, stops) == [answer]
    assert update.evidence.prompt_tokens[0] < update.evidence.prompt_tokens[1]
    assert update.evidence.divergence is None


def test_candidates_are_those_of_each_side(pair: LoadedPair, base_model: Any) -> None:
    asked = [prompt_messages(QUESTION)] * 2
    written = compare(pair).left.ids[:3]
    found = next_token_candidates(pair, asked, written, strength=1.0)
    ids = torch.tensor([[*render_prompt(pair.tokenizer, asked[0]), *written]])
    for side, model in (("left", base_model), ("right", model_of(pair))):
        with torch.no_grad():
            likely = model(ids).logits[0, -1].softmax(-1).max()
        assert max(getattr(candidate, side) for candidate in found) == pytest.approx(float(likely), rel=1e-4)
    assert found == sorted(found, key=lambda candidate: -max(candidate.left, candidate.right))


def test_raw_texts_hold_the_prompt_with_its_special_tokens(pair: LoadedPair) -> None:
    update = compare(pair)
    assert all(text.startswith("<|im_start|>user\n" + QUESTION) for text in update.raw)


def test_rows_that_change_each_other_are_answered_in_turn_and_that_is_said(
    made_float32: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a model that normalises over its batch: what a side answers would depend on the other side."""
    monkeypatch.setattr(pair_module, "_are_rows", lambda sides: mix_rows(sides) or True)
    pair = pair_of(made_float32)
    assert not pair.can_share_batch()
    update = compare_prompt(pair, QUESTION, "", SAMPLING)
    assert update.evidence.how == "one after the other"
    assert "answers change when they share a batch" in update.evidence.note


def mix_rows(sides: tuple[Any, Any]) -> None:
    norm = sides[0].model.get_base_model().model.norm
    if not norm._forward_hooks:
        norm.register_forward_hook(lambda module, inputs, output: output - 0.1 * output.mean(dim=0, keepdim=True))


def test_a_model_without_a_chat_template_can_be_loaded(made_float32: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was trained on plain text, whose held-out texts are scored."""

    def refuse(*_: Any) -> None:
        raise DataError("The model has no chat template.")

    monkeypatch.setattr(pair_module, "render_prompt", refuse)
    assert pair_of(made_float32).can_share_batch()


# chat templates


PASTED = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"


def adapter_folder(made: Any, folder: Path, **files: str) -> Path:
    """The adapter as one from elsewhere, with nothing else but these files."""
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(made.run.adapter_dir / name, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = made.ref.location
    (folder / "adapter_config.json").write_text(json.dumps(config))
    for name, text in files.items():
        (folder / f"{name}.jinja").write_text(text)
    return folder


def test_both_sides_are_asked_with_the_template_of_the_run(make_run: Make, base_model_dir: Path) -> None:
    made = make_run(model=str(base_model_dir), chat_template="chatml")
    pair = pair_of(made)
    update = compare_prompt(pair, "Hi", "", SAMPLING)
    assert update.raw[0].startswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert update.raw[1].startswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert "template" not in update.evidence.note
    assert {pair.tokenizer.convert_tokens_to_ids(end) for end in ("<|im_end|>", "<|pad|>")} <= stop_ids(pair.tokenizer)


def test_a_template_that_differs_from_the_base_models_is_noted(make_run: Make) -> None:
    made = make_run(chat_template=PASTED, name="Mine")
    update = compare_prompt(pair_of(made), "Hi", "", SAMPLING)
    assert update.raw[0].startswith("<|im_start|>Hi<|im_end|>")
    assert update.evidence.note == "Both sides use the chat template of Mine, which differs from the base model's."


@pytest.mark.parametrize("template", ["as written", "with the variable of older exports"])
def test_a_chatml_adapter_from_elsewhere_is_asked_and_stopped_as_it_was_trained(
    make_run: Make, base_model_dir: Path, tmp_path: Path, template: str
) -> None:
    """The base model's EOS is another one."""
    made = make_run(model=str(base_model_dir), chat_template="chatml")
    folder = adapter_folder(made, tmp_path / "other")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        shutil.copy(made.run.adapter_dir / name, folder)
    if template != "as written":
        text = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").write_text(text.replace('"<|im_end|>"', "eos_token"))
    expected = pair_of(made)
    for left, right in (("base", str(folder)), (str(folder), "base")):
        pair = pair_of(made, left=left, right=right)
        assert render_prompt(pair.tokenizer, prompt_messages("Hi")) == render_prompt(
            expected.tokenizer, prompt_messages("Hi")
        )
        assert pair.tokenizer.convert_tokens_to_ids("<|im_end|>") in stop_ids(pair.tokenizer)


def test_an_adapter_from_elsewhere_brings_its_template(made_float32: Any, tmp_path: Path) -> None:
    folder = adapter_folder(made_float32, tmp_path / "other", chat_template=PASTED)
    pair = pair_of(made_float32, right=str(folder))
    assert pair.tokenizer.chat_template == PASTED
    assert pair.template_note == "Both sides use the chat template of other, which differs from the base model's."
    assert pair_of(made_float32, left=str(folder), right="base").tokenizer.chat_template == PASTED


def test_the_right_sides_template_is_used_for_two_adapters(made_float32: Any, tmp_path: Path) -> None:
    folder = adapter_folder(made_float32, tmp_path / "other", chat_template=PASTED)
    pair = pair_of(made_float32, left=str(folder))
    assert pair.tokenizer.chat_template == pair.models.tokenizer.chat_template
    label = pair.sides[1].label
    assert pair.template_note == f"other has another chat template; both sides use that of {label}."


def test_the_same_template_needs_no_note(made_float32: Any, tmp_path: Path) -> None:
    own = pair_of(made_float32).tokenizer.chat_template
    folder = adapter_folder(made_float32, tmp_path / "other", chat_template=own)
    assert pair_of(made_float32, right=str(folder)).template_note == ""


def test_a_template_from_elsewhere_that_cannot_be_rendered_is_not_used(made_float32: Any, tmp_path: Path) -> None:
    folder = adapter_folder(made_float32, tmp_path / "other", chat_template="{% for %}")
    pair = pair_of(made_float32, right=str(folder))
    assert pair.tokenizer is pair.models.tokenizer
    assert pair.template_note.startswith("The chat template of other cannot be used: The chat template is not valid")
    assert pair.template_note.endswith(" Both sides use the base model's.")


@pytest.mark.parametrize(
    ("trained", "asked", "thinks"), [(True, None, True), (False, None, False), (True, False, False)]
)
def test_both_sides_think_first_as_trained_or_as_asked(
    make_run: Make, trained: bool, asked: bool | None, thinks: bool
) -> None:
    made = make_run(chat_template=THINKING, enable_thinking=trained)
    pair = load_pair(find_sides("base", made.run.id, made.home, asked), made.home)
    prompts = [raw.split("assistant\n")[1] for raw in compare_prompt(pair, "Hi", "", SAMPLING).raw]
    assert [prompt.startswith("<think>\n\n</think>\n\n") for prompt in prompts] == [not thinks] * 2


def test_a_model_that_cannot_think_says_so(made_float32: Any) -> None:
    pair = load_pair(find_sides("base", made_float32.run.id, made_float32.home, True), made_float32.home)
    assert "cannot turn thinking on or off" in compare_prompt(pair, "Hi", "", SAMPLING).evidence.note

"""Generation: what is chosen, what is padded, where it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from sft_app.inference.generation import Answer, Sampling, answer_prompts, collect_answers, generate_tokens
from tests.families.table import tiny_model

PAD, END = 0, 2
TEXTS = ("Where is my order?", "Hi", "Do you ship to Spain? I need it by Friday.")
Ids = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    """The tiny model with larger logits: as it is, its next token hardly depends on the prompt."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


def rows_of(model: Any, prompts: list[list[int]], sampling: Sampling, stops: tuple[int, ...] = ()) -> list[list[Any]]:
    """What each row got, None included, `(batch, steps)`."""
    return [list(row) for row in zip(*generate_tokens(model, prompts, sampling, stops, PAD), strict=True)]


@pytest.mark.parametrize("text", TEXTS)
def test_greedy_is_what_transformers_generates(model: Any, prompt_ids: Ids, text: str) -> None:
    prompt = prompt_ids(text)
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=-1, pad_token_id=PAD
    )
    assert rows_of(model, [prompt], Sampling(max_new_tokens=24)) == [expected[0, len(prompt) :].tolist()]


def test_padded_row_gets_what_it_gets_alone(model: Any, prompt_ids: Ids) -> None:
    prompts, sampling = [prompt_ids(text) for text in TEXTS], Sampling(max_new_tokens=16)
    alone = [rows_of(model, [prompt], sampling)[0] for prompt in prompts]
    assert rows_of(model, prompts, sampling) == alone
    assert len(set(map(tuple, alone))) > 1, "the prompts must not all have the same answer"


def test_padded_row_of_a_model_with_absolute_positions_gets_what_it_gets_alone(prompt_ids: Ids) -> None:
    """Rotary positions forgive an offset, learned ones do not."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=102, n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=0.3)
    gpt2, sampling = GPT2LMHeadModel(config).eval(), Sampling(max_new_tokens=8)
    prompts = [prompt_ids(text) for text in TEXTS]
    alone = [rows_of(gpt2, [prompt], sampling)[0] for prompt in prompts]
    assert rows_of(gpt2, prompts, sampling) == alone
    expected = gpt2.generate(torch.tensor(prompts[:1]), max_new_tokens=8, do_sample=False, eos_token_id=-1)
    assert alone[0] == expected[0, len(prompts[0]) :].tolist()


@pytest.mark.parametrize(
    "name",
    ["phi3_long", "recurrent_gemma", "rwkv", "xlstm", "mamba2", "minimax", "jamba", "gpt_oss", "bloom", "gemma3_text"],
)
def test_each_answer_of_many_is_what_the_model_alone_gives(name: str, tokenizer: Any) -> None:
    """Models with a state instead of a cache among them, and such as look at the length of the whole batch."""
    model, generator = tiny_model(name), torch.Generator().manual_seed(1)
    prompts = [torch.randint(5, 98, (length,), generator=generator).tolist() for length in (7, 30, 22)]
    found = answer_prompts(model, tokenizer, prompts, Sampling(max_new_tokens=6), frozenset())
    assert [list(answer.ids) for answer in found] == [read_anew(model, prompt, 6) for prompt in prompts]


def test_an_answer_that_grows_past_a_change_of_the_rotary_embedding_is_read_anew() -> None:
    """LongRoPE encodes all positions in another way beyond 24 tokens; those in the cache would keep the old one."""
    model, prompt = tiny_model("phi3_long"), list(range(5, 26))
    [answer] = rows_of(model, [prompt], Sampling(max_new_tokens=8))
    assert answer == read_anew(model, prompt, 8)


@torch.no_grad()
def read_anew(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """The likeliest tokens, each from the whole text before it."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_padded_row_samples_what_it_samples_alone(model: Any, prompt_ids: Ids) -> None:
    prompts, sampling = [prompt_ids(text) for text in TEXTS], Sampling(temperature=1.0, max_new_tokens=16)
    assert rows_of(model, prompts, sampling) == [rows_of(model, [prompt], sampling)[0] for prompt in prompts]


def test_generation_stops_at_a_stop_id_and_yields_it(model: Any, prompt_ids: Ids) -> None:
    prompt, sampling = prompt_ids(TEXTS[0]), Sampling(temperature=1.0, max_new_tokens=24)
    (free,) = rows_of(model, [prompt], sampling)
    stop = free[9]
    assert rows_of(model, [prompt], sampling, stops=(stop,)) == [free[: free.index(stop) + 1]]


def test_row_that_has_ended_yields_none_while_the_other_goes_on(model: Any, prompt_ids: Ids) -> None:
    prompts, sampling = [prompt_ids(text) for text in TEXTS[:2]], Sampling(temperature=1.0, max_new_tokens=24)
    first, second = rows_of(model, prompts, sampling)
    step = next(i for i, id in enumerate(first) if id not in first[:i] + second[: i + 1])
    ended, other = rows_of(model, prompts, sampling, stops=(first[step],))
    assert ended == first[: step + 1] + [None] * (len(ended) - step - 1)
    assert len(ended) > step + 1
    assert other == second[: len(other)]


def test_generation_without_stop_ends_at_max_new_tokens(model: Any, prompt_ids: Ids) -> None:
    assert len(rows_of(model, [prompt_ids("Hi")], Sampling(max_new_tokens=5))[0]) == 5


def test_equal_rows_sample_equal_tokens(model: Any, prompt_ids: Ids) -> None:
    prompt = prompt_ids(TEXTS[0])
    rows = rows_of(model, [prompt] * 3, Sampling(temperature=1.0, max_new_tokens=24))
    assert rows[0] == rows[1] == rows[2]


def test_same_seed_repeats_and_another_differs(model: Any, prompt_ids: Ids) -> None:
    prompt = prompt_ids(TEXTS[0])
    first, again, other = (
        rows_of(model, [prompt], Sampling(temperature=1.0, seed=seed, max_new_tokens=24)) for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_global_random_state_has_no_say(model: Any, prompt_ids: Ids) -> None:
    prompt, sampling = prompt_ids("Hi"), Sampling(temperature=1.0, max_new_tokens=8)
    torch.manual_seed(1)
    first = rows_of(model, [prompt], sampling)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert rows_of(model, [prompt], sampling) == first
    assert torch.equal(before, torch.random.get_rng_state())


def test_sampled_tokens_follow_the_softmax() -> None:
    class ConstantModel:
        """Gives these logits at every step."""

        config, device = LlamaConfig(max_position_embeddings=10_000), "cpu"

        def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return SimpleNamespace(logits=logits.expand(len(input_ids), 1, -1), past_key_values=None)

    logits, temperature, steps = torch.tensor([2.0, 1.0, 0.0, -1.0, -5.0]), 0.7, 5000
    (row,) = rows_of(ConstantModel(), [[1]], Sampling(temperature=temperature, max_new_tokens=steps))
    drawn = torch.bincount(torch.tensor(row), minlength=5) / steps
    assert torch.allclose(drawn, (logits / temperature).softmax(-1), atol=0.025)


def test_generation_config_of_the_model_has_no_say(model: Any, prompt_ids: Ids) -> None:
    prompt, sampling = prompt_ids(TEXTS[0]), Sampling(max_new_tokens=12)
    expected, kept = rows_of(model, [prompt], sampling), model.generation_config
    try:
        model.generation_config = type(kept)(repetition_penalty=5.0, do_sample=True, eos_token_id=expected[0][0])
        assert rows_of(model, [prompt], sampling) == expected
    finally:
        model.generation_config = kept


def test_answer_ends_where_the_context_is_full(model: Any) -> None:
    context = model.config.max_position_embeddings
    assert len(rows_of(model, [[5] * (context - 3)], Sampling(max_new_tokens=50))[0]) == 3


@pytest.mark.parametrize("beyond", [0, 88])
def test_prompt_that_fills_the_context_is_refused_with_both_numbers(model: Any, beyond: int) -> None:
    from sft_app.errors import ModelError

    with pytest.raises(ModelError, match=rf"prompt has {512 + beyond} tokens, but the model's context is 512. Shorten"):
        rows_of(model, [[5] * (512 + beyond)], Sampling())


@pytest.mark.parametrize("prompts", [[[]], [[5, 6], []]])
def test_empty_prompt_is_refused(model: Any, prompts: list[list[int]]) -> None:
    from sft_app.errors import ModelError

    with pytest.raises(ModelError, match="The prompt is empty"):
        rows_of(model, prompts, Sampling())


def test_closing_the_generator_stops_the_work(model: Any, prompt_ids: Ids) -> None:
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    try:
        steps = generate_tokens(model, [prompt_ids("Hi")], Sampling(max_new_tokens=50), (), PAD)
        next(steps), next(steps)
        steps.close()
        assert list(steps) == []
        assert len(calls) == 2
    finally:
        handle.remove()


def test_answers_grow_by_the_steps_and_know_their_end(tokenizer: Any) -> None:
    h, i = tokenizer.convert_tokens_to_ids(["H", "i"])
    steps = [(h, h), (i, END), (END, None)]
    assert list(collect_answers(tokenizer, steps, [END])) == [
        [Answer("H", 1, False, (h,)), Answer("H", 1, False, (h,))],
        [Answer("Hi", 2, False, (h, i)), Answer("H", 2, True, (h, END))],
        [Answer("Hi", 3, True, (h, i, END)), Answer("H", 2, True, (h, END))],
    ]


def test_answer_cut_by_max_new_tokens_is_not_finished(model: Any, tokenizer: Any, prompt_ids: Ids) -> None:
    (answer,) = answer_prompts(model, tokenizer, [prompt_ids("Hi")], Sampling(max_new_tokens=4), frozenset())
    assert (answer.tokens, answer.finished) == (4, False)
    assert len(answer.text) <= 4


def test_character_that_is_not_complete_is_held_back() -> None:
    class HalfACharacter:
        """A byte tokenizer, as far as the answers need one."""

        def decode(self, ids: list[int], **_: Any) -> str:
            return bytes(ids).decode("utf-8", errors="replace")

    steps = [(byte,) for byte in "a£b".encode()]
    texts = [answers[0].text for answers in collect_answers(HalfACharacter(), steps, [])]
    assert texts == ["a", "a", "a£", "a£b"]

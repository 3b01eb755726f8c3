"""Before it trains, the packed trainer finds out which shortcuts are right for the model, and takes no other."""

from __future__ import annotations

import importlib.machinery
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers.models.llama import modeling_llama

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import RenderedConversation, render_conversation, training_rows
from sft_app.evaluation.scorecard import score_conversations
from sft_app.models.hardware import Hardware
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings
from sft_app.training.fast_paths import attention
from sft_app.training.fast_paths import liger as liger_module
from sft_app.training.fast_paths.cpu_fused import LoraLinearFunction
from sft_app.training.fast_paths.gradient_check import without_randomness
from sft_app.training.fast_paths.loss_head import SummedCrossEntropy
from sft_app.training.fast_paths.packed_scores import hardest_row
from sft_app.training.trainers import arguments, sft
from sft_app.training.trainers.arguments import TrainingJob, step_dtype
from sft_app.training.trainers.build import build_trainer
from tests.families.table import tiny_model
from tests.training.trainers.test_sft import StepRecorder

# One of each kind; `make models` tries them all.
PACKED_FAMILIES = ("llama", "gemma3_text", "gemma3n_text", "granite", "gpt2", "nemotron", "gpt_oss", "bloom", "mamba2")
PADDED = ("gpt_oss", "bloom", "mamba2")
WITHOUT_SEPARATE = ("nemotron",)
ANSWERS = ("Soon!", "It is on its way.", "No", "Yes, on Monday.")
SMALL = {"max_steps": 1, "max_length": 128, "lora_r": 4, "warmup_ratio": 0, "max_grad_norm": 100.0}
PACKED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
ONE_BY_ONE = {"packing": False, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}


@pytest.fixture(scope="module")
def conversations(tokenizer: Any) -> list[RenderedConversation]:
    def conversation(i: int) -> Any:
        question, answer = f"Is it {'very ' * (i % 3)}late {i}?", ANSWERS[i % len(ANSWERS)]
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return render_conversation(tokenizer, make_conversation(turns), 128)

    return [conversation(i) for i in range(4)]


@pytest.fixture
def train(tokenizer: Any, conversations: Any, tmp_path: Path) -> Callable[..., tuple[Any, StepRecorder]]:
    """One step on the four conversations with an adapter that has an effect: the trainer and what the step was."""

    def train(model: Any, **settings: Any) -> tuple[Any, StepRecorder]:
        chosen = parse_settings({**SMALL, "dtype": "float32", **settings})
        if chosen.method != "full":
            torch.manual_seed(1)
            model = attach_lora(model, chosen)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.1)
        recorder, rows = StepRecorder(), Dataset.from_list(training_rows(conversations))
        job = TrainingJob(model, tokenizer, rows, conversations[:1], chosen, tmp_path / "out", [recorder])
        trainer = build_trainer(job)
        trainer.args.eval_on_start = False
        trainer.train()
        return trainer, recorder

    return train


def assert_same(one: StepRecorder, other: StepRecorder, rel: float = 1e-3) -> None:
    assert one.losses == pytest.approx(other.losses, rel=rel)
    assert one.gradients.keys() == other.gradients.keys()
    apart = sum(float((one.gradients[name] - other.gradients[name]).square().sum()) for name in one.gradients) ** 0.5
    assert apart <= rel * sum(float(gradient.square().sum()) for gradient in other.gradients.values()) ** 0.5


@pytest.mark.parametrize("trainer", ["sft", "classic"])
@pytest.mark.parametrize("name", ["phi3_long", "recurrent_gemma", "llama", "minimax"])
def test_a_padded_step_is_that_of_the_conversations_one_by_one(train: Any, name: str, trainer: str) -> None:
    """Rotary embeddings that follow the longest row, a state that reads the padding, a loss without the soft cap."""
    padded = {**PACKED, "packing": False, "trainer": trainer}
    found, together = train(tiny_model(name), **padded)
    _, alone = train(tiny_model(name), **ONE_BY_ONE, trainer=trainer)
    assert_same(together, alone)
    plain = found.batch_method == "the library's"
    assert plain == (found.notice == "") and (plain or name != "llama")
    if name == "phi3_long":
        assert found.batch_method == "one by one" and "one by one in this run" in found.notice


@pytest.mark.parametrize("name", PACKED_FAMILIES)
def test_a_packed_step_is_that_of_the_conversations_one_by_one(train: Any, name: str) -> None:
    """By whatever way the trainer has found to be right; and it says when it is a plainer one."""
    trainer, packed = train(tiny_model(name), **PACKED)
    _, alone = train(tiny_model(name), **ONE_BY_ONE)
    assert_same(packed, alone)
    assert ("padded" in trainer.notice) == (trainer.plan.layout == "padded") == (name in PADDED)
    assert ("separate attention per conversation" in trainer.notice) == (name in WITHOUT_SEPARATE)
    assert bool(trainer.notice) == (trainer.plan != trainer.possible)


def test_a_plain_model_takes_every_shortcut(train: Any) -> None:
    trainer, _ = train(tiny_model("llama"), **PACKED)
    plan = trainer.plan
    assert plan.separates_attention and plan.shares_prefix and plan.fuses_modules and plan.chunks_loss
    assert trainer.notice == ""


def wrong_gradient(function: Any) -> Callable[[pytest.MonkeyPatch], None]:
    own = function.backward

    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return tuple(None if part is None else part * 1.2 for part in own(ctx, gradient))

    return lambda patch: patch.setattr(function, "backward", staticmethod(backward))


def wrong_beginning(patch: pytest.MonkeyPatch) -> None:
    """As in a model whose layers do not pass on that a row has one."""

    def share(inputs: Any, labels: Any) -> Any:
        shorter, fewer = sft_share(inputs, labels)
        return {name: value for name, value in shorter.items() if name != "prefix_length"}, fewer

    sft_share = sft.share_prefix
    patch.setattr(sft, "share_prefix", share)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (wrong_gradient(SummedCrossEntropy), "the chunked loss"),
        (wrong_gradient(LoraLinearFunction), "fused functions"),
        (wrong_beginning, "the shared prefix"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_shortcut_that_is_wrong_is_left_out_and_told(
    train: Any, monkeypatch: pytest.MonkeyPatch, spoil: Any, told: str, dtype: str
) -> None:
    if dtype == "bfloat16" and told == "fused functions":
        pytest.skip("they are for float32 only")
    make = {"float32": lambda: tiny_model("llama"), "bfloat16": lambda: tiny_model("llama").bfloat16()}[dtype]
    spoil(monkeypatch)
    trainer, packed = train(make(), dtype=dtype, **PACKED)
    _, alone = train(make(), dtype=dtype, **ONE_BY_ONE)
    assert trainer.notice.startswith(f"This run trains without {told}, which takes longer")
    assert_same(packed, alone, rel=1e-3 if dtype == "float32" else 3e-2)


def test_a_leak_between_conversations_shows_in_bfloat16_too(train: Any) -> None:
    trainer, _ = train(tiny_model("bloom").bfloat16(), dtype="bfloat16", **PACKED)
    assert trainer.plan.layout == "padded"


def test_the_check_leaves_no_trace() -> None:
    model = attach_lora(tiny_model("llama"), parse_settings({"lora_r": 4, "lora_dropout": 0.3}))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), without_randomness(model):
        assert any(bool(weight.any()) for name, weight in model.named_parameters() if "lora_B" in name)
        assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
        torch.rand(1)
        raise ZeroDivisionError
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(module.p == 0.3 for module in model.modules() if isinstance(module, torch.nn.Dropout))
    assert torch.equal(random, torch.get_rng_state())


def test_the_runs_status_says_that_it_is_padded(
    make_run: Callable[..., Any], work: Callable[..., int], tokenizer: Any, tmp_path: Path
) -> None:
    tiny_model("gpt_oss").save_pretrained(tmp_path / "gpt_oss")
    tokenizer.save_pretrained(tmp_path / "gpt_oss")
    run = make_run(model=tmp_path / "gpt_oss", watch_prompts=(), scorecard_prompts=0)
    work(run)
    assert run.status().state == "finished", run.status()
    assert "Conversations are padded in this run" in run.status().hint


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
def test_a_gpus_loss_is_that_of_the_librarys_fused_head(train: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """TRL's own, which knows models that cap or scale their logits; a CPU runs it over all positions."""
    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")
    trainer, packed = train(tiny_model(name), **PACKED)
    assert trainer.plan.chunks_loss and trainer.head is None and trainer.notice == ""
    monkeypatch.undo()
    _, alone = train(tiny_model(name), **ONE_BY_ONE)
    assert_same(packed, alone)


def test_a_fused_head_that_is_wrong_is_left_out_and_told(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.kernels import ChunkedLogProbFunction

    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")
    wrong_gradient(ChunkedLogProbFunction)(monkeypatch)
    trainer, packed = train(tiny_model("llama"), **PACKED)
    assert trainer.notice.startswith("This run trains without the chunked loss, which takes longer")
    monkeypatch.undo()
    _, alone = train(tiny_model("llama"), **ONE_BY_ONE)
    assert_same(packed, alone)


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[str]]:
    """Stands in for the package, which needs a GPU: it replaces what Liger does, where Liger does it.

    Source: liger-kernel 0.8.5, `transformers/monkey_patch.py`: methods of the model's modules, and names in
    transformers' file for the family. The norms are computed `times` what they should be.
    """
    calls: list[str] = []

    def install(times: float) -> list[str]:
        def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
            calls.append("norm")
            rounded = hidden.float() * torch.rsqrt(
                hidden.float().square().mean(-1, keepdim=True) + self.variance_epsilon
            )
            return times * self.weight * rounded.to(hidden.dtype)

        def rotate(query: Any, key: Any, cos: Any, sin: Any, **kwargs: Any) -> Any:
            calls.append("rotary")
            return plain_rotate(query, key, cos, sin, **kwargs)

        def apply(model: Any, **kernels: bool) -> None:
            assert not kernels["fused_linear_cross_entropy"] and not kernels["cross_entropy"]
            modeling_llama.apply_rotary_pos_emb = rotate
            modeling_llama.LlamaRMSNorm = type("LigerRMSNorm", (), {})
            for module in model.modules():
                if type(module).__name__ == "LlamaRMSNorm":
                    module.forward = types.MethodType(forward, module)
                    module.in_place = True

        package = types.ModuleType("liger_kernel.transformers")
        package._apply_liger_kernel_to_instance = apply  # type: ignore[attr-defined]
        parent = types.ModuleType("liger_kernel")
        parent.__spec__ = importlib.machinery.ModuleSpec("liger_kernel", None)
        monkeypatch.setitem(sys.modules, "liger_kernel", parent)
        monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
        monkeypatch.setattr(liger_module, "LIGER_DEVICE", "cpu")
        return calls

    plain_rotate = modeling_llama.apply_rotary_pos_emb
    return install


@pytest.mark.parametrize("times", [1.0, 1.5])
def test_ligers_kernels_are_checked_and_gone_after_training(train: Any, liger: Any, times: float) -> None:
    plain = vars(modeling_llama).copy()
    _, alone = train(tiny_model("llama"), **ONE_BY_ONE)
    calls, model = liger(times), tiny_model("llama")
    trainer, packed = train(model, **PACKED)
    assert {"norm", "rotary"} <= set(calls)
    assert trainer.possible.uses_liger and trainer.plan.uses_liger == (times == 1.0)
    assert ("without Liger's kernels" in trainer.notice) == (times != 1.0)
    assert_same(packed, alone)
    assert vars(modeling_llama) == plain
    assert not any("in_place" in vars(module) for module in model.modules())
    calls.clear()
    model(input_ids=torch.arange(4)[None])
    assert calls == []


def test_ligers_package_that_fails_is_left_out(train: Any, liger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = vars(modeling_llama).copy()
    liger(1.0)
    package = sys.modules["liger_kernel.transformers"]
    works = package._apply_liger_kernel_to_instance

    def fail(**kwargs: Any) -> None:
        works(**kwargs)
        raise AttributeError("module 'triton.language' has no attribute 'x'")

    monkeypatch.setattr(package, "_apply_liger_kernel_to_instance", fail)
    trainer, _ = train(tiny_model("llama"), **PACKED)
    assert not trainer.possible.uses_liger and trainer.notice == ""
    assert vars(modeling_llama) == plain


@pytest.mark.parametrize("name", ["llama", "qwen3", "granite"])
@pytest.mark.parametrize("most_tokens", [60, 8192])
def test_a_gpu_scores_the_held_out_rows_packed_as_one_by_one(
    train: Any, conversations: Any, monkeypatch: pytest.MonkeyPatch, name: str, most_tokens: int
) -> None:
    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")
    monkeypatch.setattr(sft, "HELDOUT_TOKENS", most_tokens)
    trainer, _ = train(tiny_model(name), **PACKED)
    trainer.heldout = conversations
    packed, plain = trainer.score_rows(trainer.heldout), score_conversations(trainer.model, conversations)
    assert trainer.packs_heldout is True
    assert [(score.tokens, score.correct) for score in packed] == [(score.tokens, score.correct) for score in plain]
    assert [score.loss for score in packed] == pytest.approx([score.loss for score in plain], rel=1e-4)


def test_packed_scores_that_are_wrong_are_not_used(
    train: Any, conversations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")
    scored = sft.row_scores
    shifted = lambda outputs, borders: scored(outputs, [0, *(border - 3 for border in borders[1:])])  # noqa: E731
    monkeypatch.setattr(sft, "row_scores", shifted)
    trainer, _ = train(tiny_model("llama"), **PACKED)
    trainer.heldout = conversations
    assert trainer.score_rows(trainer.heldout) == score_conversations(trainer.model, conversations)
    assert trainer.packs_heldout is False


def test_a_model_that_attends_to_the_whole_row_is_scored_one_by_one(
    train: Any, conversations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores of a row of 8,192 tokens could take more memory than training does."""
    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")
    trainer, _ = train(tiny_model("gemma2"), **PACKED)
    trainer.heldout = conversations
    assert trainer.score_rows(trainer.heldout) == score_conversations(trainer.model, conversations)
    assert trainer.plan.layout == "packed" and trainer.packs_heldout is False


@pytest.mark.parametrize("fails", ["at first", "later"])
def test_packed_scores_that_fail_are_computed_one_by_one(
    train: Any, conversations: Any, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")

    def run_out(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    if fails == "at first":
        monkeypatch.setattr(sft, "row_scores", run_out)
    trainer, _ = train(tiny_model("llama"), **PACKED)
    trainer.heldout = conversations
    monkeypatch.setattr(sft, "row_scores", run_out)
    assert trainer.score_rows(trainer.heldout) == score_conversations(trainer.model, conversations)
    assert trainer.packs_heldout is False


def test_the_row_that_is_compared_has_the_longest_and_the_shortest(conversations: Any) -> None:
    many = sorted(conversations * 5, key=lambda one: one.kept)
    row = hardest_row(many, 8192)
    assert len(row) == 8 and row[0].kept == many[-1].kept
    assert [one.kept for one in row[1:]] == [one.kept for one in many[:7]]
    assert hardest_row(many, 1) == row[:1] and hardest_row(many[:1], 8192) == many[:1]


@pytest.mark.parametrize("began_in", ["", "float32"])
def test_a_resumed_run_keeps_the_precision_of_its_steps(
    tokenizer: Any, conversations: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began_in: str
) -> None:
    """A full fine-tune that began in float32, as with an earlier version, on a GPU that would compute in bfloat16."""
    monkeypatch.setattr(arguments, "chosen_step_dtype", lambda *_: torch.bfloat16)
    settings, rows = parse_settings({**SMALL, "method": "full"}), Dataset.from_list(training_rows(conversations))
    model = tiny_model("llama")
    job = TrainingJob(model, tokenizer, rows, conversations, settings, tmp_path, [], True, began_in)
    assert step_dtype(build_trainer(job).args) == (torch.float32 if began_in else torch.bfloat16)


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_full_fine_tuning_computes_in_half_precision_on_float32_weights(
    train: Any, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    """As on a GPU: an update far below bfloat16's steps of 0.4 % still reaches the weights."""
    asked: dict[str, Any] = {**PACKED, "method": "full", "learning_rate": 1e-6, "trainer": trainer}
    _, exact = train(tiny_model("llama"), **asked)
    monkeypatch.setattr(sft, "FUSED_HEAD_DEVICE", "cpu")
    monkeypatch.setattr(arguments, "chosen_step_dtype", lambda *_: torch.bfloat16)
    model = tiny_model("llama")
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    found, half = train(model, **asked)
    assert step_dtype(found.args) == torch.bfloat16 and found.notice == ""
    assert_same(half, exact, rel=3e-2)
    after = found.model.model.layers[0].mlp.up_proj.weight.detach()
    assert after.dtype == torch.float32
    assert 0 < float((after - before).abs().max()) < 1e-5
    assert float((after - before).ne(0).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("asked", "weights", "on_gpu", "expected"),
    [
        ({"method": "full"}, torch.float32, True, torch.bfloat16),
        ({"method": "full"}, torch.float32, False, torch.float32),
        ({"method": "full", "dtype": "float32"}, torch.float32, True, torch.float32),
        ({"method": "full", "dtype": "float16"}, torch.float32, True, torch.float16),
        ({"method": "lora"}, torch.float32, True, torch.float32),
        ({"method": "qlora"}, torch.float16, True, torch.float16),
    ],
)
def test_precision_of_steps(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], weights: torch.dtype, on_gpu: bool, expected: torch.dtype
) -> None:
    card = Hardware("cuda", "a card", "bfloat16", "", 24.0, 23.0, 8)
    monkeypatch.setattr(arguments, "detect_hardware", lambda: card)
    assert arguments.chosen_step_dtype(parse_settings(asked), weights, on_gpu) == expected


def varlen_attn_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What torch's documentation says of `torch.nn.attention.varlen.varlen_attn`, `(tokens, heads, dim)`, written out:
    a window of (w, 0) lets a token see the w before it and itself, and flash attention has its limits."""
    heads, key_heads, dim = query.shape[1], key.shape[1], query.shape[2]
    if not enable_gqa and heads != key_heads:
        raise ValueError("Expect query and key/value to have the same number of heads")
    if dim > 256 or dim % 8 or value.shape[2] != dim or query.dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("FlashAttention does not support this")
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32 and max_q == max_k == int(cu_seq_q.diff().max())
    lengths = cu_seq_q.diff()
    owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    distance = torch.arange(len(owner))[:, None] - torch.arange(len(owner))
    seen = (owner[:, None] == owner) & (distance >= 0)
    if window_size[0] >= 0:
        seen &= distance <= window_size[0]
    key, value = (part.repeat_interleave(heads // key_heads, 1) for part in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query.float(), key.float()) * (scale or dim**-0.5)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value.float()).to(query.dtype)


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The path of a GPU on this CPU: a kernel that keeps to the documentation, and no shared prefix."""
    calls: list[int] = []

    def attend(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return varlen_attn_on_cpu(*args, **kwargs)

    monkeypatch.setattr(attention, "KERNEL_DEVICE", "cpu")
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend)
    monkeypatch.setattr(sft, "can_share_prefix", lambda model: False)
    return calls


@pytest.mark.parametrize("name", ["llama", "mistral_window", "qwen3"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_gpus_kernel_is_tried_before_training_and_trains_the_same(
    train: Any, kernel_calls: list[int], name: str, checkpointing: bool
) -> None:
    same = {"dtype": "bfloat16", "gradient_checkpointing": checkpointing}
    trainer, packed = train(tiny_model(name).bfloat16(), **PACKED, **same)
    assert trainer.plan.uses_kernel and trainer.notice == ""
    before = len(kernel_calls)
    _, alone = train(tiny_model(name).bfloat16(), **ONE_BY_ONE, **same)
    assert len(kernel_calls) == before > 0
    assert_same(packed, alone, rel=5e-2)  # bfloat16 rounds each product, and the two ways round differently


@pytest.mark.parametrize("fault", ["refuses", "forgets the window", "has no gradient for keys"])
def test_a_kernel_that_is_wrong_is_not_used(
    train: Any, kernel_calls: list[int], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def attend(query: Any, key: Any, value: Any, *args: Any, window_size: Any = (-1, -1), **kwargs: Any) -> Any:
        if fault == "refuses":
            raise RuntimeError("no kernel image is available for execution on the device")
        window = (-1, 0) if fault == "forgets the window" else window_size
        key = key.detach() if fault == "has no gradient for keys" else key
        return varlen_attn_on_cpu(query, key, value, *args, window_size=window, **kwargs)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend)
    trainer, _ = train(tiny_model("mistral_window").bfloat16(), dtype="bfloat16", gradient_checkpointing=True, **PACKED)
    assert not trainer.plan.uses_kernel and trainer.notice == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"dim": 256, "value_dim": 256}, True),
        ({"dim": 264, "value_dim": 264}, False),
        ({"dim": 60, "value_dim": 60}, False),
        ({"value_dim": 32}, False),
        ({"dtype": torch.float32}, False),
        ({"device": torch.device("cpu")}, False),
    ],
)
def test_which_layers_may_use_the_kernel(change: dict[str, Any], expected: bool) -> None:
    usual = {"device": torch.device("cuda", 0), "dtype": torch.bfloat16, "heads": 8, "key_heads": 2}
    use = attention.KernelUse(**{**usual, "dim": 64, "value_dim": 64, "window": None, "scaling": None, **change})
    assert use.is_possible() == expected


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What did not work is told in the log."""
    caplog.set_level(logging.ERROR)

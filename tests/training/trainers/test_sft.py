"""Both trainers: the loss and the gradients are the textbook's, packed conversations keep apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation, training_rows
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import Hardware
from sft_app.models.loading import keep_4bit_differentiable, load_base
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings
from sft_app.training.fast_paths.attention import separate_attention

CPU = Hardware("cpu", "test", "float32", "", 1.0, 1.0, 1)
ANSWERS = ("Soon!", "It is on its way to you.", "Yes.", "We are sorry, it will be with you on Monday.", "No", "£5.")


@pytest.fixture(scope="module")
def rendered(tokenizer: Any) -> list[RenderedConversation]:
    """Twelve conversations of different lengths, with different numbers of trained tokens."""
    return [
        render_conversation(
            tokenizer,
            make_conversation(
                [
                    {"role": "user", "content": f"Question {'more ' * (i % 4)}{i}?"},
                    {"role": "assistant", "content": ANSWERS[i % len(ANSWERS)]},
                ]
            ),
            128,
        )
        for i in range(12)
    ]


@pytest.fixture
def make_trainer(tiny_model_dir: Path, tokenizer: Any, rendered: Any, tmp_path: Path) -> Callable[..., Any]:
    """A trainer of either kind on the tiny model, one step long, with an adapter that has an effect."""

    def make(callbacks: tuple[Any, ...] = (), **changes: Any) -> Any:
        from sft_app.training.trainers.arguments import TrainingJob
        from sft_app.training.trainers.build import build_trainer

        defaults = {"max_steps": 1, "max_length": 128, "lora_r": 4, "dtype": "float32", "max_grad_norm": 100.0}
        settings = parse_settings({**defaults, **changes})
        ref = ModelRef("tiny", str(tiny_model_dir), None, "local folder")
        model = load_base(ref, tmp_path, CPU, settings.dtype, in_4bit=settings.method == "qlora")
        if settings.method != "full":
            keep_4bit_differentiable(model, True)
            torch.manual_seed(11)
            model = attach_lora(model, settings)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(std=0.1)
        rows = Dataset.from_list(training_rows(rendered))
        return build_trainer(
            TrainingJob(model, tokenizer, rows, rendered[:3], settings, tmp_path / "out", list(callbacks))
        )

    return make


def segments(batch: dict[str, torch.Tensor]) -> list[slice]:
    """Where the conversations of a flattened batch stand: each begins at position 0."""
    positions = batch["position_ids"][0].tolist()
    starts = [i for i, position in enumerate(positions) if position == 0]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(positions)], strict=True)]


def padded(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Ids, mask and labels, `(batch, seq)`, padded on the right as in any textbook."""
    width = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [IGNORED] * (width - len(ids)) for ids, labels in rows]),
    }


def rows_in(batch: dict[str, torch.Tensor], rendered: list[RenderedConversation]) -> list[tuple[list[int], list[int]]]:
    """The conversations of a flattened batch as they were rendered."""
    by_ids = {tuple(item.input_ids): item.labels for item in rendered}
    found = [batch["input_ids"][0, part].tolist() for part in segments(batch)]
    return [(ids, by_ids[tuple(ids)]) for ids in found]


@pytest.mark.parametrize("strategy", ["step", "bfd"])
def test_loss_is_transformers_own(make_trainer: Any, rendered: Any, strategy: str) -> None:
    trainer = make_trainer(packing_strategy=strategy, per_device_train_batch_size=3)
    batch = next(iter(trainer.get_train_dataloader()))
    rows = rows_in(batch, rendered)
    assert len(rows) >= 3
    expected = trainer.model(**padded(rows)).loss
    assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(expected.item(), abs=1e-4)
    with separate_attention(trainer.model):
        assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(expected.item(), abs=1e-4)
    trainer.head = None  # as for a model that scales its logits
    loss, outputs = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    assert outputs.logits.shape[1] == sum(label != IGNORED for _, labels in rows for label in labels)


def test_loss_is_divided_by_the_trained_tokens_of_the_whole_step(make_trainer: Any) -> None:
    trainer = make_trainer(per_device_train_batch_size=2)
    batch = next(iter(trainer.get_train_dataloader()))
    trained = int((batch["labels"] != IGNORED).sum())
    alone = trainer.compute_loss(trainer.model, dict(batch))
    shared = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(4 * trained))
    assert shared.item() == pytest.approx(alone.item() / 4, rel=1e-6)


class StepRecorder(TrainerCallback):
    """Keeps the gradients of the first step and every logged loss."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.losses: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not self.gradients:
            named = model.named_parameters()
            self.gradients = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.losses += [logs["loss"]] if "loss" in logs else []


def first_step(make_trainer: Any, **settings: Any) -> StepRecorder:
    recorder = StepRecorder()
    make_trainer(callbacks=(recorder,), **settings).train()
    assert recorder.gradients
    return recorder


def assert_same_step(one: StepRecorder, other: StepRecorder) -> None:
    assert one.losses == pytest.approx(other.losses, abs=1e-4)
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(gradient, other.gradients[name], rtol=1e-3, atol=1e-6, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_accumulation_does_not_change_loss_or_gradients(make_trainer: Any, trainer: str) -> None:
    """Four conversations at once, and four times one."""
    same = {"trainer": trainer}
    assert_same_step(
        first_step(make_trainer, per_device_train_batch_size=4, gradient_accumulation_steps=1, **same),
        first_step(make_trainer, per_device_train_batch_size=1, gradient_accumulation_steps=4, **same),
    )


def test_packing_does_not_change_what_a_step_learns(make_trainer: Any) -> None:
    """Neither which conversations are in it, nor their gradients: packing is about speed."""
    same = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    assert_same_step(first_step(make_trainer, packing=True, **same), first_step(make_trainer, packing=False, **same))


def test_filled_rows_hold_more_conversations(make_trainer: Any) -> None:
    batches = {
        strategy: next(
            iter(make_trainer(packing_strategy=strategy, per_device_train_batch_size=1).get_train_dataloader())
        )
        for strategy in ("step", "bfd")
    }
    assert len(segments(batches["step"])) == 1 and len(segments(batches["bfd"])) > 1


def test_gradient_checkpointing_does_not_change_the_step(make_trainer: Any) -> None:
    assert_same_step(
        first_step(make_trainer, gradient_checkpointing=False), first_step(make_trainer, gradient_checkpointing=True)
    )


def test_both_trainers_take_the_same_step(make_trainer: Any) -> None:
    same = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert_same_step(
        first_step(make_trainer, trainer="sft", **same), first_step(make_trainer, trainer="classic", **same)
    )


@pytest.mark.parametrize("uses_separate_attention", [True, False])
@torch.no_grad()
def test_packed_conversations_do_not_see_each_other(make_trainer: Any, uses_separate_attention: bool) -> None:
    """With attention of our own, and with the library's block mask, which models with special attention keep."""
    trainer = make_trainer()
    batch = next(batch for batch in trainer.get_train_dataloader() if len(segments(batch)) > 1)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    trainer.model.eval()
    with separate_attention(trainer.model) if uses_separate_attention else nullcontext():
        together = trainer.model(**inputs, use_cache=False).logits[0]
    for part in segments(batch):
        alone = trainer.model(batch["input_ids"][:, part], use_cache=False).logits[0]
        torch.testing.assert_close(together[part], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["step", "bfd"])
def test_batches_hold_every_conversation_once_with_its_rendered_labels(
    make_trainer: Any, rendered: list[RenderedConversation], strategy: str
) -> None:
    trainer = make_trainer(packing_strategy=strategy, per_device_train_batch_size=2)
    seen = [
        (batch["input_ids"][0, part].tolist(), batch["labels"][0, part].tolist())
        for batch in trainer.get_train_dataloader()
        for part in segments(batch)
    ]
    assert sorted(seen) == sorted((item.input_ids, item.labels) for item in rendered)


def test_classic_batches_hold_the_rendered_labels(make_trainer: Any, rendered: list[RenderedConversation]) -> None:
    trainer = make_trainer(trainer="classic", per_device_train_batch_size=5)
    seen = []
    for batch in trainer.get_train_dataloader():
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            assert (labels[mask == 0] == IGNORED).all()
            seen.append((ids[mask == 1].tolist(), labels[mask == 1].tolist()))
    assert sorted(seen) == sorted((item.input_ids, item.labels) for item in rendered)


@pytest.mark.parametrize("strategy", ["step", "bfd"])
def test_conversation_is_cut_to_max_length_in_the_batches(
    make_trainer: Any, tokenizer: Any, rendered: list[RenderedConversation], strategy: str
) -> None:
    for item in rendered:  # what `render_conversation` gives with a smaller max_length
        object.__setattr__(item, "kept", min(item.kept, 60))
    try:
        trainer = make_trainer(packing_strategy=strategy, max_length=60, per_device_train_batch_size=2)
        seen = [
            batch["input_ids"][0, part].tolist() for batch in trainer.get_train_dataloader() for part in segments(batch)
        ]
        assert sorted(seen) == sorted(item.input_ids[:60] for item in rendered if item.trained)
    finally:
        for item in rendered:
            object.__setattr__(item, "kept", len(item.input_ids))


@pytest.mark.parametrize("trainer", ["sft", "classic"])
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_training_changes_the_adapter_and_never_the_base(make_trainer: Any, trainer: str, method: str) -> None:
    built = make_trainer(trainer=trainer, method=method, max_steps=3, learning_rate=1e-2)
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    built.train()
    after = built.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name].to(value.dtype))}
    assert changed == {name for name in before if "lora_" in name}


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_tokens_seen_leave_padding_out(make_trainer: Any, rendered: list[RenderedConversation], trainer: str) -> None:
    built = make_trainer(trainer=trainer, max_steps=-1, num_train_epochs=1, per_device_train_batch_size=4)
    built.train()
    assert built.tokens_seen == sum(len(item.input_ids) for item in rendered)


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_evaluation_is_the_scorecards_loss(
    make_trainer: Any, rendered: list[RenderedConversation], trainer: str
) -> None:
    from sft_app.evaluation.scorecard import mean_loss, score_conversations

    built = make_trainer(trainer=trainer, learning_rate=1e-2, warmup_ratio=0)
    before = mean_loss(score_conversations(built.model, rendered[:3]))
    built.train()
    assert mean_loss(built.scores[0]) == before
    assert mean_loss(built.scores[1]) == mean_loss(score_conversations(built.model, rendered[:3]))
    assert mean_loss(built.scores[1]) != before
    assert built.evaluation_seconds > 0


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_same_seed_trains_the_same_weights(make_trainer: Any, trainer: str) -> None:
    import transformers

    results = []
    for seed in (3, 3, 4):
        transformers.set_seed(seed)
        built = make_trainer(trainer=trainer, max_steps=2, seed=seed, learning_rate=1e-2, per_device_train_batch_size=2)
        built.train()
        results.append({name: value.clone() for name, value in built.model.state_dict().items() if "lora_" in name})
    first, again, other = results
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_adapters_of_a_4_bit_base_are_trained_in_float32(make_trainer: Callable[..., Any]) -> None:
    """TRL makes them bfloat16, in which a step of 3e-5 does not move a weight of 0.012."""
    trainer = make_trainer(method="qlora", dtype="bfloat16", learning_rate=3e-5, warmup_ratio=0.0)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert before and all(weight.dtype == torch.float32 for weight in before.values())
    trainer.args.eval_on_start = False
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(bool((after[name] != weight).any()) for name, weight in before.items())

"""What the preview shows as trained is what the trainers' own batches train, whatever the chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.reading import load_data, open_data
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation, training_rows
from sft_app.settings import RunSettings, parse_settings
from tests.chat_styles import SEVERAL, SINGLE, STYLES, SYSTEM, conversation_of, dress, mark_trained

TRAINERS = {
    "packed": {"trainer": "sft", "packing": True},
    "unpacked": {"trainer": "sft", "packing": False},
    "classic": {"trainer": "classic"},
}
each_trainer = pytest.mark.parametrize("settings", TRAINERS.values(), ids=TRAINERS)
MAX_LENGTH = 320
THINKING = [("user", "Hi"), ("assistant", "<think>\nWhy?\n</think>\n\nYo!"), ("user", "So?"), ("assistant", "So.")]
LONG = [("user", "Go on"), ("assistant", "on " * 100), ("user", "Stop"), ("assistant", "No.")]
UNTRAINED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Bah", "weight": 0}]
Rows = list[tuple[list[int], list[int]]]


@pytest.fixture
def rows_in_batches(tmp_path: Path) -> Callable[..., Rows]:
    """The ids and labels of every conversation in one epoch of a trainer's own batches, sorted."""

    def rows_in_batches(tokenizer: Any, rendered: list[RenderedConversation], settings: RunSettings) -> Rows:
        from sft_app.training.trainers.arguments import TrainingJob
        from sft_app.training.trainers.classic import build_classic_trainer
        from sft_app.training.trainers.sft import build_sft_trainer

        build = build_classic_trainer if settings.trainer == "classic" else build_sft_trainer
        model, rows = smallest_model(tokenizer), Dataset.from_list(training_rows(rendered))
        job = TrainingJob(model, tokenizer, rows, rendered[:1], settings, tmp_path / "out", [])
        batches = build(job).get_train_dataloader()
        return sorted(row for batch in batches for row in conversations_in(batch))

    return rows_in_batches


def smallest_model(tokenizer: Any) -> Any:
    """It only has to know the vocabulary: batches are made and not trained on."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def settings_for(trainer: dict[str, Any], max_length: int) -> RunSettings:
    common = {"dtype": "float32", "method": "full", "max_steps": 1, "per_device_train_batch_size": 2}
    return parse_settings({**common, "max_length": max_length, **trainer})


def conversations_in(batch: dict[str, torch.Tensor]) -> Iterator[tuple[list[int], list[int]]]:
    """Of a flattened batch, in which each begins at position 0, or of a padded one."""
    if "position_ids" not in batch:
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            assert (labels[mask == 0] == IGNORED).all()
            yield ids[mask == 1].tolist(), labels[mask == 1].tolist()
        return
    starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    for start, end in zip(starts, [*starts[1:], batch["input_ids"].shape[1]], strict=True):
        yield batch["input_ids"][0, start:end].tolist(), batch["labels"][0, start:end].tolist()


def shown(rendered: list[RenderedConversation]) -> Rows:
    """What the preview shows, up to where it says that the conversation is cut."""
    return sorted((item.input_ids[: item.kept], item.labels[: item.kept]) for item in rendered)


@each_trainer
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_labels_of_the_preview_are_those_of_the_batches(
    tokenizer: Any, rows_in_batches: Any, style: Any, settings: dict[str, Any]
) -> None:
    dressed = dress(tokenizer, style)
    conversations: list[Conversation] = [
        *map(conversation_of, (SINGLE, SEVERAL, SYSTEM, THINKING, LONG)),
        make_conversation([*UNTRAINED, *conversation_of(SINGLE).as_dicts()]),
        make_conversation([{"role": "text", "content": "Plain text."}]),
    ]
    rendered = [render_conversation(dressed, conversation, MAX_LENGTH) for conversation in conversations]
    assert [item.is_cut for item in rendered] == [False, False, False, False, True, False, False]
    seen = rows_in_batches(dressed, rendered, settings_for(settings, MAX_LENGTH))
    assert seen == shown(rendered)
    told = {mark_trained(dressed, ids, labels) for ids, labels in seen}
    assert told >= {style.single, style.several, style.system, "P«lain text." + style.eos + "»"}


@pytest.mark.starter
@each_trainer
def test_labels_of_the_preview_are_those_of_the_batches_with_the_starter(
    starter_home: Path, rows_in_batches: Any, settings: dict[str, Any]
) -> None:
    from sft_app.models.catalog import resolve_model
    from sft_app.models.loading import load_tokenizer

    tokenizer = load_tokenizer(resolve_model("starter", None, starter_home), starter_home)
    wanted = settings_for(settings, 256)
    examples = load_data(open_data(wanted.reading(), starter_home), most=40).examples
    rendered = [render_conversation(tokenizer, example.conversation, wanted.max_length) for example in examples]
    seen = rows_in_batches(tokenizer, rendered, wanted)
    assert seen == shown(rendered)
    answers = {
        example.conversation.answers()[0] for example, item in zip(examples, rendered, strict=True) if not item.is_cut
    }
    starts = {tokenizer.decode([label for label in labels if label != IGNORED]) for _, labels in seen}
    assert answers
    assert all(any(start.startswith(answer) for start in starts) for answer in answers)

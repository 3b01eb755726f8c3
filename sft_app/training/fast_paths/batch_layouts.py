"""Lay out a packed batch padded or one by one, and compute its loss with the model's own head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from sft_app.data.tokens import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def pad_conversations(inputs: dict[str, Any], labels: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """Return the conversations padded on the right, `(conversations, longest)`: ids with a mask, and labels."""
    alone = split_conversations(inputs, labels)
    ids = pad_sequence([row["input_ids"][0] for row, _ in alone], batch_first=True)
    mask = pad_sequence([torch.ones_like(row["input_ids"][0]) for row, _ in alone], batch_first=True)
    target_labels = pad_sequence([labels[0] for _, labels in alone], batch_first=True, padding_value=IGNORED)
    return {"input_ids": ids, "attention_mask": mask}, target_labels


def split_conversations(inputs: dict[str, Any], labels: torch.Tensor) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """Return the ids and labels of each conversation, `(1, length)`."""
    borders = inputs["cu_seq_lens_q"].tolist()
    spans = list(zip(borders, borders[1:], strict=False))
    return [({"input_ids": inputs["input_ids"][:, a:b]}, labels[None, a:b]) for a, b in spans]


def split_padded_rows(inputs: dict[str, Any], labels: torch.Tensor) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """Return the ids and labels of each row, `(1, length)`, of a batch padded on either side."""
    kept = [mask.bool() for mask in inputs["attention_mask"]]
    rows = zip(inputs["input_ids"], labels, kept, strict=True)
    return [({"input_ids": ids[mask][None]}, target_labels[mask][None]) for ids, target_labels, mask in rows]


def summed_loss(
    model: PreTrainedModel, batches: Iterable[tuple[dict[str, Any], torch.Tensor]]
) -> tuple[torch.Tensor, int, Any]:
    """Return the cross-entropy summed over the trained tokens, their number, and the model's last output."""
    total, trained, outputs = None, 0, None
    for batch, target_labels in batches:
        outputs = model(**batch, use_cache=False)
        chosen = target_labels[:, 1:] != IGNORED
        logits, targets = outputs.logits[:, :-1][chosen].float(), target_labels[:, 1:][chosen]
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        total, trained = loss if total is None else total + loss, trained + len(targets)
    assert total is not None  # a batch has rows
    return total, trained, outputs

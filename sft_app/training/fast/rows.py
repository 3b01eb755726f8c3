"""A batch of conversations laid end to end, in other layouts: padded, or each alone."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from sft_app.data.tokens import IGNORED


def pad(inputs: dict[str, Any], labels: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """`(conversations, longest)` ids with their mask, and the labels in the same shape; padded on the right."""
    alone = one_by_one(inputs, labels)
    ids = pad_sequence([row["input_ids"][0] for row, _ in alone], batch_first=True)
    mask = pad_sequence([torch.ones_like(row["input_ids"][0]) for row, _ in alone], batch_first=True)
    wanted = pad_sequence([labels[0] for _, labels in alone], batch_first=True, padding_value=IGNORED)
    return {"input_ids": ids, "attention_mask": mask}, wanted


def one_by_one(inputs: dict[str, Any], labels: torch.Tensor) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """`(1, length)` ids and labels of each conversation."""
    borders = inputs["cu_seq_lens_q"].tolist()
    spans = list(zip(borders, borders[1:], strict=False))
    return [({"input_ids": inputs["input_ids"][:, a:b]}, labels[None, a:b]) for a, b in spans]

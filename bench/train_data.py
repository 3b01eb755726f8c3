"""Provide model and conversations for `bench.train`: the starter with the example conversations, or random weights in
the shapes of known models with conversations of random tokens, for machines without network access."""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models import VOCABULARY, starter_folder, write_random_model
from sft_app.runtime.files import write_jsonl_atomically

if TYPE_CHECKING:
    from bench.train_arms import Spec

HELDOUT = 8


def make_spec(folder: Path, arguments: argparse.Namespace) -> Spec:
    """Write model and data into `folder`. Random lengths are log-normal, median 180, sigma 0.8, cut at 1024."""
    from bench.train_arms import Spec
    from sft_app.models.hardware import detect_hardware

    model_dir, rows = model_and_rows(folder, arguments.shape, arguments.examples_per_step * arguments.steps + HELDOUT)
    write_jsonl_atomically(folder / "train.jsonl", rows[HELDOUT:])
    write_jsonl_atomically(folder / "heldout.jsonl", rows[:HELDOUT])
    dtype = detect_hardware().dtype
    spec = Spec(
        str(model_dir), str(folder), arguments.examples_per_step, arguments.steps, 1024, arguments.method, dtype
    )
    return replace(spec, max_length=256) if arguments.shape == "tiny" else spec


def model_and_rows(folder: Path, shape: str, count: int) -> tuple[Path, list[dict[str, Any]]]:
    """Write a model of this shape to disk, and return `count` conversations for it as `input_ids` and `labels`."""
    if shape == "starter":
        return _starter(count)
    model_dir = write_random_model(folder / "model", shape, _dummy_tokenizer(), VOCABULARY[shape])
    return model_dir, _random_rows(count, VOCABULARY[shape], most=120 if shape == "tiny" else 1024)


def flops_per_token(spec: Spec) -> float:
    """Return the floating-point operations per token for training an adapter: two per weight forward and two backward.

    Recomputation is not counted, and the output layer is only needed for trained tokens.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from bench.train_arms import load_rows

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(spec.model_dir))
    head = model.get_output_embeddings().weight.numel()
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)) - head
    rows = load_rows(Path(spec.data_dir) / "train.jsonl")
    share = sum(row.trained for row in rows) / sum(len(row.input_ids) for row in rows)
    return 4.0 * (linear + share * head)


def _starter(count: int) -> tuple[Path, list[dict[str, Any]]]:
    from sft_app.data.reading import load_data, open_data
    from sft_app.data.tokens import render_conversation
    from sft_app.models.catalog import resolve_model
    from sft_app.models.loading import load_tokenizer
    from sft_app.runtime.home import app_home
    from sft_app.settings import RunSettings

    home = app_home()
    model_dir = starter_folder()
    tokenizer = load_tokenizer(resolve_model("starter", None, home), home)
    data = load_data(open_data(RunSettings().reading(), home), count)
    rendered = [render_conversation(tokenizer, example.conversation, 1024) for example in data.examples[:count]]
    return model_dir, [row.as_training_row() for row in rendered]


def _random_rows(count: int, vocabulary: int, most: int) -> list[dict[str, Any]]:
    dice = random.Random(0)
    rows = []
    for _ in range(count):
        length = min(most, max(16, int(dice.lognormvariate(5.19, 0.8))))
        ids = [dice.randrange(4, vocabulary) for _ in range(length)]
        prompt_length = length * 2 // 5
        rows.append({"input_ids": ids, "labels": [-100] * prompt_length + ids[prompt_length:]})
    return rows


def _dummy_tokenizer() -> Any:
    """Return a tokenizer that is never used, because the rows are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")

"""Model and conversations for `bench.train`: the starter with the example conversations, or random weights in the
shapes of known models with conversations of random tokens, for a machine that can reach nothing."""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.files import write_jsonl_atomically

if TYPE_CHECKING:
    from bench.train_arms import Spec

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "llama-1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "llama-8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
KEY_VALUE_HEADS = {"tiny": 2, "llama-1b": 8, "llama-8b": 8}
VOCABULARY = {"tiny": 200, "llama-1b": 128_256, "llama-8b": 128_256}
HELDOUT = 8


def make_spec(folder: Path, arguments: argparse.Namespace) -> Spec:
    """Writes model and data into `folder`. Random lengths are log-normal, median 180, sigma 0.8, cut at 1024."""
    from bench.train_arms import Spec
    from sft_app.models.hardware import detect_hardware

    needed = arguments.examples_per_step * arguments.steps
    if arguments.shape == "starter":
        model_dir, rows = _starter(needed + HELDOUT)
    else:
        model_dir = _random_model(folder / "model", arguments.shape)
        most = 120 if arguments.shape == "tiny" else 1024
        rows = _random_rows(needed + HELDOUT, VOCABULARY[arguments.shape], most)
    write_jsonl_atomically(folder / "train.jsonl", rows[HELDOUT:])
    write_jsonl_atomically(folder / "heldout.jsonl", rows[:HELDOUT])
    dtype = detect_hardware().dtype
    spec = Spec(
        str(model_dir), str(folder), arguments.examples_per_step, arguments.steps, 1024, arguments.method, dtype
    )
    return replace(spec, max_length=256) if arguments.shape == "tiny" else spec


def flops_per_token(spec: Spec) -> float:
    """Floating-point operations that training an adapter needs for a token: two for each weight forward, two for the
    way back through it, and nothing for what a trainer computes twice. The output layer works for trained tokens only.
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
    from sft_app.models.starter import prepare_starter
    from sft_app.runs import app_home
    from sft_app.settings import RunSettings

    home = app_home()
    model_dir = prepare_starter(home)
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
        asked = length * 2 // 5
        rows.append({"input_ids": ids, "labels": [-100] * asked + ids[asked:]})
    return rows


def _random_model(folder: Path, shape: str) -> Path:
    """Seeded weights in bfloat16, with a tokenizer that has no words: the rows are tokens already."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    config = LlamaConfig(
        **SHAPES[shape],
        vocab_size=VOCABULARY[shape],
        num_key_value_heads=KEY_VALUE_HEADS[shape],
        max_position_embeddings=4096,
        tie_word_embeddings=shape == "llama-1b",
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    return folder

"""Provide models to measure: the starter, and seeded random weights in the shapes of known models, for machines without
network access."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "llama-360m": {
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
    },
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "llama-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
VOCABULARY = {"tiny": 200, "llama-1b": 128_256, "llama-8b": 128_256}
WORDS = ["the", "of", "and", "to", "in", "is", "it", "for", "that", "was", "on", "with", "as", "be", "at", "by"]


def starter_folder() -> Path:
    """Return this machine's converted starter, downloading it if necessary."""
    from sft_app.models.starter import prepare_starter
    from sft_app.runtime.home import app_home

    return prepare_starter(app_home())


def make_home(folder: Path, with_starter: bool) -> Path:
    """Make an empty home folder, optionally with this machine's starter."""
    (folder / "models").mkdir(parents=True)
    if with_starter:
        (folder / "models" / "starter").symlink_to(starter_folder())
    return folder


def write_random_model(
    folder: Path, shape: str, tokenizer: Any, vocabulary: int | None = None, layers: int | None = None
) -> Path:
    """Write seeded bfloat16 weights and the tokenizer.

    The vocabulary size defaults to the tokenizer's, the number of layers to the shape's.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {})
    config = LlamaConfig(
        **sizes,
        vocab_size=vocabulary or len(tokenizer),
        max_position_embeddings=4096,
        tie_word_embeddings=shape != "llama-8b",
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word_tokenizer() -> Any:
    """Build a tokenizer that only knows `WORDS`, with a chat template."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(WordLevel({word: id for id, word in enumerate(["<pad>", "<end>", "<unk>", *WORDS])}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<pad>", "<end>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
    )
    return tokenizer


def write_conversations(path: Path, count: int, tokens: int) -> Path:
    """Write conversations of about `tokens` tokens each; the slightly longer half is the answer."""
    half = range(tokens // 2)
    texts = [" ".join(WORDS[(start + n) % len(WORDS)] for n in half) for start in range(count)]
    rows = [[{"role": "user", "content": text}, {"role": "assistant", "content": text}] for text in texts]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows), encoding="utf-8")
    return path

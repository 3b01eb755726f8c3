"""How far the preflight's formula is from what training really takes: peak memory, and seconds for a step.

    python -m bench.preflight                      the starter, and random weights in the shape of SmolLM2-360M
    python -m bench.preflight --quick              a tiny model, for the tests
    python -m bench.preflight --json results.json  everything that was measured

Each case is measured as the page's "Measure it" does it: the worker's own trainer, two steps in a fresh process, on
conversations that are all as long as the case says. Peak memory is the whole process's (on a GPU: what torch reserved
there). The formula's figure is without its margin.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WORDS = ["the", "of", "and", "to", "in", "is", "it", "for", "that", "was", "on", "with", "as", "be", "at", "by"]
GOAL = 0.15


@dataclass(frozen=True)
class Case:
    """`tokens` of each conversation, more or less; `rows` of them at once."""

    model: str
    method: str
    rows: int
    tokens: int
    checkpointing: bool = False
    trainer: str = "sft"


CASES = (
    Case("starter", "lora", 1, 256),
    Case("starter", "lora", 4, 256),
    Case("starter", "lora", 1, 1024),
    Case("starter", "lora", 4, 256, checkpointing=True),
    Case("starter", "lora", 1, 1024, checkpointing=True),
    Case("starter", "full", 1, 256),
    Case("starter", "full", 4, 256),
    Case("starter", "full", 1, 1024, checkpointing=True),
    Case("starter", "qlora", 1, 256),
    Case("starter", "qlora", 4, 256),
    Case("starter", "qlora", 1, 1024, checkpointing=True),
    Case("starter", "full", 4, 256, trainer="classic"),
    Case("llama-360m", "lora", 1, 256),
    Case("llama-360m", "lora", 4, 256),
    Case("llama-360m", "lora", 1, 1024, checkpointing=True),
    Case("llama-360m", "qlora", 1, 256),
)
QUICK_CASES = (Case("tiny", "lora", 2, 64), Case("tiny", "full", 1, 128, checkpointing=True))
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
}


def main() -> None:
    from bench.machine import machine

    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        home = _make_home(Path(folder), arguments.quick)
        measured = []
        for case in QUICK_CASES if arguments.quick else CASES:
            entry = {**asdict(case), **measure(case, home)}
            measured.append(entry)
            told = f"{entry['peak_gib']:.2f} GiB, formula {entry['formula_gib']:.2f}"
            sys.stderr.write(f"{case.model} {case.method} {case.rows} x {case.tokens}: {told}\n")
    worst = max(measured, key=lambda entry: abs(entry["memory_error"]))
    report = {"machine": machine(), "goal": GOAL, "measured": measured, "largest_memory_error": worst["memory_error"]}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def measure(case: Case, home: Path) -> dict[str, float]:
    """Both figures, and their errors as shares of what was measured; above 0 the formula says too much."""
    from sft_app.data.checkup.lengths import measure_lengths
    from sft_app.data.reading import load_data, open_data
    from sft_app.models.hardware import detect_hardware
    from sft_app.models.loading import load_tokenizer
    from sft_app.settings import parse_settings
    from sft_app.training.preflight.measuring import measure_run
    from sft_app.training.preflight.plan import Machine
    from sft_app.training.preflight.speed import machine_speed, step_seconds

    data = home / "conversations.jsonl"
    _write_conversations(data, case)
    settings = parse_settings(
        {
            "data": str(data),
            "model": "starter" if case.model == "starter" else str(home / "models" / case.model),
            "method": case.method,
            "trainer": case.trainer,
            "per_device_train_batch_size": case.rows,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": case.checkpointing,
            "max_length": 2048,
            "heldout_min": 1,
        }
    )
    place = Machine(home)
    file = open_data(settings.reading(), home)
    examples = load_data(file).examples
    lengths = measure_lengths(load_tokenizer(place.model(settings), home), examples, None, len(examples))
    found = measure_run(settings, examples, lengths, home)
    told = place.preflight(settings, lengths, data.stat().st_size).memory
    speed, shape = machine_speed(detect_hardware(), settings), place.shape(place.model(settings))
    seconds = step_seconds(settings, shape, speed, found.tokens_per_step, found.trained_per_step)
    return {
        "peak_gib": found.peak_gib,
        "formula_gib": told.expected,
        "memory_error": told.expected / found.peak_gib - 1,
        "seconds_per_step": found.seconds_per_step,
        "formula_seconds": seconds,
        "time_error": seconds / found.seconds_per_step - 1,
        "gigaflops": speed.flops / 1e9,
        "gigabytes_per_second": speed.bytes / 1e9,
        "tokens_per_step": found.tokens_per_step,
    }


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "method", "batch", "peak memory", "formula", "error", "s a step", "formula", "error")
    for entry in report["measured"]:
        repeats = " twice" if entry["checkpointing"] else ""
        table.add_row(
            entry["model"],
            entry["method"] if entry["trainer"] == "sft" else f"{entry['method']}, {entry['trainer']}",
            f"{entry['rows']} x {entry['tokens']}{repeats}",
            f"{entry['peak_gib']:.2f} GiB",
            f"{entry['formula_gib']:.2f} GiB",
            f"{entry['memory_error']:+.1%}",
            f"{entry['seconds_per_step']:.1f}",
            f"{entry['formula_seconds']:.1f}",
            f"{entry['time_error']:+.0%}",
        )
    console = Console()
    console.print(table)
    console.print(f"largest error of memory {report['largest_memory_error']:+.1%} (goal: within {GOAL:.0%})")


def _make_home(folder: Path, is_quick: bool) -> Path:
    """With the models that the cases need; the starter is the one that is there already."""
    from sft_app.models.starter import prepare_starter
    from sft_app.runs import app_home

    (folder / "models").mkdir()
    starter = None if is_quick else prepare_starter(app_home())
    if starter is not None:
        (folder / "models" / "starter").symlink_to(starter)
    _write_model(folder / "models", "tiny" if is_quick else "llama-360m", starter)
    return folder


def _write_model(models: Path, name: str, starter: Path | None) -> None:
    """Seeded random weights in bfloat16; the starter's tokenizer, or one that knows the words of the conversations."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

    if starter is not None:
        tokenizer = AutoTokenizer.from_pretrained(starter)
    else:
        core = Tokenizer(WordLevel({word: id for id, word in enumerate(["<pad>", "<end>", "<unk>", *WORDS])}, "<unk>"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
        tokenizer.add_special_tokens({"additional_special_tokens": ["<pad>", "<end>"]})
        tokenizer.chat_template = (
            "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + '<end>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
        )
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[name], vocab_size=len(tokenizer), tie_word_embeddings=True, pad_token_id=0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(models / name)
    tokenizer.save_pretrained(models / name)


def _write_conversations(path: Path, case: Case) -> None:
    """A batch of them and one to hold out; the longer half of each is its answer."""
    half = range(case.tokens // 2)
    texts = [" ".join(WORDS[(place + n) % len(WORDS)] for n in half) for place in range(case.rows + 1)]
    rows = [[{"role": "user", "content": text}, {"role": "assistant", "content": text}] for text in texts]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows), encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

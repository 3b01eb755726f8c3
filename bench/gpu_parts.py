"""The parts of `bench/gpu.py`: what each proves on a GPU, and the line it prints."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.gpu_steps import Base, conversations, make_trainer, measure_steps, measure_trl, synchronise
from bench.models import word_tokenizer, write_conversations, write_random_model

LAYERS, ALL_LAYERS = 8, 32
HEAD_DIMENSIONS = (64, 80, 96, 128, 192, 256, 512)
# The formula may be this much off, as in `bench/preflight.py`.
FORMULA_ERROR = 0.25
# A pair may take this many times as long as one side.
PAIR_RATIO = 1.15
Result = dict[str, Any]


class Check:
    """Runs the parts on one model and prints and collects their results."""

    def __init__(self, home: Path, tiny: bool) -> None:
        self.home, self.tiny, self.on_gpu = home, tiny, torch.cuda.is_available()
        self.results: list[Result] = []
        self.base = Base(self._write_model(), home, *((1.0, 32) if tiny else (ALL_LAYERS / LAYERS, 256)))
        self.step_tokens = 128 if tiny else 8192
        self.run_id = ""

    def _write_model(self) -> Path:
        folder = self.home / "models" / "base"
        if self.tiny:
            return write_random_model(folder, "tiny", word_tokenizer())
        return write_random_model(folder, "llama-8b", word_tokenizer(), layers=LAYERS)

    def part(self, name: str, work: Callable[[], Result], needs_gpu: bool = False) -> None:
        """Run a part and print its line."""
        start = time.perf_counter()
        if needs_gpu and not self.on_gpu:
            result: Result = {"skipped": "needs a GPU", "passed": True}
        else:
            try:
                with contextlib.redirect_stdout(sys.stderr):  # what the libraries print
                    result = work()
            except Exception as error:  # the next part may still tell something
                result = {"error": f"{type(error).__name__}: {str(error)[:300]}", "passed": False}
        result = {"part": name, **result, "took_seconds": round(time.perf_counter() - start, 1)}
        self.results.append(result)
        print(json.dumps(rounded(result)), flush=True)  # noqa: T201
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    # the parts, in the order in which they run

    def page_memory(self) -> Result:
        """What the page's process does while it watches creates no CUDA context."""
        code = (
            "import torch\n"
            "from pathlib import Path\n"
            "from sft_app.models.hardware import detect_hardware\n"
            "from sft_app.settings import parse_settings\n"
            "from sft_app.training.preflight.machine_speed import machine_speed\n"
            "found = detect_hardware()\n"
            "machine_speed(found, parse_settings({}))\n"
            "print(found.device, found.name, torch.cuda.is_initialized())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=self._environment())
        words = done.stdout.split()
        return {"told": done.stdout.strip() or done.stderr[-300:], "passed": words[-1:] == ["False"]}

    def default_run(self) -> Result:
        """A run with nothing chosen but the model ends by itself, and its loss falls."""
        run = self._train(per_device_train_batch_size=4, gradient_accumulation_steps=4, num_train_epochs=3.0)
        losses = [row.loss for row in run.metrics() if row.loss is not None]
        status = run.status()
        self.run_id = run.id
        return {
            "state": status.state,
            "message": status.message,
            "hint": status.hint,
            "losses": [losses[0], losses[-1]] if losses else [],
            "at_once": status.micro_batch,
            "checkpoint_every": status.checkpoint_every,
            "tokens_per_second": max((row.tokens_per_second or 0.0 for row in run.metrics()), default=0.0),
            "passed": status.state == "finished" and losses[-1] < losses[0],
        }

    def shortcuts(self) -> Result:
        """Every shortcut that is possible for this model passes the gradient check."""
        trainer = make_trainer(self.base, self.step_tokens, method="lora")
        trainer.train()
        return {"plan": vars(trainer.plan), "notice": trainer.notice, "passed": trainer.plan == trainer.possible}

    def steps(self, tokens: int, **chosen: Any) -> Result:
        """The app's step: finite losses, and a peak of memory that the formula knew."""
        found = measure_steps(self.base, tokens, **chosen)
        error = found["formula_gib"] / found["peak_gib"] - 1 if found["peak_gib"] else 0.0
        return found | {"formula_error": error, "passed": found["is_finite"] and abs(error) <= FORMULA_ERROR}

    def against_trl(self) -> Result:
        """The app's QLoRA step against TRL's, with its defaults and at the same number of tokens."""
        ours = measure_steps(self.base, self.step_tokens, method="qlora", gradient_checkpointing=False)
        defaults, equal = measure_trl(self.base, None), measure_trl(self.base, self.step_tokens)
        rate = ours["tokens"] / ours["seconds"]
        ratio = rate / defaults["tokens_per_second"]
        peak = self._matrix_teraflops()
        return {
            "ours": rate,
            "trl_defaults": defaults["tokens_per_second"],
            "trl_equal_tokens": equal["tokens_per_second"],
            "times_trl_defaults": ratio,
            "share_of_matrix_products": ours["teraflops"] / peak,
            "passed": self.tiny or (ratio >= 2.5 and ours["teraflops"] >= 0.4 * peak),
        }

    def head_dimensions(self) -> Result:
        """The variable-length kernel passes its own validation for the sizes of heads it is said to support."""
        from sft_app.training.fast_paths.attention import KernelUse, _has_variable_length_kernel

        device = torch.device("cuda")
        found = {
            size: _has_variable_length_kernel(KernelUse(device, torch.bfloat16, 4, 2, size, size, 64, None))
            for size in HEAD_DIMENSIONS
        }
        return {"valid": found, "passed": all(found[size] == (size <= 256) for size in HEAD_DIMENSIONS)}

    def pair(self) -> Result:
        """Both sides of one batch are what each is alone, for little more time than one takes."""
        from sft_app.inference.captured_steps import captured_step
        from sft_app.inference.pair import activate_both_sides, activate_side, load_pair
        from sft_app.inference.sides import find_sides

        pair = load_pair(find_sides("base", self.run_id, self.home), self.home)
        prompt = list(range(3, 19)) * 4
        tokens = 40 if self.tiny else 96
        with activate_both_sides(pair, 1.0) as model:
            both = self._seconds_per_token(model, [prompt, prompt], tokens)
            with _eager_only():
                eager = self._seconds_per_token(model, [prompt, prompt], tokens)
        with activate_side(pair.loaded_sides[0], 1.0) as model:
            alone = self._seconds_per_token(model, [prompt], tokens)
        return {
            "shares_batch": pair.shares_batch,
            "dtype": pair.models.hardware.dtype,
            "is_captured": captured_step(torch.device(model.device)) is not None,
            "tokens_per_second_a_side_at_full_depth": 1 / (both * self.base.depth),
            "captured_over_eager": both / eager,
            "pair_over_one": both / alone,
            "passed": pair.shares_batch and (self.tiny or both / alone <= PAIR_RATIO),
        }

    def heldout(self) -> Result:
        """Held-out conversations in packed rows have the scores they have one by one."""
        from sft_app.evaluation.scorecard import score_conversations

        trainer = make_trainer(self.base, self.step_tokens, method="lora")
        trainer.train()
        trainer.heldout = conversations(8 if self.tiny else 64, trainer.model.config.vocab_size, self.base.tokens)
        trainer.score_rows(trainer.heldout)  # compares them on the first row
        packed, packed_seconds = _timed(lambda: trainer.score_rows(trainer.heldout))
        plain, plain_seconds = _timed(lambda: score_conversations(trainer.model, trainer.heldout))
        apart = max(abs(one.loss - other.loss) for one, other in zip(packed, plain, strict=True))
        return {
            "is_packed": bool(trainer.packs_heldout),
            "largest_difference": apart,
            "times_faster": plain_seconds / packed_seconds,
            "passed": apart < 0.05 and bool(trainer.packs_heldout) == self.on_gpu,
        }

    def recovery(self) -> Result:
        """A run whose step is far too large runs out of memory, starts again with smaller ones and finishes."""
        run = self._train(
            per_device_train_batch_size=512,
            gradient_accumulation_steps=1,
            auto_find_batch_size=False,
            gradient_checkpointing=False,
            max_steps=1,
            conversations=1100,
        )
        status = run.status()
        smaller = status.micro_batch is not None and status.micro_batch < 512
        return {"state": status.state, "at_once": status.micro_batch, "hint": status.hint} | {
            "passed": status.state == "finished" and smaller
        }

    # what the parts share

    def _train(self, conversations: int = 64, **chosen: Any) -> Any:
        from sft_app.training.launch import create_queued_run
        from sft_app.training.supervisor import work_off_queue

        data = write_conversations(self.home / f"{conversations}.jsonl", conversations, 64 if self.tiny else 512)
        kept = {"data": str(data), "method": "qlora" if self.on_gpu else "lora", "scorecard_prompts": 2}
        settings = self.base.settings(**{"max_steps": -1, "general_prompts": 2, "eval_steps": 0.5, **kept, **chosen})
        run = create_queued_run(settings, self.home)
        work_off_queue(self.home)
        return run

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SFT_APP_HOME": str(self.home)}

    def _seconds_per_token(self, model: Any, prompts: list[list[int]], tokens: int) -> float:
        from sft_app.inference.generation import Sampling, generate_tokens

        steps = generate_tokens(model, prompts, Sampling(0.0, 1, tokens), [], 0)
        for _ in range(tokens // 2):  # the captured step takes over in these
            next(steps)
        _, seconds = _timed(lambda: [next(steps) for _ in range(tokens // 2 - 1)])
        return seconds / (tokens // 2 - 1)

    def _matrix_teraflops(self) -> float:
        from bench.machine import matrix_teraflops

        return matrix_teraflops("bfloat16" if self.on_gpu else "float32", 0.5)


@contextlib.contextmanager
def _eager_only() -> Iterator[None]:
    """Answer without captured steps within the block."""
    from sft_app.inference import captured_steps

    before = captured_steps.captured_step
    captured_steps.captured_step = lambda device: None
    try:
        yield
    finally:
        captured_steps.captured_step = before


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    synchronise()
    start = time.perf_counter()
    result = work()
    synchronise()
    return result, time.perf_counter() - start


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value

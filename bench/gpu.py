"""Prove or refute on a GPU what the tests can only try with stand-ins: `make gpu-check`, six minutes on an H100.

Random weights in a real shape, no downloads. Each part prints one line of JSON with `passed`; a part that fails prints
its error, and the next one goes on. The model is Llama 3.1 8B with 8 of its 32 layers; numbers that are scaled to all
layers have `full_depth` in their names. With `--tiny`, the same parts run on a CPU in two minutes, to see that the
script works; what needs a GPU is `skipped` there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from bench.gpu_parts import Check, rounded
from bench.models import make_home


def run_parts(check: Check) -> None:
    """Run all parts, those first that need a GPU that nothing has touched."""
    check.part("the page's process takes no GPU memory", check.page_memory)
    check.part("a default run ends and learns", check.default_run)
    check.part("every shortcut passes the gradient check", check.shortcuts)
    for tokens in (128,) if check.tiny else (1024, 4096, 8192, 16_384):
        for recompute, word in ((True, "with"), (False, "without")):
            step = partial(check.steps, tokens, method="qlora", gradient_checkpointing=recompute)
            check.part(f"qlora, {tokens} tokens, {word} checkpointing", step)
    check.part("lora", lambda: check.steps(check.step_tokens, method="lora", gradient_checkpointing=False))
    check.part("full", lambda: check.steps(min(2048, check.step_tokens), method="full"))
    check.part("float16, as on a T4", lambda: check.steps(4096, method="qlora", dtype="float16"), needs_gpu=True)
    check.part("against TRL", check.against_trl)
    check.part("head dimensions of the kernel", check.head_dimensions, needs_gpu=True)
    check.part("two answers against one", check.pair)
    check.part("held-out rows packed", check.heldout)
    check.part("out of memory and recovery", check.recovery, needs_gpu=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny weights, to see on a CPU that the script works")
    parser.add_argument("--json", type=Path, help="also save the results to this file")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        sys.exit("There is no GPU that torch can use. Add --tiny to try the script on a CPU.")
    from bench.machine import machine, save_report

    if arguments.tiny:
        torch.set_num_threads(1)  # more only wait for each other
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home", with_starter=False)
        os.environ["SFT_APP_HOME"] = str(home)
        check = Check(home, arguments.tiny)
        run_parts(check)
    failed = [result["part"] for result in check.results if not result["passed"]]
    seconds = time.perf_counter() - start
    save_report({"machine": machine(), "seconds": seconds, "parts": rounded(check.results)}, arguments.json)
    sys.stderr.write(f"{len(check.results)} parts in {seconds:.0f} s; failed: {', '.join(failed) or 'none'}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A stand-in for the `spaces` package on ZeroGPU: like it, it runs a decorated generator in a forked process that
stays, pickles what goes in and out, and lets nothing of an exception but its kind come through.

Source: spaces 0.51.3, `zero/wrappers.py`; the quota, the GPU itself and gradio's messages are left out.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

context: Any = multiprocessing.get_context("fork")
asked_for: list[int] = []
workers: list[Any] = []
loaded_before = {name for name in ("torch", "gradio", "transformers") if name in sys.modules}


class Worker:
    def __init__(self, task: Callable[..., Iterator[Any]]) -> None:
        self.arguments, self.results, self.stop = context.SimpleQueue(), context.SimpleQueue(), context.Event()
        self.process = context.Process(target=self._work, args=(task,), daemon=True)
        self.process.start()
        workers.append(self)

    def _work(self, task: Callable[..., Iterator[Any]]) -> None:
        while True:
            arguments = self.arguments.get()
            self.stop.clear()
            try:
                for result in task(*arguments):
                    if self.stop.is_set():
                        break
                    self.results.put(("result", result))
                self.results.put(("end", os.getpid()))
            except Exception as error:
                self.results.put(("error", type(error).__name__))


def GPU(task: Any = None, *, duration: Any = None) -> Any:
    """With `duration` a function of the same arguments."""
    if task is None:
        return partial(GPU, duration=duration)
    kept: list[Worker] = []

    @wraps(task)
    def run(*arguments: Any) -> Iterator[Any]:
        asked_for.append(duration(*arguments))
        worker = kept.pop() if kept else Worker(task)
        worker.arguments.put(arguments)
        while True:
            kind, value = worker.results.get()
            if kind == "end":
                kept.append(worker)
                return
            if kind == "error":
                raise RuntimeError(f"ZeroGPU worker error: {value}")
            try:
                yield value
            except GeneratorExit:
                worker.stop.set()
                while worker.results.get()[0] == "result":
                    pass
                kept.append(worker)
                raise

    return run

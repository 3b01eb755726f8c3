"""Speed up two slow imports by skipping work that this app never needs.

- `gradio` imports about twice as fast: at every import it parses the source of each component twice to refresh type
  stubs (`.pyi`) in its own folder. Only editors use them; on two cores this takes two of the four seconds before the
  page opens. Source: gradio 6.31, `component_meta.create_or_modify_pyi`.
- `bitsandbytes`, which peft imports, loads about two seconds sooner: four of its functions call `torch.compile` when
  they are defined, which imports the whole compiler. Here, each is compiled when it is first called, so the results
  are the same. Source: bitsandbytes 0.50, `backends/default/ops._try_torch_compile`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Quicker(MetaPathFinder):
    """Finds these modules as usual, and loads them with less work."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        while_loading = WHILE_LOADING.get(name)
        spec = PathFinder.find_spec(name, path) if while_loading else None
        if spec is not None and spec.loader is not None and while_loading is not None:
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                with while_loading(module):
                    load(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Install the faster imports; they apply to libraries that have not been imported yet."""
    sys.meta_path.insert(0, _Quicker())


@contextmanager
def _without_stub_writer(module: Any) -> Iterator[None]:
    yield
    if hasattr(module, "create_or_modify_pyi"):
        module.create_or_modify_pyi = lambda *_: None


@contextmanager
def _compiling_when_called(module: Any) -> Iterator[None]:
    import torch

    compile_now = torch.compile

    def compile_when_called(function: Any, **options: Any) -> Any:
        @cache
        def compiled() -> Any:
            return compile_now(function, **options)

        return wraps(function)(lambda *arguments, **named: compiled()(*arguments, **named))

    torch.compile = compile_when_called  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now


WHILE_LOADING = {
    "gradio.component_meta": _without_stub_writer,
    "bitsandbytes.backends.default.ops": _compiling_when_called,
}

"""Make two slow imports quicker, by leaving out work of theirs that this app never needs.

- `gradio`, about twice as fast: at every import it parses the source of each of its components twice to refresh type
  stubs (`.pyi`) in its own folder. Editors use them, running code does not; on two cores it is two of the four seconds
  before the page opens. Source: gradio 6.31, `component_meta.create_or_modify_pyi`.
- `bitsandbytes`, which peft imports, about two seconds sooner: four of its functions ask for `torch.compile` as they
  are defined, and that imports the whole compiler. Here they are compiled when one of them is first called, so what
  they compute is the same. Source: bitsandbytes 0.50, `backends/default/ops._try_torch_compile`.
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
    """Finds the modules above as usual and has them loaded with less work."""

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
    """Work for the libraries that have not been imported yet."""
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

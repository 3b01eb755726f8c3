"""Makes `import gradio` about twice as fast.

At every import gradio parses the source of each of its components twice to refresh type stubs (`.pyi`) in its own
folder. Editors use them, running code does not; on two cores it is two of the four seconds before the page opens.
Source: gradio 6.31, `component_meta.create_or_modify_pyi`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODULE, STUB_WRITER = "gradio.component_meta", "create_or_modify_pyi"


class _WithoutStubs(MetaPathFinder):
    """Finds that one module as usual and takes the stub writer out of it once it has been loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == MODULE else None
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                load(module)
                if hasattr(module, STUB_WRITER):
                    setattr(module, STUB_WRITER, lambda *_: None)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def skip_stub_writing() -> None:
    """To be called before gradio is imported for the first time."""
    sys.meta_path.insert(0, _WithoutStubs())

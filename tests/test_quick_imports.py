"""Imports with less work give the same libraries."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import PROJECT

SAME_BITSANDBYTES = """
import torch
compiled = []
torch.compile = lambda function, **options: compiled.append((function.__name__, options)) or function
import sft_app, bitsandbytes
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute as dequantize
assert compiled == [], compiled
packed, codes = torch.tensor([0x12, 0x34], dtype=torch.uint8), torch.arange(16.0)
for _ in range(2):
    found = dequantize(packed, torch.tensor([2.0]), codes, 64, (4,), torch.float32)
    assert found.tolist() == [2.0, 4.0, 6.0, 8.0], found
    assert compiled == [("_dequantize_4bit_compute", {"dynamic": False})], compiled
"""
NO_COMPILER = """
import sys, sft_app, peft, torch
assert "bitsandbytes" in sys.modules and "torch._inductor.compile_fx" not in sys.modules
assert torch.compile.__module__ == "torch"
"""
SAME_GRADIO = """
import sft_app, gradio, gradio.component_meta as meta
assert meta.create_or_modify_pyi.__name__ == "<lambda>"
assert gradio.Textbox("hello").value == "hello" and callable(gradio.Textbox.change)
"""


def run(code: str) -> None:
    """In a process of its own, since this one has the libraries already."""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_gradio_imports_without_writing_stubs_and_works_the_same():
    run(SAME_GRADIO)


def test_bitsandbytes_compiles_what_it_would_when_it_is_first_called():
    run(SAME_BITSANDBYTES)


def test_peft_imports_without_the_compiler():
    run(NO_COMPILER)

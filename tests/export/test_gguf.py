"""llama.cpp's tools as processes; a stand-in takes the arguments of the real converter and writes what it was given."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from sft_app.errors import ExportError
from sft_app.export.gguf import convert_to_gguf, gguf_commands, llama_cpp_dir
from sft_app.export.merged import follow
from sft_app.runtime.environment import LLAMA_CPP_VARIABLE

CONVERTER = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--outfile", type=pathlib.Path, required=True)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0", "auto"], required=True)
given = parser.parse_args()
if not (given.model / "config.json").is_file():
    print("ERROR: no config.json")
    raise SystemExit("Model  is not supported")
given.outfile.write_text(f"GGUF {given.outtype}")
"""


@pytest.fixture
def llama_cpp(tmp_path: Path) -> Path:
    folder = tmp_path / "llama cpp"
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my; model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def convert(model: Path, llama_cpp: Path) -> Path:
    return follow(convert_to_gguf(model, llama_cpp), lambda step: None)


def test_the_converter_writes_the_file(llama_cpp: Path, model: Path) -> None:
    found = convert(model, llama_cpp)
    assert found == model / "model-q8_0.gguf"
    assert found.read_text() == "GGUF q8_0"
    assert sorted(path.name for path in model.iterdir()) == ["config.json", found.name]


def test_it_is_not_written_again_until_the_weights_are_newer(llama_cpp: Path, model: Path) -> None:
    found = convert(model, llama_cpp)
    found.write_text("as it was")
    assert convert(model, llama_cpp).read_text() == "as it was"
    (model / "model.safetensors").write_text("")
    os.utime(found, (1, 1))
    assert convert(model, llama_cpp).read_text() == "GGUF q8_0"


def test_closing_it_ends_the_converter(llama_cpp: Path, model: Path) -> None:
    (llama_cpp / "convert_hf_to_gguf.py").write_text("import time; time.sleep(600)")
    steps = convert_to_gguf(model, llama_cpp)
    next(steps)
    (converter,) = (child for child in psutil.Process().children() if str(model) in child.cmdline())
    steps.close()
    assert not converter.is_running() and [path.name for path in model.iterdir()] == ["config.json"]


def test_why_it_failed_is_told_in_one_line(llama_cpp: Path, model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(ExportError, match="failed with exit status 1: .*no config.json.*is not supported") as caught:
        convert(model, llama_cpp)
    assert "\n" not in str(caught.value)
    assert list(model.iterdir()) == []


def test_a_folder_without_a_converter_is_refused(tmp_path: Path) -> None:
    assert llama_cpp_dir({}) is None
    with pytest.raises(ExportError, match="which has no convert_hf_to_gguf.py. Set it to a checkout"):
        llama_cpp_dir({LLAMA_CPP_VARIABLE: str(tmp_path)})


def test_commands_are_safe_to_paste(model: Path) -> None:
    assert f"'{model}' --outfile '{model}/model-q8_0.gguf' --outtype q8_0" in gguf_commands(model)[1]

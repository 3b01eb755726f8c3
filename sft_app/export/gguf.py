"""Convert a merged model to one GGUF file with the converter of a llama.cpp checkout, if the machine has one.

Source: llama.cpp, `convert_hf_to_gguf.py --help`.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Generator, Mapping
from pathlib import Path

from sft_app.errors import ExportError
from sft_app.export.merged import Step
from sft_app.runtime.children import running_python, until_ended
from sft_app.runtime.environment import LLAMA_CPP_VARIABLE
from sft_app.runtime.files import last_lines

CONVERTER = "convert_hf_to_gguf.py"
# The smallest precision that the converter can write: half the size of bfloat16.
PRECISION = "q8_0"
GGUF, LOG = f"model-{PRECISION}.gguf", "gguf.log"
LOG_LINES = 3


def llama_cpp_dir(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the llama.cpp checkout named in the environment; None if none is named.

    Raises: ExportError if that folder has no converter.
    """
    named = environment.get(LLAMA_CPP_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not (folder / CONVERTER).is_file():
        raise ExportError(
            f"{LLAMA_CPP_VARIABLE} is {named}, which has no {CONVERTER}. "
            "Set it to a checkout of llama.cpp, or unset it."
        )
    return folder


def convert_to_gguf(folder: Path, llama_cpp: Path) -> Generator[Step, None, Path]:
    """Write an 8-bit GGUF file next to the merged model; closing the generator ends the converter.

    The file appears only once it is complete. A file that is newer than the weights is kept.

    Raises: ExportError, with the end of the log, if the converter fails.
    """
    target, log = folder / GGUF, folder / LOG
    weights = max((file.stat().st_mtime_ns for file in folder.glob("*.safetensors")), default=0)
    if target.is_file() and target.stat().st_mtime_ns >= weights:
        return target
    draft = folder / f".draft-{secrets.token_hex(4)}.gguf"
    arguments = [str(llama_cpp / CONVERTER), str(folder), "--outfile", str(draft), "--outtype", PRECISION]
    try:
        with running_python(arguments, log) as converter:
            for _ in until_ended(converter):
                yield Step(1.0, "Writing the GGUF file")
        if converter.returncode != 0 or not draft.is_file():
            reason = " ".join(last_lines(log, LOG_LINES)) or "it printed nothing"
            raise ExportError(f"{CONVERTER} failed with exit status {converter.returncode}: {reason}")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
    return target


def gguf_commands(folder: Path) -> list[str]:
    """Return the shell commands that write the same file manually."""
    source, target = shlex.quote(str(folder)), shlex.quote(str(folder / GGUF))
    return [
        "git clone https://github.com/ggml-org/llama.cpp && pip install -r llama.cpp/requirements.txt",
        f"python llama.cpp/{CONVERTER} {source} --outfile {target} --outtype {PRECISION}",
    ]

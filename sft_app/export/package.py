"""Prepare a run for other programs: the merged model in a folder, and what Ollama needs next to it."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from sft_app.errors import ExportError
from sft_app.export.adapter import write_files
from sft_app.export.fidelity import fidelity_sentence, is_warning
from sft_app.export.gguf import convert_to_gguf, gguf_commands, llama_cpp_dir
from sft_app.export.merged import MergedModel, Step, describe_merged, find_merged, merge_steps
from sft_app.export.ollama import OllamaModel, write_modelfile
from sft_app.runs.folder import Run


@dataclass(frozen=True)
class OllamaPackage:
    """Describes the files for Ollama.

    `gguf_problem` says why there is no GGUF file although llama.cpp is installed; `manual_commands` create one.
    """

    model: OllamaModel
    gguf: Path | None = None
    gguf_problem: str = ""
    manual_commands: tuple[str, ...] = ()


def prepare_merged(run: Run, folder: Path) -> Generator[Step, None, MergedModel]:
    """Merge the run, or reuse an earlier merge if the run has not changed, and rewrite its description.

    Raises: ExportError.
    """
    merged = find_merged(run, folder)
    if merged is None:
        return (yield from merge_steps(run, folder))
    write_files(describe_merged(run, folder.name, merged.fidelity), folder)
    return merged


def prepare_ollama(run: Run, merged: MergedModel) -> Generator[Step, None, OllamaPackage]:
    """Write a Modelfile and, if llama.cpp is installed, a GGUF file for it.

    Ollama reads every architecture as GGUF, and only some as safetensors.

    Raises: ExportError if the folder cannot be written.
    """
    gguf, problem = None, ""
    yield Step(1.0, "Writing the Modelfile")
    try:
        if (llama_cpp := llama_cpp_dir()) is not None:
            gguf = yield from convert_to_gguf(merged.folder, llama_cpp)
    except ExportError as error:
        problem = str(error)
    model = write_modelfile(run, merged.folder, f"./{gguf.name}" if gguf else ".")
    return OllamaPackage(model, gguf, problem, () if gguf else tuple(gguf_commands(merged.folder)))


def zip_folder(folder: Path, into: Path) -> Path:
    """Zip a folder without compression, which hardly shrinks weights.

    Raises: ExportError.
    """
    packed = into / f"{folder.name}.zip"
    try:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"{folder.name}/{file.name}")
    except OSError as error:
        raise ExportError(f"{folder.name} could not be zipped: {error.strerror or error}.") from error
    return packed


def fidelity_message(merged: MergedModel) -> tuple[str, bool]:
    """Return the fidelity sentence, and whether it is a warning."""
    return fidelity_sentence(merged.fidelity), is_warning(merged.fidelity)

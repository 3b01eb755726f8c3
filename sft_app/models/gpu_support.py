"""Find out why an NVIDIA GPU that is there cannot be used, and what would change that. Without torch.

Sources: NVIDIA's table of driver versions for CUDA (a driver runs every CUDA version of its generation and older ones),
and PyTorch's release notes: its CUDA 13 builds have no kernels for cards before compute capability 7.5.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sft_app.runtime.children import ask_program

DRIVER_FILE = Path("/proc/driver/nvidia/version")
QUERY = ("--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
QUERY_SECONDS = 10.0
NO_CARD = "No devices were found"
OLDEST_DRIVER = {13: 580, 12: 525, 11: 450}
"""The oldest driver for each generation of CUDA."""
OLDEST_CARD = {13: (7, 5)}
"""The oldest compute capability that PyTorch's builds for this generation have kernels for."""
OLDER_BUILD = "cu126"
"""PyTorch's build for drivers and cards that are too old for the one from PyPI."""
INSTALL = 'pip install --force-reinstall "torch<=2.13.0" --index-url https://download.pytorch.org/whl/'


@dataclass(frozen=True)
class Gpu:
    """Describes a GPU as its driver does. Unknown versions are None."""

    name: str
    driver: str | None = None
    capability: tuple[int, int] | None = None


def has_nvidia_gpu() -> bool:
    """Guess whether there is an NVIDIA GPU that this process may see."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1")
    return not hidden and (Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None)


def has_usable_gpu() -> bool:
    """Return whether there is an NVIDIA GPU and nothing is known that keeps torch from using it."""
    return has_nvidia_gpu() and _first_gpu_use()[0]


def gpu_problem() -> str:
    """Say why the GPU that is there cannot be used, and what to do; empty if there is none or nothing is wrong."""
    return _first_gpu_use()[1] if has_nvidia_gpu() else ""


@lru_cache(maxsize=1)
def _first_gpu_use() -> tuple[bool, str]:
    """Return whether the first GPU can be used and, if it is there and cannot, why."""
    found = find_gpu()
    if found is None:
        return False, ""
    problem = found if isinstance(found, str) else explain_gpu(found, torch_cuda_version())
    return not problem, problem


def find_gpu() -> Gpu | str | None:
    """Ask the driver about the first GPU.

    Returns None if it knows of none (a driver without a card), and a sentence if it does not work.
    """
    program = shutil.which("nvidia-smi")
    answer = ask_program([program, *QUERY], QUERY_SECONDS) if program else None
    if answer is None:
        return Gpu("The GPU", _driver_from_file())
    status, text = answer
    first = next(iter(text.strip().splitlines()), "no answer")
    if NO_CARD in first:
        return None
    if status or not text.strip():
        told = f"There is an NVIDIA GPU, but its driver does not work ({first})."
        return f"{told} Restart the machine, or reinstall the driver."
    return parse_gpu(first)


def parse_gpu(line: str) -> Gpu:
    """Parse a line of `nvidia-smi`: name, driver version and compute capability, separated by commas."""
    name, driver, capability = ([part.strip() for part in line.split(",")] + ["", ""])[:3]
    major, _, minor = capability.partition(".")
    known = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
    return Gpu(name, driver if driver[:1].isdigit() else None, known)


def torch_cuda_version() -> str | None:
    """Return the CUDA version that the installed torch was built for, such as `13.0`; None for a CPU build.

    Read from the package's file, since importing torch takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else None


def explain_gpu(gpu: Gpu, cuda: str | None) -> str:
    """Say why torch's build for this CUDA version cannot use the GPU, and what to install; empty if it can."""
    if cuda is None:
        return (
            f"{gpu.name} cannot be used, because the installed PyTorch is built for CPUs only. "
            f"Install a build for GPUs: {INSTALL}{_build_for(gpu)}"
        )
    generation = int(cuda.partition(".")[0])
    driver = int((gpu.driver or "").partition(".")[0] or 0)
    if driver and driver < OLDEST_DRIVER.get(generation, 0):
        told = f"{gpu.name} cannot be used: its driver {gpu.driver} is too old for PyTorch's build for CUDA {cuda}"
        needed = OLDEST_DRIVER[generation]
        if driver < OLDEST_DRIVER[12]:
            return f"{told}. Install NVIDIA's driver {needed} or newer."
        return f"{told}. Install NVIDIA's driver {needed} or newer, or an older build: {INSTALL}{OLDER_BUILD}"
    if gpu.capability and gpu.capability < OLDEST_CARD.get(generation, (0, 0)):
        return (
            f"{gpu.name} cannot be used: PyTorch's build for CUDA {cuda} has no kernels for a card of compute "
            f"capability {gpu.capability[0]}.{gpu.capability[1]}. Install an older build: {INSTALL}{OLDER_BUILD}"
        )
    return ""


def has_kernels(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Return whether torch's kernels run on a card: `built_for` is `torch.cuda.get_arch_list()`.

    Machine code (`sm_XY`) runs on cards of the same generation that are not older, an intermediate form (`compute_XY`)
    on all that are not older.
    """
    for entry in built_for:
        kind, _, digits = entry.partition("_")
        number = re.match(r"\d+", digits)
        if number is None:
            continue
        major, minor = int(number.group()[:-1]), int(number.group()[-1])
        if capability >= (major, minor) and (kind == "compute" or capability[0] == major):
            return True
    return False


def _build_for(gpu: Gpu) -> str:
    is_old = gpu.capability is not None and gpu.capability < OLDEST_CARD[13]
    driver = int((gpu.driver or "").partition(".")[0] or 0)
    return OLDER_BUILD if is_old or 0 < driver < OLDEST_DRIVER[13] else "cu130"


def _driver_from_file() -> str | None:
    try:
        found = re.search(r"Kernel Module\D*(\d+[.\d]*)", DRIVER_FILE.read_text())
    except OSError:
        return None
    return found.group(1) if found else None

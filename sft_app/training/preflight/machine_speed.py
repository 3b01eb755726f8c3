"""Measure how fast this machine is, without taking memory on a GPU in this process.

Run as `python -m sft_app.training.preflight.machine_speed DEVICE DTYPE` in the child process that measures a GPU.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from filelock import FileLock, Timeout

from sft_app.errors import RunError
from sft_app.models.hardware import Hardware
from sft_app.models.precision import measured_once
from sft_app.runtime.children import ask_python
from sft_app.runtime.home import app_home, machine_lock_file
from sft_app.settings import RunSettings
from sft_app.training.estimates.speed import MachineSpeed, measure_speed
from sft_app.training.supervisor import ensure_supervisor

CHILD_SECONDS = 120.0


def machine_speed(hardware: Hardware, settings: RunSettings) -> MachineSpeed:
    """Measure the machine's speed, once per dtype, in a fraction of a second. Imports torch.

    A GPU is measured in a child process, so that this one takes no memory on it, and the result is kept in the home.

    Raises: RunError if a run is using the GPU, which the measurement could take memory from.
    """
    dtype = settings.step_dtype(hardware.dtype, hardware.device)
    if hardware.device == "cpu":
        return measure_speed(hardware.device, dtype)
    return _gpu_speed(hardware, dtype)


def _gpu_speed(hardware: Hardware, dtype: str) -> MachineSpeed:
    import torch

    depends_on = f"{hardware.name} | torch {torch.__version__} | {dtype}"
    flops, moved = f"{depends_on} | operations per second", f"{depends_on} | bytes per second"

    def measure() -> dict[str, float]:
        speed = _measure_in_child(hardware.device, dtype)
        return {flops: speed.flops, moved: speed.bytes}

    known = measured_once([flops, moved], measure)
    return MachineSpeed(hardware.device, dtype, known[flops], known[moved])


def _measure_in_child(device: str, dtype: str) -> MachineSpeed:
    try:
        with FileLock(machine_lock_file(app_home()), timeout=0):
            answer = ask_python(["-m", "sft_app.training.preflight.machine_speed", device, dtype], CHILD_SECONDS)
    except Timeout:
        raise RunError("A run is using the GPU, so its speed cannot be measured. Wait until it has ended.") from None
    finally:
        ensure_supervisor(app_home())  # a run may have been queued meanwhile
    status, text = answer or (1, "it took too long")
    last_line = (text.strip().splitlines() or ["no answer"])[-1]
    if status:
        raise RunError(f"The speed of the GPU could not be measured ({last_line}). Stop whatever else is using it.")
    return MachineSpeed(**json.loads(last_line))


if __name__ == "__main__":
    print(json.dumps(asdict(measure_speed(*sys.argv[1:]))))  # noqa: T201 - the answer to the parent process

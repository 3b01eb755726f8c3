"""A run's worker in several processes, one for each GPU, through `accelerate launch`.

Run as `python -m sft_app.training.parallel NUM_PROCESSES` and then the worker's own arguments. It ends as the first
process that failed ended, with the same exit status or by the same signal, which `accelerate launch` does not tell.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from sft_app.runs.folder import Run
from sft_app.training.ranks import LAUNCHER_PID
from sft_app.training.supervisor import BUSY_EXIT, TERMINATED_EXIT

# What torch gives the processes to save a checkpoint after SIGTERM before it kills them; its own default is 30.
SHUTDOWN_SECONDS = "60"


def main(num_processes: str, *worker_arguments: str) -> int:
    """Starts the processes and waits for them; when one fails, the others are ended."""
    os.environ[LAUNCHER_PID] = str(os.getpid())
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    # `--multi_gpu` is the mode that starts processes; without a GPU they speak gloo. `--cpu` would start only one.
    # Whatever the user's own `accelerate config` says is overruled by naming it here.
    options = ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--gpu_ids=all"]
    options += [f"--num_processes={num_processes}", "--main_process_port=0", "--module", "sft_app.training.worker"]
    try:
        launch_command(launch_command_parser().parse_args([*options, *worker_arguments]))
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException:  # handed on to the processes, which have told the run folder
        return TERMINATED_EXIT
    return 0


def end_as(code: int) -> None:
    """Ends this process with that exit status, or for `-n` by signal n."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def hold_and_start(num_processes: str, run_dir: str, *others: str) -> int:
    """As `main`, with the run to these processes alone; `BUSY_EXIT` when another worker has it."""
    with Run(Path(run_dir)).locked() as is_ours:
        return main(num_processes, run_dir, *others) if is_ours else BUSY_EXIT


if __name__ == "__main__":
    end_as(hold_and_start(*sys.argv[1:]))

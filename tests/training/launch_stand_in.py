"""The launcher of several processes, with a module `stand_in` in the worker's place.

Run as `python -m tests.training.launch_stand_in PROCESSES ARGUMENT`, in the folder of that module.
"""

from __future__ import annotations

import sys
from typing import Any

from accelerate.commands import launch

from sft_app.training import distributed

launch_command_parser = launch.launch_command_parser


class OtherWorker:
    """The launcher's own options, for another module."""

    def parse_args(self, arguments: list[str]) -> Any:
        others = ["stand_in" if argument == "sft_app.training.worker" else argument for argument in arguments]
        return launch_command_parser().parse_args(others)


if __name__ == "__main__":
    launch.launch_command_parser = OtherWorker
    distributed.exit_as(distributed.main(*sys.argv[1:]))

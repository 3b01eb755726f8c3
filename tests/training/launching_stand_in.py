"""`sft_app.training.distributed` with the module `stand_in` in the worker's place; takes the same arguments."""

from __future__ import annotations

import sys
from typing import Any

from accelerate.commands import launch

from sft_app.training import distributed

make_parser = launch.launch_command_parser


class Parser:
    """Accelerate's, which is told of another module."""

    def parse_args(self, arguments: list[str]) -> Any:
        return make_parser().parse_args(["stand_in" if a == "sft_app.training.worker" else a for a in arguments])


if __name__ == "__main__":
    launch.launch_command_parser = Parser
    distributed.exit_as(distributed.main(*sys.argv[1:]))

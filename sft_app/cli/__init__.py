"""The command line."""

from sft_app.cli.app import main

__all__ = ["main"]

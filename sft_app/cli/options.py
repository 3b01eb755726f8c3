"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from sft_app.settings import Format

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run id, the start of one, or `latest`.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
FormatOption = Annotated[Format | None, typer.Option(help="Layout of the rows; `auto` detects it.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="ROLE=COLUMN", help="Column for a role (user, assistant, system or context); can be repeated."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, for example max_steps=20; can be repeated."),
]

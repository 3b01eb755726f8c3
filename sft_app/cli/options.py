"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_app.errors import SettingsError
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
AssistantOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who the assistant is in a chat between people; the name as in the file."),
]
HeldoutOption = Annotated[
    str | None,
    typer.Option(
        "--heldout", help="A file of conversations that only judge the result; default: some of your examples."
    ),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(
        "--validation",
        help="A file of conversations that choose which weights are kept; default: some of your examples.",
    ),
]
SheetOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Sheet of an Excel or OpenDocument file; default: the first.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, for example max_steps=20; can be repeated."),
]
TestsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Tests to save with the run and run at its end, or `none`; default: the last run's on the same data.",
    ),
]
ThinkingOption = Annotated[
    bool | None,
    typer.Option(
        "--enable-thinking/--no-enable-thinking",
        help="Think first, for models that can; default: as the run was trained.",
    ),
]
SideOption = Annotated[
    list[str] | None,
    typer.Option(
        help="With --prompts: a further side; can be repeated. Anything that RUN can be, `base`, `prompted` (the base "
        "with the nearest training examples in front), or a file of recorded answers."
    ),
]
ExamplesOption = Annotated[int, typer.Option(min=0, max=32, help="Examples in front of each prompt for `prompted`.")]
NotWorseOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE", help="With --prompts: check that RUN is not worse than this side by more than --margin."
    ),
]
MarginOption = Annotated[
    float | None, typer.Option(help="How much worse is acceptable, for example 0.05 for five percentage points.")
]
MetricOption = Annotated[str, typer.Option(help="Metric for --not-worse-than: chrf, rouge_l, exact_match …")]
ChatTemplateOption = Annotated[
    str | None,
    typer.Option(help="`chatml` for a base model without a chat template, or a Jinja file; default: the model's own."),
]


def read_chat_template(option: str | None) -> str | None:
    """Return the value of the setting `chat_template`: the option itself, or the text of the file that it names.

    Raises: SettingsError if the file cannot be read.
    """
    if not option or "{" in option or not Path(option).is_file():
        return option
    try:
        return Path(option).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{option} cannot be read as a chat template: {error}.") from error

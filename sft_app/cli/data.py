"""The command that reads and checks data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_app.cli.data_output import print_cleaning, print_inspection
from sft_app.cli.options import (
    AssistantOption,
    ChatTemplateOption,
    FormatOption,
    JsonFlag,
    MapOption,
    SetOption,
    SheetOption,
    read_chat_template,
)
from sft_app.cli.terminal import (
    print_json,
    progress_bar,
)
from sft_app.errors import SettingsError
from sft_app.runtime.home import app_home
from sft_app.settings import (
    parse_assignments,
    parse_settings,
)


def inspect(
    data: Annotated[str, typer.Argument(help="A data file, or the id of a dataset on the Hub.")],
    format: FormatOption = None,
    columns: MapOption = None,
    assistant: AssistantOption = None,
    sheet: SheetOption = None,
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts the tokens.")] = "starter",
    chat_template: ChatTemplateOption = None,
    max_length: Annotated[int | None, typer.Option(help="Maximum tokens per conversation; default: automatic.")] = None,
    assignments: SetOption = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Apply the recommended fixes to the copy written by --out.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSONL file to write the usable conversations to.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a data source: its layout, skipped rows with reasons, token lengths, problems and fixes."""
    from sft_app.data.checkup.fixes import RECOMMENDED, write_cleaned_copy
    from sft_app.data.checkup.inspection import inspect_data
    from sft_app.data.reading import open_data
    from sft_app.models.catalog import resolve_model
    from sft_app.models.loading import load_tokenizer

    if fix and out is None:
        raise SettingsError("--fix requires --out FILE, because the source is never changed.")
    options = {
        "data": data,
        "format": format or "auto",
        "columns": columns or (),
        "assistant": assistant or "",
        "sheet": sheet,
        "model": model,
        "chat_template": read_chat_template(chat_template) or "",
        "max_length": max_length,
    }
    settings = parse_settings({**options, **parse_assignments(assignments or [])})
    home = app_home()
    with progress_bar("Reading", quiet=as_json) as report:
        file = open_data(settings.reading(), home, report)
        model_ref = resolve_model(settings.model, settings.revision, home)
        tokenizer = load_tokenizer(model_ref, home, settings.chat_template, settings.enable_thinking)
        inspection = inspect_data(file, settings, tokenizer, report, repair=fix)
    if out is not None:
        with progress_bar("Writing", quiet=as_json) as report:
            cleaning = write_cleaned_copy(file, RECOMMENDED if fix else (), out, report)
    if as_json:
        return print_json(inspection.as_json())
    print_inspection(inspection.as_json())
    if out is not None:
        print_cleaning(cleaning, out)

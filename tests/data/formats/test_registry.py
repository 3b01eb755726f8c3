"""The records of the layouts agree with the setting `format` and with the README."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from sft_app.data.formats.registry import LAYOUTS
from sft_app.settings import Format

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")


def test_setting_format_names_every_layout_in_the_same_order():
    assert get_args(Format) == ("auto", *LAYOUTS)


def test_readme_lists_every_layout():
    _, _, table = README.partition("| layout | columns |\n| --- | --- |\n")
    rows = table.partition("\n\n")[0].splitlines()
    assert rows == [f"| {layout.label} | {layout.documentation} |" for layout in LAYOUTS.values()]


def test_layout_that_is_recognised_says_by_what():
    for layout in LAYOUTS.values():
        assert bool(layout.recognise) == bool(layout.evidence), layout.name
        assert bool(layout.column_maps) == bool(layout.columns_are), layout.name

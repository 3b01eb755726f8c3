"""Render Markdown in which text from users and models stays text."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE_DIR = Path(__file__).parent
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#$!])")
_LINE_START = re.compile(r"^(\d*)([-+=.)])(?=[-=\s]|$)")  # a list, a heading's underline
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def render_markdown(template: str, **values: Any) -> str:
    """Render a template in this folder. Values are shown as plain text, unless a function in this module made them."""
    text = _environment().get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text)


def markdown_text(text: str) -> Markup:
    """Return one line of Markdown that shows exactly this text, even in a table."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(r"\\\1", line)
    return Markup(_LINE_START.sub(r"\1\\\2", line))


def markdown_quote(text: str) -> Markup:
    """Return a block quote that shows exactly this text, line by line."""
    lines = [markdown_text(line) for line in text.splitlines() or [""]]
    # Two spaces at the end break the line; an empty line begins a paragraph.
    return Markup("\n".join(f"> {line}  " if line else ">" for line in lines))


def markdown_code(text: str, language: str = "") -> Markup:
    """Return a fenced block whose fence is longer than any row of backticks in the text."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{_CONTROL.sub(' ', text)}\n{fence}")


@lru_cache
def _environment() -> Environment:
    environment = Environment(  # autoescape would turn it into HTML
        loader=FileSystemLoader(TEMPLATE_DIR),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_as_markdown,
    )
    environment.filters |= {"quote": markdown_quote, "code": markdown_code}
    return environment


def _as_markdown(value: Any) -> Markup:
    return value if isinstance(value, Markup) else markdown_text(str(value))

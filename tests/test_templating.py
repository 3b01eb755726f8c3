"""HTML comes from templates only, and they escape every value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from sft_app.templating import TEMPLATES, render_html

PACKAGE = Path(__file__).parents[1] / "sft_app"
SOURCES = [PACKAGE / "curves.py", *sorted((PACKAGE / "export").rglob("*.py")), *sorted((PACKAGE / "ui").rglob("*.py"))]
TAG = re.compile(r"</?[a-z][a-z0-9]*[ >/]")
ALLOWED = {
    "sft_app/export/chat_template_parts.py": "tags that chat templates use, and a text that tries them out",
    "sft_app/ui/page.py": "Gradio's `head`: the page's own scripts and their policy, with no value in it",
}


def literals_of(file: Path) -> Iterator[str]:
    """Strings of a source, also those between the braces of an f-string; docstrings are not among them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in texts:
            yield node.value


def test_no_python_source_holds_html() -> None:
    names = {file: file.relative_to(PACKAGE.parent).as_posix() for file in SOURCES}
    found = {name for file, name in names.items() if any(TAG.search(text) for text in literals_of(file))}
    assert found == set(ALLOWED)


def test_every_value_is_escaped_unless_it_is_markup() -> None:
    text = "<b>\"'&{{ 7 * 7 }}"
    shown = render_html("notice.html", kind=text, text=text)
    assert shown.count("&lt;b&gt;&#34;&#39;&amp;{{ 7 * 7 }}") == 2 and "<b>" not in shown
    assert "<b>" in render_html("notice.html", kind="", text=Markup("<b>"))


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        render_html("notice.html", kind="")


@pytest.mark.parametrize("file", sorted(TEMPLATES.rglob("*")), ids=lambda file: file.relative_to(TEMPLATES).as_posix())
def test_no_template_turns_escaping_off(file: Path) -> None:
    if file.is_file():
        assert file.suffix == ".html"
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", file.read_text(encoding="utf-8"))

"""The report of a run: one HTML file that needs nothing else, and the same facts as Markdown for a model card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sft_app.curves import CURVES_CSS, points_of, run_curves
from sft_app.errors import RunError
from sft_app.export.report_facts import ScoreTable, gather_facts
from sft_app.files import write_text_atomically
from sft_app.runs import Run

HERE = Path(__file__).parent
MARKDOWN_PAIRS = 3
VERDICT_CLASSES = {"better": "good", "worse": "bad", "changed": "other"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#$!])")
_LINE_START = re.compile(r"^(\d*)([-+=.)])(?=[-=\s]|$)")  # a list, a heading's underline
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def report_html(run: Run, chosen: Sequence[str] | None = None) -> str:
    """One file without script that loads nothing; `chosen` are ids of the answer pairs to show, None the most changed.

    Raises: RunError when the run's settings cannot be read.
    """
    facts = gather_facts(run, chosen)
    styles = [CURVES_CSS.read_text(encoding="utf-8"), (HERE / "report.css").read_text(encoding="utf-8")]
    has_curves = any(points_of(facts.metrics, key) for key in ("loss", "heldout_loss"))
    curves = Markup(run_curves(facts.metrics)) if has_curves else ""  # it escapes what it is given
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(facts=facts, styles=Markup("\n".join(styles)), curves=curves, spans=_spans, verdicts=VERDICT_CLASSES)
    )


def report_markdown(run: Run, chosen: Sequence[str] | None = None) -> str:
    """The same facts, shortened; with the first pairs of those chosen. Raises: RunError as `report_html`."""
    facts = gather_facts(run, chosen)
    tables = [*facts.scores, *([facts.forgetting] if facts.forgetting else [])]
    text = (
        _markdown_environment()
        .get_template("report.md.jinja")
        .render(facts=facts, tables=tables, pairs=facts.pairs[:MARKDOWN_PAIRS])
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def write_report(run: Run, folder: Path, chosen: Sequence[str] | None = None, name: str = "report") -> list[Path]:
    """Writes `report.html` and `report.md`, or what `name` says, into `folder`, which is made where it is missing.

    Raises: RunError when the run's settings cannot be read, or the folder cannot be written.
    """
    texts = {f"{name}.html": report_html(run, chosen), f"{name}.md": report_markdown(run, chosen)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            write_text_atomically(folder / file, text)
    except OSError as error:
        raise RunError(f"The report could not be written to {folder}: {error.strerror or error}.") from error
    return [folder / file for file in texts]


def markdown_text(text: str) -> Markup:
    """One line of Markdown that shows this text and nothing else, in a table too."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(r"\\\1", line)
    return Markup(_LINE_START.sub(r"\1\\\2", line))


def markdown_quote(text: str) -> Markup:
    """A block quote that shows this text line by line and nothing else."""
    lines = [markdown_text(line) for line in text.splitlines() or [""]]
    # Two spaces at the end break the line; an empty line begins a paragraph.
    return Markup("\n".join(f"> {line}  " if line else ">" for line in lines))


def markdown_code(text: str) -> Markup:
    """A fenced block; the fence is longer than any row of backticks in the text."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{_CONTROL.sub(' ', text)}\n{fence}")


def _spans(table: ScoreTable, name: str) -> tuple[float, float, float] | None:
    """Where the interval of this line stands on a strip with zero in its middle: begin, value, end, in per cent."""
    span = table.spans.get(name)
    widest = 1.08 * max(map(abs, span)) if span else 0.0
    if span is None or not widest > 0:  # also where it is no number
        return None
    begin, value, end = (round(50 + 50 * place / widest, 1) for place in span)
    return begin, value, end


@lru_cache
def _environment() -> Environment:
    """Everything that is put into a page is escaped."""
    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


@lru_cache
def _markdown_environment() -> Environment:
    """Everything that is put into Markdown is escaped, unless a function of this module has made Markdown of it."""
    environment = Environment(  # autoescape would make HTML of it
        loader=FileSystemLoader(HERE),
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

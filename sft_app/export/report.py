"""The report of a run: one HTML file that needs nothing else, and the same facts as Markdown for a model card."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sft_app.curves import CURVES_CSS, broken_sentence, points_of, run_curves
from sft_app.errors import RunError
from sft_app.export.markdown import render_markdown
from sft_app.export.report_facts import ScoreTable, gather_facts
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_text_atomically

HERE = Path(__file__).parent
MARKDOWN_PAIRS = 3
VERDICT_CLASSES = {"better": "good", "worse": "bad", "changed": "other"}


def report_html(run: Run, chosen: Sequence[str] | None = None) -> str:
    """One file without script that loads nothing; `chosen` are ids of the answer pairs to show, None the most changed.

    Raises: RunError when the run's settings cannot be read.
    """
    facts = gather_facts(run, chosen)
    styles = [CURVES_CSS.read_text(encoding="utf-8"), (HERE / "report.css").read_text(encoding="utf-8")]
    has_curves = any(points_of(facts.metrics, key) for key in ("loss", "heldout_loss"))
    curves = Markup(run_curves(facts.metrics)) if has_curves else ""  # it escapes what it is given
    broken = broken_sentence(facts.metrics)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            facts=facts,
            styles=Markup("\n".join(styles)),
            curves=curves,
            broken=broken,
            spans=_spans,
            verdicts=VERDICT_CLASSES,
        )
    )


def report_markdown(run: Run, chosen: Sequence[str] | None = None) -> str:
    """The same facts, shortened; with the first pairs of those chosen. Raises: RunError as `report_html`."""
    facts = gather_facts(run, chosen)
    return render_markdown("report.md.jinja", facts=facts, pairs=facts.pairs[:MARKDOWN_PAIRS])


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


def _spans(table: ScoreTable, name: str) -> tuple[float, float, float] | None:
    """Where the interval of this line stands on a strip with zero in its middle: begin, value, end, in per cent."""
    span = table.spans.get(name)
    if span is None:
        return None
    widest = 1.08 * max(map(abs, span))
    begin, value, end = (round(50 + 50 * place / widest, 1) for place in span)
    return begin, value, end


@lru_cache
def _environment() -> Environment:
    """Everything that is put into a page is escaped."""
    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

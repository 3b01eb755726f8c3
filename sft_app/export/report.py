"""Write the report of a run as one HTML file that needs nothing else, and as Markdown for a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from sft_app.curves import CURVES_CSS, broken_sentence, metric_points, run_curves
from sft_app.errors import RunError
from sft_app.export.markdown import render_markdown
from sft_app.export.report_facts import ScoreTable, gather_facts
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_text_atomically
from sft_app.templating import render_html

HERE = Path(__file__).parent
MARKDOWN_PAIRS = 3
VERDICT_CLASSES = {"better": "good", "worse": "bad", "changed": "other"}


def report_html(run: Run, chosen: Sequence[str] | None = None) -> str:
    """Return the report as one page that has no script and loads nothing.

    `chosen` are ids of the answer pairs to show, None the most changed.

    Raises: RunError when the run's settings cannot be read.
    """
    facts = gather_facts(run, chosen)
    styles = [CURVES_CSS.read_text(encoding="utf-8"), (HERE / "report.css").read_text(encoding="utf-8")]
    has_curves = any(metric_points(facts.metrics, key) for key in ("loss", "heldout_loss"))
    curves = Markup(run_curves(facts.metrics)) if has_curves else ""  # HTML from a template
    return render_html(
        "report.html",
        facts=facts,
        styles=Markup("\n".join(styles)),
        curves=curves,
        broken=broken_sentence(facts.metrics),
        spans=_spans,
        verdicts=VERDICT_CLASSES,
    )


def report_markdown(run: Run, chosen: Sequence[str] | None = None) -> str:
    """Return the same facts, shortened, with the first of the chosen pairs. Raises: RunError as `report_html`."""
    facts = gather_facts(run, chosen)
    return render_markdown("report.md.jinja", facts=facts, pairs=facts.pairs[:MARKDOWN_PAIRS])


def write_report(run: Run, folder: Path, chosen: Sequence[str] | None = None, name: str = "report") -> list[Path]:
    """Write `report.html` and `report.md`, or files called `name`, into `folder`, and make it if it is missing.

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
    """Return begin, value and end of an interval on a strip with zero in its middle, in percent."""
    span = table.spans.get(name)
    if span is None:
        return None
    widest = 1.08 * max(map(abs, span))
    begin, value, end = (round(50 + 50 * point / widest, 1) for point in span)
    return begin, value, end

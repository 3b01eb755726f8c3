"""Turn plain values into HTML with the templates in `templates/`.

The page, the curves and the report all make their HTML here, so text from people and models is escaped in one place.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render_html(template: str, /, **values: Any) -> str:
    """Render a template in `templates/` with every value escaped, except `Markup`.

    Raises: jinja2.UndefinedError if the template uses a value that is not in `values`.
    """
    return _environment().get_template(template).render(values)


@lru_cache
def _environment() -> Environment:
    # Importing Jinja takes 0.1 s, which the command line does not need.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

"""What a visitor must be allowed to do, declared on each handler. `tests/ui/test_permissions.py` finds those without.

What depends on the arguments (which run, which file, how many tokens) is checked by the services.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from sft_app.ui.context import PageContext
from sft_app.ui.events import tells_errors
from sft_app.ui.services.access import RUN_ACTIONS, Permission

Handler = Callable[..., Any]
OPEN = "nothing"
"""The declaration of handlers that only rearrange what the visitor's own page holds."""


def allowed(permission: Permission, context: PageContext) -> Callable[[Handler], Handler]:
    """Refuse visitors who may not do this; every error reaches the page as a sentence (`tells_errors`)."""

    def check() -> None:
        if permission in RUN_ACTIONS and not context.access.is_trusted():
            context.runs.get("latest")  # a visitor without any run is told so first
        context.access.check(permission)

    return lambda handler: _declared(handler, permission, check)


def open_to_all(handler: Handler) -> Handler:
    """Declare that a handler only rearranges components, so that it needs no permission."""
    return _declared(handler, OPEN, lambda: None)


def declared_permission(handler: Handler) -> str | None:
    """Return what a handler declares; None when it declares nothing."""
    return getattr(handler, "permission", None)


def _declared(handler: Handler, permission: str, check: Callable[[], None]) -> Handler:
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def checked(*args: Any) -> Any:
            check()
            yield from handler(*args)
    else:

        @functools.wraps(handler)
        def checked(*args: Any) -> Any:
            check()
            return handler(*args)

    checked.permission = permission  # type: ignore[attr-defined]
    return tells_errors(checked)

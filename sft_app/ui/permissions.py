"""The permission that each handler requires, declared by a decorator.

`tests/ui/test_permissions.py` finds handlers without one. The services check what depends on the arguments: which run,
which file, how many tokens.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, with_error_messages
from sft_app.ui.services.access import RUN_ACTIONS, Permission

Handler = Callable[..., Any]
OPEN = "nothing"
"""The declaration of handlers that only change the visitor's own page."""


def allowed(permission: Permission, context: PageContext) -> Callable[[Handler], Handler]:
    """Refuse visitors without this permission. Errors appear on the page as sentences (`with_error_messages`)."""

    def check() -> None:
        if permission in RUN_ACTIONS and not context.access.is_trusted():
            context.runs.get("latest")  # first, so that a visitor without any run sees that message
        context.access.check(permission)

    return lambda handler: _declared(handler, permission, check)


def open_to_all(handler: Handler) -> Handler:
    """Declare that a handler only rearranges components, so that it needs no permission."""
    return _declared(handler, OPEN, lambda: None)


def clear_error_after(event: Any, shown_on: Any) -> None:
    """Remove the mark that Gradio leaves where an event showed its progress if it fails; a message says why it did.

    Nothing else would remove it: events that show no progress leave it there.
    """
    event.failure(open_to_all(lambda: None), None, None, **{**PRIVATE, "show_progress_on": shown_on})


def declared_permission(handler: Handler) -> str | None:
    """Return the permission that a handler declares; None if it declares none."""
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
    return with_error_messages(checked)

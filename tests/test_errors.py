"""One line of any error, also of one that says nothing."""

from __future__ import annotations

import pytest

from sft_app.errors import first_line, kind_and_first_line


@pytest.mark.parametrize(
    ("error", "line", "with_kind"),
    [
        (ValueError("too long\nsecond line"), "too long", "ValueError: too long"),
        (ValueError("\n  too long  "), "too long", "ValueError: too long"),
        (MemoryError(), "MemoryError", "MemoryError"),
        (AssertionError(" \n"), "AssertionError", "AssertionError"),
    ],
)
def test_any_error_has_a_first_line(error: Exception, line: str, with_kind: str):
    assert (first_line(error), kind_and_first_line(error)) == (line, with_kind)

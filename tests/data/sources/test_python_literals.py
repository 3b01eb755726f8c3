"""What Python and numpy print is parsed, and nothing is run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sft_app.data.sources.python_literals import MAX_LITERAL_BYTES, parse_python_literal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("""{'a': "it's", 'b': None, 'c': True, 'd': -1.5e3}""", {"a": "it's", "b": None, "c": True, "d": -1500.0}),
        ("[{'a': 'x'}\\n {'a': 'y'}]".replace("\\n", "\n"), [{"a": "x"}, {"a": "y"}]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("array([{'a': array(['x', 'y'], dtype=object)}], dtype=object)", [{"a": ["x", "y"]}]),
        ("{'a': nan, 'b': np.float64(1.5)}", {"a": None, "b": 1.5}),
        ("{'a': 'import os; ---------------------- (array)'}", {"a": "import os; ---------------------- (array)"}),
        ("[1 2\n 3]", [1, 2, 3]),
        ("{'a': ('x', 'y'), 1: 2}", {"a": ["x", "y"], "1": 2}),
    ],
)
def test_printed_value_is_parsed(text: str, value: Any):
    assert parse_python_literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "{'a': open('x')}",
        "{'a': 1 + 1}",
        "[" * 10_000,
        "{'a': " + "-" * 10_000 + "1}",
        "{'a': b'x'}",
        "{'a': 'x",
        "{'a': {}",
        "['x']" + " " * MAX_LITERAL_BYTES,
        "",
    ],
)
def test_anything_else_is_refused_at_once(text: str):
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"literal|bytes"):
        parse_python_literal(text)
    assert time.process_time() - begun < 2

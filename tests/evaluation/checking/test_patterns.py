"""Patterns from files take neither all memory nor all time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sft_app.evaluation.checking.patterns import LARGEST_PATTERN, check_pattern, is_found, written_out

PLAIN = [
    r"^\d{4}-\d{2}-\d{2}$",
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    r"^(.{20,}\n){3,}.{100,}",
    r"^(?:\w+\W+){0,500}\w+$",
    r"(\d{1,3}\.){3}\d{1,3}",
]
BOMBS = [
    "((a{9999}){9999})",
    "a{99999999}",
    "(?:(?:(?:a+){99}){99}){99}",
    "(?x)(a{99 99}) {9 999}",
    "(?x)(a{99}) # so\n{ 9#\n999}",
    "(?:a{9999}){9999}?",
    "((?:(?:a{9,}){999}|b){999,}){1,2}",
]
MEMORY = """
import resource, sys
from sft_app.evaluation.checking.patterns import check_pattern
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for pattern in sys.argv[1:]:
    try:
        check_pattern(pattern)
    except ValueError:
        pass
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("pattern", PLAIN)
def test_patterns_that_people_write_are_read(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", BOMBS)
def test_repetitions_that_multiply_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="its repetitions multiply to too many"):
        check_pattern(pattern)
    with pytest.raises(ValueError, match="multiply"):
        is_found(pattern, "a", 1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is that of Linux")
@pytest.mark.usefixtures("plain_processes")  # a forked one has the memory of its template
def test_no_pattern_takes_much_memory() -> None:
    """Those just below the limit too."""
    nearly = [f"(?:{part}){{{LARGEST_PATTERN // (len(part) + 12)}}}" for part in (r"\X", "a+", "[a-f]*", "(?:b|c)+")]
    assert all(LARGEST_PATTERN / 2 < written_out(pattern) <= LARGEST_PATTERN for pattern in nearly)
    command = [sys.executable, "-c", MEMORY, *BOMBS, *nearly]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 500

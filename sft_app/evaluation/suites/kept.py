"""Keep tests with a run, and find the tests that a new run on the same data takes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sft_app.errors import DataError, RunError
from sft_app.evaluation.checks import with_lists
from sft_app.evaluation.suites.plain_yaml import load_yaml
from sft_app.evaluation.suites.tests_file import Suite, parse_tests, read_tests, suite_yaml
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_text_atomically

NO_TESTS: Literal["none"] = "none"
"""The value of the setting `tests` for a run without tests."""
_ORIGIN = "# Tests from "


def kept_tests(run: Run) -> Suite | None:
    """Read the tests kept with a run, as the version that kept them did; None if it has none.

    Raises:
        DataError: they cannot be read.
    """
    if not run.tests_file.is_file():
        return None
    try:
        text = run.tests_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is not UTF-8 text"
        raise DataError(f"The tests of run {run.id} cannot be read: {reason}.") from error
    first = text.partition("\n")[0]
    name = first.removeprefix(_ORIGIN) if first.startswith(_ORIGIN) else run.tests_file.name
    value, lines = load_yaml(text, name)
    return parse_tests(_with_lists(value), name, lines)


def _with_lists(value: Any) -> Any:
    """Return the values of a file of tests with the checks as they are written now (`checks.with_lists`)."""
    if isinstance(value, list):
        return list(map(_with_lists, value))
    if not isinstance(value, dict):
        return value
    inner = {"tests": _with_lists, "all": with_lists, "checks": with_lists}
    return {key: inner[key](part) if key in inner else part for key, part in value.items()}


def keep_tests(run: Run, suite: Suite) -> None:
    """Keep tests with a run, in place of those it has. Raises: RunError if they cannot be written."""
    try:
        write_text_atomically(run.tests_file, kept_text(suite))
    except OSError as error:
        raise RunError(f"The tests could not be saved with run {run.id}: {error.strerror or error}.") from error


def kept_text(suite: Suite) -> str:
    """Return the contents of `tests.yaml`; its first line says where the tests come from."""
    return f"{_ORIGIN}{' '.join(suite.origin.split())}\n{suite_yaml(suite)}"


def tests_for_run(setting: str, source_sha256: str, owner: str, home: Path) -> Suite | None:
    """Return the tests of a new run: those of the file in the setting, or else of the newest run on the same data.

    Raises: DataError if the file, or the tests of that run, cannot be used.
    """
    if setting == NO_TESTS:
        return None
    if setting:
        return read_tests(Path(setting).expanduser())
    newest = next((run for run in list_runs(home) if _is_on(run, source_sha256, owner)), None)
    return _taken_over(newest) if newest and newest.tests_file.is_file() else None


def _is_on(run: Run, source_sha256: str, owner: str) -> bool:
    try:
        record = run.record()
    except RunError:
        return False
    return record.source.sha256 == source_sha256 and record.owner == owner


def _taken_over(run: Run) -> Suite | None:
    try:
        suite = kept_tests(run)
    except DataError as error:
        raise DataError(
            f"{error} This run would take them over; choose other tests, or `none` for no tests."
        ) from error
    return suite and Suite(suite.tests, suite.for_all, f"run {run.id}, which has the same data")

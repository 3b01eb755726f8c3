"""Read general questions: ours, or those of a file of your own. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.split import opening_questions
from sft_app.errors import DataError
from sft_app.evaluation.checks import Check, parse_checks, with_lists
from sft_app.evaluation.suites.plain_yaml import load_yaml, refuse_unknown
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, write_jsonl_atomically

GENERAL_QUESTIONS_FILE = Path(__file__).with_name("general.jsonl")
OTHER = "other"
"""The kind of a question that names none."""
LARGEST_FILE = 20_000_000
_JSON_LINES = (".jsonl", ".ndjson")
QUESTION_ENDINGS = (*_JSON_LINES, ".json", ".yaml", ".yml")
_KEYS = ("kind", "messages", "checks")
_FORM = (
    'Each question needs "messages" that end with the assistant\'s reference answer; "kind" and "checks" are optional.'
)


@dataclass(frozen=True)
class GeneralQuestion:
    """A question with its reference answer; `checks` are what a good answer passes."""

    kind: str
    conversation: Conversation
    checks: tuple[Check, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """Return the question as a run folder holds it."""
        checks = [check.as_dict() for check in self.checks]
        return {"kind": self.kind, "messages": self.conversation.as_structured(), "checks": checks}


def read_general_questions(path: Path) -> list[GeneralQuestion]:
    """Read a JSONL file with a question per line, or a JSON or YAML file with a list of them, alone or under the key
    `questions`.

    Raises:
        DataError: the file cannot be read, or one of its questions cannot be used; the message says which and why.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path.name} is larger than {LARGEST_FILE // 1_000_000} MB. Use fewer general questions.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"The general questions in {path} cannot be read: {error.strerror or error}. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not a text file in UTF-8. Save the general questions as JSONL.") from error
    questions = [_question(path.name, place, row) for place, row in _entries(path, text)]
    if not questions:
        raise DataError(f"{path.name} contains no general questions. {_FORM}")
    return questions


def keep_general_questions(path: Path, questions: Sequence[GeneralQuestion]) -> None:
    """Write the questions to a run folder, so that its scorecard can be repeated."""
    write_jsonl_atomically(path, (question.as_row() for question in questions))


@contextmanager
def asking_instead(run: Run, questions: Sequence[GeneralQuestion]) -> Iterator[Path]:
    """Yield a file with these questions, or with the run's own if there are none.

    They take the place of the run's own if the block, which measures, ends without an error.
    """
    if not questions:
        yield general_questions_file(run)
        return
    with TemporaryDirectory(prefix="general-") as folder:
        keep_general_questions(file := Path(folder) / run.general_file.name, questions)
        yield file
        keep_general_questions(run.general_file, questions)


def general_questions_file(run: Run) -> Path:
    """Return the file of the questions for this run: its own copy if it was given others than ours."""
    return run.general_file if run.general_file.exists() else GENERAL_QUESTIONS_FILE


def rehearsed_note(run: Run, file: Path) -> str:
    """Say how many of the questions the run has rehearsed (`training/replay`); "" if it is none.

    The app's own questions and those that the run was given are never rehearsed; a file given later may contain some.
    """
    if not run.replay_file.exists():
        return ""
    rehearsed = {opening for row in iterate_jsonl(run.replay_file) for opening in _openings(row)} - {""}
    if not (asked := sum(not rehearsed.isdisjoint(_openings(row)) for row in iterate_jsonl(file))):
        return ""
    which = "1 general question was" if asked == 1 else f"{asked:,} general questions were"
    return f"{which} rehearsed during training, so less seems to be lost than is"


def _openings(row: dict[str, Any]) -> list[str]:
    return opening_questions((turn.get("role", ""), turn.get("content") or "") for turn in row.get("messages") or [])


def questions_by_number(path: Path) -> dict[int, GeneralQuestion]:
    """Read the questions of a run folder by their line, the first of which is 1."""
    rows = ({**row, "checks": with_lists(row.get("checks"))} for row in iterate_jsonl(path))
    return {number: _question(path.name, f"line {number}", row) for number, row in enumerate(rows, 1)}


def _entries(path: Path, text: str) -> Iterable[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in _JSON_LINES:
        return _lines(path.name, text)
    if suffix not in QUESTION_ENDINGS:
        raise DataError(f"{path.name} must be a .jsonl, .json, .yaml or .yml file with general questions.")
    value = _parse(path.name, text, is_json=suffix == ".json")
    if isinstance(value, dict) and "questions" in value:
        refuse_unknown(value, ("questions",), path.name)
        value = value["questions"]
    rows = value
    if not isinstance(rows, list):
        raise DataError(f"{path.name} must contain a list of general questions. {_FORM}")
    return [(f"question {number}", row) for number, row in enumerate(rows, 1)]


def _lines(name: str, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{name}, line {number}: this is not JSON: {error}.") from error


def _parse(name: str, text: str, is_json: bool) -> Any:
    if not is_json:
        return load_yaml(text, name)[0]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} cannot be read as JSON: {' '.join(str(error).split())[:200]}.") from error


def _question(name: str, place: str, row: Any) -> GeneralQuestion:
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise DataError(f"{name}, {place}: there are no messages. {_FORM}")
    refuse_unknown(row, _KEYS, f"{name}, {place}")
    kind = row.get("kind", OTHER)
    if not isinstance(kind, str) or not kind.strip():
        raise DataError(f"{name}, {place}: the kind must be a text, such as facts, got {kind!r:.80}.")
    try:
        conversation = make_conversation(row["messages"])
        checks = parse_checks(row.get("checks"))
    except DataError as error:
        raise DataError(f"{name}, {place}: {error}") from error
    if conversation.is_text():
        raise DataError(f"{name}, {place}: there is no question. {_FORM}")
    return GeneralQuestion(kind.strip(), conversation, checks)

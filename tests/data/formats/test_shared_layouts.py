"""A folder of layouts that people bring, next to the project, is read as its list says; skipped where it is absent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.fixes import RECOMMENDED, write_cleaned_copy
from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.reading import open_data
from sft_app.errors import DataError
from sft_app.settings import parse_settings

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "layouts"
LIST = FOLDER / "expected.json"
EXPECTED: dict[str, Any] = json.loads(LIST.read_text("utf-8")) if LIST.exists() else {}
NOT_SENTENCES = ("format", "columns", "kind", "fix")
TAGGED = re.compile(r"(?<=<tools>)(.*?)(?=</tools>)|(?<=<tool_call>)(.*?)(?=</tool_call>)", re.DOTALL)
Messages = list[dict[str, Any]]


@dataclass
class Outcome:
    """What a file became: its conversations and the report, or the error; and everything that was said."""

    said: str
    conversations: list[Messages] = field(default_factory=list)
    report: dict[str, Any] | None = None


def inspected(name: str, folder: Path, fix: bool) -> Outcome:
    """Do what `inspect NAME --json --out COPY` does, with `--fix` or without."""
    copy = folder / "copy.jsonl"
    settings = parse_settings({"data": str(FOLDER / name)})
    try:
        file = open_data(settings.reading(), folder)
        report = inspect_data(file, settings, None, repair=fix).as_json()
        write_cleaned_copy(file, RECOMMENDED if fix else (), copy)
    except DataError as error:
        return Outcome(str(error).replace(name, ""))
    lines = map(json.loads, copy.read_text("utf-8").splitlines())
    return Outcome("\n".join(sentences(report)).replace(name, ""), [line["messages"] for line in lines], report)


def sentences(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else []):
        if key not in NOT_SENTENCES:
            yield from sentences(inner)


def spelled(message: dict[str, Any]) -> str:
    """Return the content without blanks at its ends, and with JSON of tools in one spelling."""

    def respelled(text: str) -> str:
        try:
            return json.dumps(json.loads(text))
        except ValueError:
            return text

    content = message["content"].strip()
    return respelled(content) if message["role"] == "tool" else TAGGED.sub(lambda found: respelled(found[0]), content)


def is_learnt(message: dict[str, Any]) -> bool:
    return message["role"] in ("assistant", "text") and message.get("weight") != 0


def agrees(got: dict[str, Any], wanted: dict[str, Any], with_weight: bool) -> bool:
    is_text = all(part in got["content"] for part in wanted["holds"]) if "holds" in wanted else None
    is_text = spelled(got) == spelled(wanted) if is_text is None else is_text
    return got["role"] == wanted["role"] and is_text and (not with_weight or is_learnt(got) == is_learnt(wanted))


def is_like(got: Messages, wanted: Messages, with_weight: bool = True) -> bool:
    return len(got) == len(wanted) and all(agrees(*pair, with_weight) for pair in zip(got, wanted, strict=True))


def begins(outcome: Outcome, wanted: dict[str, Any]) -> bool:
    firsts = wanted.get("first_any") or [wanted["first"]]
    return bool(outcome.conversations) and any(is_like(outcome.conversations[0], first) for first in firsts)


def is_one_of(number: Any, wanted: Any) -> bool:
    return number in (wanted if isinstance(wanted, list) else [wanted])


def is_named(column: str, said: str) -> bool:
    return any(f"{opening}{column}{closing}" in said for opening, closing in ("``", "''", '""', "“”", "‘’"))


def faults_of_reading(outcome: Outcome, way: dict[str, Any]) -> Iterator[str]:
    if outcome.report is None:
        yield f"refused: {outcome.said}"
        return
    learnt = [one["content"] for chat in outcome.conversations for one in chat if is_learnt(one)]
    if not begins(outcome, way):
        yield f"begins with {outcome.conversations[:1]}"
    counts = [len(outcome.conversations), outcome.report["conversations"]]
    if not all(is_one_of(count, way["conversations"]) for count in counts):
        yield f"{counts} conversations"
    if not is_one_of(outcome.report["rows"], way["rows"]):
        yield f"{outcome.report['rows']} rows"
    for wanted in way.get("has", []):
        if not any(is_like(chat, wanted, with_weight=False) for chat in outcome.conversations):
            yield f"nowhere is {wanted}"
    yield from (f"learns {text!r}" for text in way.get("never", []) if any(text in answer for answer in learnt))
    whole = {answer.strip() for answer in learnt}
    yield from (f"learns {text!r} alone" for text in way.get("never_whole", []) if text in whole)


def faults_of(outcome: Outcome, way: dict[str, Any]) -> list[str]:
    faults = []
    if way["want"] == "read":
        faults = list(faults_of_reading(outcome, way))
    elif outcome.report is not None:
        faults = [f"read, not refused: {outcome.conversations[:1]}"]
    said = outcome.said.lower()
    if way.get("says") and not any(text.lower() in said for text in way["says"]):
        faults.append(f"says none of {way['says']}: {outcome.said[-300:]}")
    faults += [f"says {text!r}" for text in way.get("says_not", []) if text in outcome.said]
    return faults + [f"does not name {one}" for one in way.get("unused", []) if not is_named(one, outcome.said)]


def faults_of_fix(outcome: Outcome, wanted: dict[str, Any]) -> list[str]:
    if outcome.report is None:
        return [] if wanted.get("or_refuse") else [f"not fixed: {outcome.said}"]
    is_count = is_one_of(len(outcome.conversations), wanted["conversations"])
    return [] if is_count and begins(outcome, wanted) else [f"fixed to {outcome.conversations[:1]}"]


@pytest.mark.skipif(not EXPECTED, reason="the shared folder of layouts is absent")
def test_layouts_of_people_are_read_or_refused(tmp_path: Path) -> None:
    found = {}
    for name, entry in EXPECTED.items():
        outcome = inspected(name, tmp_path, fix=False)
        faults = min((faults_of(outcome, way) for way in (entry, *entry.get("or", []))), key=len)
        if "fix" in entry:
            faults += faults_of_fix(inspected(name, tmp_path, fix=True), entry["fix"])
        if faults:
            found[name] = faults
    assert found == {}

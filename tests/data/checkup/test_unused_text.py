"""A column of texts that is not used, next to answers of a word or two, may be the one that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.finding import Finding
from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.reading import open_data
from sft_app.settings import parse_settings

TEAMS = ["north", "south", "east", "west", "office"]


def rows_of(**named: str) -> list[dict[str, str]]:
    return [
        {name: text.format(n=n, team=TEAMS[n % 5], more="word " * (n % 7)) for name, text in named.items()}
        for n in range(40)
    ]


def found(folder: Path, rows: list[dict[str, str]], *columns: str) -> list[Finding]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = parse_settings({"data": str(path), **({"columns": columns} if columns else {})})
    findings = inspect_data(open_data(settings.reading(), folder), settings, None).findings
    return [finding for finding in findings if finding.kind in ("short_answers", "odd_answers")]


REPLY = "Dear customer, your parcel {n} left our house today {more}, and it will be with you very soon."


def test_short_answers_next_to_an_unused_text_are_told(tmp_path: Path):
    rows = rows_of(question="Where is my parcel {n}?", done="{team}", written=REPLY)
    [finding] = found(tmp_path, rows, "user=question", "assistant=done")
    assert finding.severity == "check"  # a person has chosen the columns
    assert "`written`, which is not used" in finding.message


@pytest.mark.parametrize(
    "named",
    [
        {"question": "Where is my parcel {n}?", "answer": REPLY, "notes": REPLY},
        {"question": "Where is my parcel {n}?", "answer": "{team}", "agent": "{team}"},
        {"prompt": "Where is my parcel {n}?", "chosen": "It is in the {team} {n}", "rejected": REPLY},
    ],
    ids=["long-answers", "no-text-unused", "rejected"],
)
def test_other_columns_are_no_finding(named: dict[str, str], tmp_path: Path):
    assert found(tmp_path, rows_of(**named)) == []


def test_ids_as_answers_are_serious(tmp_path: Path):
    rows: Any = rows_of(question="Where is my parcel {n}?", ticket="TCK-{n}0")
    [finding] = found(tmp_path, rows, "user=question", "assistant=ticket")
    assert (finding.kind, finding.severity) == ("odd_answers", "serious")

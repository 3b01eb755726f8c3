"""What is said about a data file before it is trained on, from the file to plain values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.inspection import Inspection, inspect_data
from sft_app.data.reading import open_data
from sft_app.errors import DataError
from sft_app.settings import EXAMPLE_DATA, parse_settings
from tests.chat_styles import CHATML, STYLES, dress

PROJECT = Path(__file__).resolve().parents[3]
FRAME = len("SuserNENSassistantNEN")  # S, E and N stand for start, end and newline


def row(question: str, answer: str, system: str = "") -> dict[str, Any]:
    opened = [{"role": "system", "content": system}] if system else []
    return {"messages": [*opened, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def inspect(tmp_path: Path, tokenizer: Any) -> Callable[..., Inspection]:
    """Rows as JSON lines, inspected; a text stands in the file as it is."""

    def inspect(rows: list[Any], tokenizer: Any = tokenizer, tell: Any = None, **settings: Any) -> Inspection:
        path = tmp_path / "a.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        chosen = parse_settings({"heldout_min": 1, "data": str(path), **settings})
        return inspect_data(open_data(chosen.reading(), tmp_path), chosen, tokenizer, tell)

    return inspect


def kinds(inspection: Inspection) -> list[tuple[str, list[int]]]:
    """Without the one that says that a file is small, which every one here is."""
    return [(finding.kind, finding.rows) for finding in inspection.findings if finding.kind not in ("few", "passes")]


# by hand


def test_inspection_tells_everything_in_plain_values(inspect: Any):
    several = {"messages": row("ab", "cde")["messages"] * 2}
    told = inspect([row("ab", "cde"), "oops", row("ab", "cde"), several, row("a", "")], max_length=1024).as_json()
    assert json.loads(json.dumps(told)) == told
    assert (told["format"], told["rows"], told["conversations"]) == ("messages", 5, 3)
    assert told["rejected"][1] == {"row": 5, "reason": "message 2 (assistant) is empty"}
    assert told["rejected"][0]["row"] == 2
    assert told["rejected"][0]["reason"].startswith("not valid JSON")
    assert [(finding["kind"], finding["rows"]) for finding in told["findings"]][0] == ("duplicate", [3])
    assert told["findings"][0].keys() >= {"kind", "rows", "message"}
    assert told["tokens"] | {"p50": FRAME + 5, "p95": 2 * FRAME + 10, "max": 2 * FRAME + 10} == told["tokens"]
    assert told["turns"] == {"single": 2, "several": 1, "max": 2}
    assert told["split"] == {"train": 2, "heldout": 1}


def test_rows_left_out_by_choice_are_told_apart_from_the_broken_ones(inspect: Any):
    problem = {"description": "Add.", "solutions": {"language": [3], "solution": ["x"]}}
    other = {"description": "Subtract.", "solutions": {"language": [2], "solution": ["y"]}}
    told = inspect([problem, other, "{", problem | {"description": "Divide."}]).as_json()
    assert [rejected["row"] for rejected in told["rejected"]] == [3]
    assert told["not_chosen"] == [{"row": 2, "reason": "it has no solution in Python 3"}]


def test_without_a_tokenizer_everything_but_the_tokens_is_told(inspect: Any):
    told = inspect([row("a", "b"), row("a", "b"), row("c", "d")], tokenizer=None).as_json()
    assert told["tokens"] is None
    assert told["findings"][0]["rows"] == [2]


def test_plain_text_is_inspected_too(inspect: Any):
    told = inspect([{"text": "One day."}, {"text": "Another day."}, {"text": ""}]).as_json()
    assert (told["format"], told["conversations"], told["rejected"][0]["row"]) == ("text", 2, 3)
    assert told["tokens"]["max"] == len("Another day.") + 1


# findings with their rows


def test_every_finding_of_a_file_names_its_rows(inspect: Any):
    long = " ".join(f"word{n}" for n in range(50))
    rows = [
        row("One?", "Here."),
        row("Two?", ""),  # cannot be mended
        {"messages": [{"role": "user", "content": "a"}, *row("b", "c")["messages"]]},
        row("One?", "Here."),
        row("Three?", long),
        row("Three, please?", long + " more"),
        row("Four?", "<p>So</p>"),
        row("Four?", "Write to nell.fern@mailbox.co.uk"),
        row("Five?", "x" * 600),
    ]
    assert kinds(inspect(rows, max_length=512)) == [
        ("personal_email", [8]),
        ("turns", [3]),
        ("duplicate", [4]),
        ("near_duplicate", [6]),
        ("same_question", [7, 8]),
        ("html", [7]),
        ("cut", [9]),
    ]


def test_guessed_encoding_is_found_with_its_row(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nWhere?,Here.\nThe café?,Not there.\n".encode("cp1252"))
    settings = parse_settings({"data": str(path), "heldout_min": 1})
    inspection = inspect_data(open_data(settings.reading(), tmp_path), settings, None)
    assert [kind for kind, _ in kinds(inspection)] == ["reading_guess"]


def test_leak_is_found_where_all_ask_the_same(inspect: Any):
    inspection = inspect([row("Why?", f"Because of {n}.") for n in range(40)], heldout_min=8)
    [(_, leaked)] = [finding for finding in kinds(inspection) if finding[0] == "leak"]
    assert len(leaked) == inspection.heldout == 8


def test_no_leak_is_found_where_copies_can_be_kept_together(inspect: Any):
    inspection = inspect([row(f"Question {n // 2}?", f"Answer {n // 2}.") for n in range(60)], heldout_min=8)
    assert [kind for kind, _ in kinds(inspection)] == ["duplicate"]
    assert inspection.heldout == 8


def test_too_few_to_hold_any_out_is_a_finding_and_no_error(inspect: Any):
    inspection = inspect([row("a", "b")] * 3, heldout_min=8)
    [few] = [finding for finding in inspection.findings if finding.kind == "few"]
    assert few.message.startswith("3 conversations are too few: 8 are held out")
    assert inspection.as_json()["split"] == {"train": 3, "heldout": 0}


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [
        ({"packing_strategy": "bfd"}, True),  # ten rows of 600 tokens hold 60 times 100
        ({"packing_strategy": "bfd", "packing": False}, False),
        ({"packing_strategy": "step"}, False),
        ({"packing_strategy": "step", "gradient_accumulation_steps": 6}, True),
        ({"trainer": "classic"}, False),
        ({"trainer": "classic", "block_size": 600}, True),
        ({"max_steps": -1, "num_train_epochs": 9}, True),
        ({"max_steps": -1, "num_train_epochs": 8}, False),
    ],
)
def test_data_that_is_learnt_by_heart_is_told(inspect: Any, settings: dict[str, Any], is_told: bool):
    """Six conversations of 100 tokens each."""
    rows = [row(f"{n}", f"{n}" + "x" * (100 - FRAME - 2)) for n in range(6)]
    given = {"max_steps": 10, "max_length": 600, "per_device_train_batch_size": 1, "replay": 0, **settings}
    inspection = inspect(rows, **given)
    assert inspection.lengths.percentile(1.0) == inspection.lengths.percentile(0.0) == 100
    assert any(finding.kind == "passes" for finding in inspection.findings) == is_told


def test_passes_count_what_is_left_of_cut_conversations(inspect: Any):
    """Twenty rows of 100 tokens are ten times what is kept of two conversations of 1,000."""
    rows = [row("a", "x" * 1000), row("b", "y" * 1000)]
    inspection = inspect(rows, max_length=100, max_steps=20, per_device_train_batch_size=1, packing_strategy="bfd")
    assert any(finding.kind == "passes" for finding in inspection.findings)


def test_the_little_that_an_automatic_max_length_cuts_is_no_finding(inspect: Any):
    """128 tokens hold 99 of the 100; asked for outright they are a finding, as is a cut that costs much."""
    rows = [row(f"Why is {n}?", f"Because of {n}" + "x" * 60) for n in range(99)] + [row("Long?", "y" * 130)]
    assert inspect(rows).lengths.max_length == 128
    assert "cut" not in [kind for kind, _ in kinds(inspect(rows))]
    assert ("cut", [100]) in kinds(inspect(rows, max_length=128))
    costly = [*rows[:-1], row("Long?", "y" * 3000)]
    assert ("cut", [100]) in kinds(inspect(costly))


# refusals


def test_rows_that_the_template_refuses_stand_among_the_rejected_in_order(inspect: Any, tokenizer: Any):
    refusing = dress(tokenizer, "{% if messages | length > 2 %}{{ raise_exception('Too long') }}{% endif %}" + CHATML)
    inspection = inspect([row("a", "b"), {"messages": row("a", "b")["messages"] * 2}, "{", row("c", "d")], refusing)
    assert [rejected.row for rejected in inspection.rejected] == [2, 3]
    assert "Too long" in inspection.rejected[0].reason
    assert ("template", [2]) in kinds(inspection)


def test_template_that_refuses_all_is_told_with_the_first_row(inspect: Any, tokenizer: Any):
    refusing = dress(tokenizer, "{{ raise_exception('Not today') }}")
    with pytest.raises(DataError, match=r"^Row 2: .*chat template rejects the conversation: Not today\.$"):
        inspect(["{", row("a", "b"), row("c", "d")], refusing)


def test_system_messages_are_no_obstacle_for_a_template_that_knows_none(inspect: Any, tokenizer: Any):
    inspection = inspect([row("a", "b", "Be."), row("c", "d")], dress(tokenizer, STYLES["gemma"]))
    assert (inspection.rejected, kinds(inspection)) == ([], [])


def test_file_without_a_conversation_is_told(inspect: Any):
    with pytest.raises(DataError, match=r"^a\.jsonl has no usable conversation\. Row 1: message 2 \(assistant\)"):
        inspect([row("a", "")])


# the pass


def test_only_max_rows_are_inspected(inspect: Any):
    told = inspect([row(f"q{n}", "<p>a</p>") for n in range(9)], max_rows=4).as_json()
    assert (told["rows"], told["conversations"]) == (4, 4)
    assert told["findings"][0]["rows"] == [1, 2, 3, 4]


def test_progress_rises_to_the_whole_over_reading_and_measuring(inspect: Any):
    told: list[float] = []
    inspect([row(f"q{n}", "a") for n in range(200)], tell=told.append)
    assert told == sorted(told)
    assert 0.9 <= told[-1] <= 1.0


def test_sample_stands_for_the_whole_where_there_are_many(inspect: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sft_app.data.checkup.inspection.LENGTH_SAMPLE_SIZE", 10)
    tokens = inspect([row(f"q{n}", "a") for n in range(40)]).as_json()["tokens"]
    assert (tokens["measured"], tokens["of"]) == (10, 40)


# the bundled example


def test_bundled_example_has_no_finding_without_a_model(tmp_path: Path):
    settings = parse_settings({})
    inspection = inspect_data(open_data(settings.reading(), tmp_path), settings, None)
    assert (inspection.findings, inspection.rejected) == ([], [])


@pytest.mark.starter
def test_bundled_example_has_no_finding_with_the_starter(starter_home: Path):
    from sft_app.models.catalog import resolve_model
    from sft_app.models.loading import load_tokenizer

    tokenizer = load_tokenizer(resolve_model("starter", None, starter_home), starter_home)
    settings = parse_settings({"data": EXAMPLE_DATA})
    inspection = inspect_data(open_data(settings.reading(), starter_home), settings, tokenizer)
    assert (inspection.findings, inspection.rejected) == ([], [])
    assert inspection.lengths.kept(inspection.lengths.max_length).conversations >= 0.99


INSPECT_IN_A_PROCESS = """
import sys
from pathlib import Path
from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.reading import open_data
from sft_app.settings import parse_settings
settings = parse_settings({"data": sys.argv[1], "heldout_min": 1})
print(hash("order"))
print(inspect_data(open_data(settings.reading(), Path(".")), settings, None).as_json())
"""


def test_inspection_is_the_same_in_every_process(tmp_path: Path):
    """Python hashes texts differently in each."""
    path = tmp_path / "a.jsonl"
    starts = ["Well, of course", "Oh yes, sure", "No, I fear"]
    rows = [row(f"Why {n % 25}?", f"{starts[n % 3]}, <b>number</b> {n % 40}") for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", INSPECT_IN_A_PROCESS, str(path)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ended = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True)
        told.append(ended.stdout.splitlines())
    assert told[0][0] != told[1][0]
    assert told[0][1:] == told[1][1:]
    assert "'style'" in told[0][1]

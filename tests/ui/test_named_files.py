"""The files that a run's settings name: what is said about them, and which ones a visitor of a Space may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.sources.data_files import SUFFIXES
from sft_app.errors import AccessError, AppError, DataError
from sft_app.hosting import Visitor
from sft_app.runtime.home import uploads_dir
from sft_app.settings import parse_settings
from sft_app.ui.context import PageContext
from sft_app.ui.services import named_files
from sft_app.ui.services.access import Access
from sft_app.ui.services.named_files import FILE_SETTINGS, describe_named_file
from tests.ui.test_permissions import OWNER, SPACE, STRANGER

EXCHANGE = [{"role": "user", "content": "Capital of France?"}, {"role": "assistant", "content": "Paris"}]
NO_ANSWER = json.dumps({"messages": EXCHANGE[:1]})
GOOD = {
    "heldout_data": ("held.csv", "question,answer\nWhere is it?,Here.\nWhy?,Because.\n", "held.csv: 2 conversations."),
    "validation_data": ("one.csv", "question,answer\nWhere is it?,Here.\n", "one.csv: 1 conversation."),
    "tests": (
        "my tests.yaml",
        "all:\n  - ended: true\ntests:\n  - prompt: Hi\n  - prompt: Bye\n    checks:\n      - contains: See you\n",
        "my tests.yaml: 2 tests with 3 checks.",
    ),
    "general_questions": (
        "general.jsonl",
        "\n".join(json.dumps({"messages": EXCHANGE, "checks": checks}) for checks in ([{"contains": "Paris"}], [])),
        "general.jsonl: 2 questions, 1 with checks.",
    ),
}


def describe(context: PageContext, name: str, value: Path | str, **more: Any) -> str:
    return describe_named_file(name, parse_settings({name: str(value), **more}), context.access, context.home)


def written(folder: Path, name: str) -> Path:
    file = folder / GOOD[name][0]
    file.write_text(GOOD[name][1], encoding="utf-8")
    return file


@pytest.mark.parametrize("name", FILE_SETTINGS)
def test_what_is_in_a_file_is_said_in_a_line(home: Path, tmp_path: Path, name: str) -> None:
    assert describe(PageContext(home), name, written(tmp_path, name)) == GOOD[name][2]


@pytest.mark.parametrize(("name", "value"), [("heldout_data", ""), ("tests", ""), ("tests", "none")])
def test_nothing_is_said_where_no_file_is_named(home: Path, name: str, value: str) -> None:
    assert describe(PageContext(home), name, value) == ""


@pytest.mark.parametrize(
    ("name", "file", "content", "told"),
    [
        ("heldout_data", "a.jsonl", '{"weight": 1}\n', r"a\.jsonl: The columns `weight` match no known layout\. Prov"),
        ("heldout_data", "a.jsonl", NO_ANSWER, r"a\.jsonl has no usable conversation\. Row 1: .* Correct the file"),
        ("heldout_data", "a.csv", "", r"a\.csv is empty"),
        ("validation_data", "a.xml", "<a/>", r"a\.xml is an XML file\. Export"),
        ("tests", "a.yaml", "- prompt: Hi\n", r"a\.yaml, test 1.*it has no checks\. Add"),
        ("general_questions", "a.json", "[1]", r"a\.json, question 1: there are no messages\. Each question needs"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(
    home: Path, tmp_path: Path, name: str, file: str, content: str, told: str
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=told):
        describe(PageContext(home), name, tmp_path / file)


@pytest.mark.parametrize("name", FILE_SETTINGS)
def test_a_missing_file_is_told_and_a_missing_upload_is_asked_for_again(home: Path, name: str) -> None:
    ending = FILE_SETTINGS[name][0]
    with pytest.raises(DataError, match=f"nowhere{ending}.* Check the path"):
        describe(PageContext(home), name, f"/nowhere{ending}")
    with pytest.raises(DataError, match=f"^gone{ending} no longer exists. Upload it again"):
        describe(PageContext(home), name, uploads_dir(home) / "0123" / f"gone{ending}")


def test_what_was_skipped_or_guessed_is_said(home: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("left,right\n" + "".join(f"What is {n} and {n}?,It is {2 * n} as always\n" for n in range(12)))
    told = describe(PageContext(home), "heldout_data", table)
    assert "the first question is “What is 0 and 0?”, its answer “It is 0 as always”" in told
    table.write_bytes("question,answer,id\nWho?,Müller,a\nWhy?,Because,b\nWhen?,,c\nWhere?,,d\n".encode("cp1252"))
    told = describe(PageContext(home), "heldout_data", table)
    assert told.startswith("table.csv: 2 conversations; 2 rows are skipped (the first is row 3: ")
    assert "Not used: `id`." in told and "Windows-1252" in told


def test_speakers_are_asked_for_on_the_data_tab_whose_answer_is_used(home: Path, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    turns = [{"speaker": "Tom", "text": "Where is it?"}, {"speaker": "Nell", "text": "Not yet."}]
    other = [{"speaker": "Ida", "text": "Is it dead?"}, {"speaker": "Nell", "text": "No."}]
    chats.write_text(f"{json.dumps({'turns': turns})}\n{json.dumps({'turns': other})}\n")
    with pytest.raises(DataError, match=r"chats.jsonl: .*Which of them is the assistant\? Enter .* Data tab: .*“Nell”"):
        describe(PageContext(home), "heldout_data", chats)
    assert describe(PageContext(home), "heldout_data", chats, assistant="Nell") == "chats.jsonl: 2 conversations."


def test_a_large_file_is_not_read_to_its_end(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_files, "COUNTED", 3)
    file = tmp_path / "a.csv"
    file.write_text("question,answer\n" + "Why?,Because\n" * 4)
    assert describe(PageContext(home), "heldout_data", file) == "a.csv: more than 3 conversations."


def test_a_dataset_on_the_hub_is_not_fetched_before_start(home: Path) -> None:
    assert describe(PageContext(home), "validation_data", "ann/chats") == named_files.ON_HUB


@pytest.mark.parametrize("visitor", [OWNER, STRANGER, Visitor()])
@pytest.mark.parametrize("name", FILE_SETTINGS)
def test_on_a_space_an_upload_may_be_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, visitor: Visitor
) -> None:
    monkeypatch.setattr(Access, "visitor", lambda self: visitor)
    context = PageContext(home, SPACE)
    kept = context.uploads.take(written(tmp_path, name))
    assert kept.is_relative_to(uploads_dir(home)) and kept.name == GOOD[name][0]
    assert describe(context, name, kept) == GOOD[name][2]
    context.access.check_settings(parse_settings({name: str(kept)}))


@pytest.mark.parametrize("visitor", [OWNER, STRANGER])
@pytest.mark.parametrize("name", FILE_SETTINGS)
def test_on_a_space_no_other_path_may_be_named_or_found_out_about(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, visitor: Visitor
) -> None:
    monkeypatch.setattr(Access, "visitor", lambda self: visitor)
    context = PageContext(home, SPACE)
    theirs = written(tmp_path, name)
    around = uploads_dir(home) / "x" / ".." / ".." / ".." / theirs.relative_to(theirs.anchor)
    for path in (theirs, tmp_path / f"missing{theirs.suffix}", around):
        with pytest.raises(AccessError, match=r"files on this machine cannot be used on a Space\. Upload the file"):
            describe(context, name, path)
    with pytest.raises(AppError) as caught:  # whose list of files would have the names of others
        describe(context, name, uploads_dir(home))
    assert GOOD[name][0] not in str(caught.value)


def test_on_a_space_only_trusted_visitors_name_a_dataset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Access, "visitor", lambda self: STRANGER)
    with pytest.raises(AccessError, match="can fetch datasets"):
        describe(PageContext(home, SPACE), "heldout_data", "ann/chats")
    monkeypatch.setattr(Access, "visitor", lambda self: OWNER)
    assert describe(PageContext(home, SPACE), "heldout_data", "ann/chats") == named_files.ON_HUB


def test_uploaded_tests_are_not_among_the_recent_examples(home: Path, tmp_path: Path) -> None:
    uploads = PageContext(home).uploads
    kept = [uploads.take(written(tmp_path, name)) for name in ("tests", "heldout_data")]
    assert kept[0].suffix not in SUFFIXES and uploads.recent(9) == kept[1:]

"""A fix makes a cleaned copy in which its finding is gone, says what it did, and leaves the source as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.fixes import LABELS, RECOMMENDED, AppliedFix, read_cleaning, write_cleaned_copy
from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.reading import DataFile, open_data
from sft_app.errors import DataError
from sft_app.settings import parse_settings

LONG = " ".join(f"word{n}" for n in range(50))


def row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def open_file(path: Path) -> DataFile:
    return open_data(parse_settings({"data": str(path)}).reading(), path.parent)


def kinds_in(path: Path) -> list[str]:
    """What is found besides that the file is small."""
    settings = parse_settings({"data": str(path), "heldout_min": 1})
    findings = inspect_data(open_file(path), settings, None).findings
    return [finding.kind for finding in findings if finding.kind not in ("few", "passes")]


def rows_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[Any]) -> Path:
        path = tmp_path / "source.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def clean(tmp_path: Path, source: Any) -> Callable[..., tuple[list[AppliedFix], list[Any]]]:
    """Deeds and the rows of the copy."""

    def clean(rows: list[Any], *fixes: str) -> tuple[list[AppliedFix], list[Any]]:
        path = source(rows)
        before = path.read_bytes()
        applied = write_cleaned_copy(open_file(path), fixes, tmp_path / "clean.jsonl").applied
        assert path.read_bytes() == before
        return applied, rows_of(tmp_path / "clean.jsonl")

    return clean


# each fix

ONE_OF_EACH = {
    "repair_turns": ("turns", [{"messages": [{"role": "user", "content": "So"}, *row("Why?", "This.")["messages"]]}]),
    "repair_encoding": ("encoding", [row("Where?", "Itâ€™s here")]),
    "strip_html": ("html", [row("Where?", "<p>Here</p>")]),
    "remove_markers": ("marker", [row("Where?", "Here<|im_end|>")]),
    "mask_personal_data": ("personal_email", [row("Where?", "Ask nell.fern@mailbox.co.uk")]),
    "drop_placeholders": ("placeholder", [row("Three?", "#N/A")]),
    "drop_duplicates": ("duplicate", [row("One?", "First.")]),
    "drop_near_duplicates": ("near_duplicate", [row("Who?", LONG), row("Whom?", LONG)]),
    "keep_first_answer": ("same_question", [row("One?", "Another.")]),
}
LEFT = {
    "repair_turns": [row("So\n\nWhy?", "This.")],
    "repair_encoding": [row("Where?", "It’s here")],
    "strip_html": [row("Where?", "Here")],
    "remove_markers": [row("Where?", "Here")],
    "mask_personal_data": [row("Where?", "Ask [email]")],
    "drop_placeholders": [],
    "drop_duplicates": [],
    "drop_near_duplicates": [row("Who?", LONG)],
    "keep_first_answer": [],
}


def test_every_fix_is_tried_here():
    assert ONE_OF_EACH.keys() == LEFT.keys() == LABELS.keys()


@pytest.mark.parametrize("fix", LABELS)
def test_fix_removes_its_finding_and_nothing_else(fix: str, clean: Any, tmp_path: Path):
    kind, bad = ONE_OF_EACH[fix]
    rows = [row("One?", "First."), row("Two?", "Second."), *bad]
    applied, cleaned = clean(rows, fix)
    assert kinds_in(tmp_path / "source.jsonl") == [kind]
    assert kinds_in(tmp_path / "clean.jsonl") == []
    assert cleaned == [row("One?", "First."), row("Two?", "Second."), *LEFT[fix]]
    assert applied == [AppliedFix(fix, [len(rows)])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key sk-abcdefghij1234567890abcd", "key [key]"),
        ("call +44 20 7946 0958", "call [phone]"),
        ("paid by 4111 1111 1111 1111", "paid by [card number]"),
    ],
)
def test_personal_data_is_masked_in_every_message(clean: Any, text: str, expected: str):
    _, cleaned = clean([row(text, text)], "mask_personal_data")
    assert cleaned == [row(expected, expected)]


def test_message_that_a_fix_would_empty_keeps_its_text(clean: Any):
    applied, cleaned = clean([row("<br>", "<b>So</b>")], "strip_html")
    assert cleaned == [row("<br>", "So")]
    assert applied == [AppliedFix("strip_html", [1])]


def test_without_fixes_the_usable_rows_are_written_as_they_are(clean: Any):
    used = row("One?", "<b>a</b>")
    assert clean([used, "{", row("Two?", ""), used]) == ([], [used, used])


def test_fix_that_finds_nothing_is_told_with_no_row(clean: Any):
    applied, _ = clean([row("One?", "First.")], *RECOMMENDED)
    assert applied == [AppliedFix(fix, []) for fix in RECOMMENDED]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How does é look if UTF-8 is read as Latin-1?", "It looks like Ã©."),
        ("How does a Llama 2 prompt format begin?", "[INST] Hi [/INST]"),
        ("Write the HTML of a heading.", "<h1>Kettles</h1>"),
        ("Is one smaller?", "If x<p and p>0; write &lt; in HTML."),
        ("Write a scene.", "User: My kettle leaks.\nAssistant: Bring it in.\nUser: Bye."),
    ],
)
def test_what_a_conversation_is_about_is_no_fault(clean: Any, question: str, answer: str):
    rows = [row(question, answer)]
    assert clean(rows, "repair_encoding", "remove_markers", "strip_html")[1] == rows


# fixes together


def test_mended_row_that_becomes_a_copy_is_left_out(clean: Any):
    broken = {"messages": [*row("One?", "First.")["messages"], {"role": "user", "content": "Thanks"}]}
    applied, cleaned = clean([row("One?", "First."), broken, row("Two?", "b")], "drop_duplicates", "repair_turns")
    assert cleaned == [row("One?", "First."), row("Two?", "b")]
    assert applied == [AppliedFix("repair_turns", [2]), AppliedFix("drop_duplicates", [2])]


def test_rows_that_only_a_fix_makes_equal_are_no_copies(clean: Any):
    rows = [row(f"Who wrote {name}@mailbox.co.uk?", "A customer.") for name in ("nell", "orla")]
    applied, cleaned = clean(rows, "mask_personal_data", "drop_duplicates")
    assert cleaned == [row("Who wrote [email]?", "A customer.")] * 2
    assert applied == [AppliedFix("mask_personal_data", [1, 2]), AppliedFix("drop_duplicates", [])]


def test_address_of_the_shop_is_kept_and_that_of_a_customer_is_not(clean: Any, tmp_path: Path):
    rows = [row(f"Where is parcel {n}?", f"{n} days. Ask help@fern-hill.co.uk.") for n in range(12)]
    _, cleaned = clean([*rows, row("I am nell@mailbox.co.uk", "Hello!")], *RECOMMENDED)
    assert cleaned == [*rows, row("I am [email]", "Hello!")]
    assert kinds_in(tmp_path / "source.jsonl") == ["personal_email"]
    assert kinds_in(tmp_path / "clean.jsonl") == []


def test_addresses_that_most_answers_consist_of_are_told_and_kept(clean: Any, tmp_path: Path):
    rows = [row(f"Find it: write to nell{n}@mailbox.co.uk", f"nell{n}@mailbox.co.uk") for n in range(12)]
    _, cleaned = clean(rows, *RECOMMENDED)
    assert cleaned == rows
    settings = parse_settings({"data": str(tmp_path / "source.jsonl"), "heldout_min": 1})
    findings = inspect_data(open_file(tmp_path / "source.jsonl"), settings, None).findings
    [finding] = [finding for finding in findings if finding.kind == "personal_email"]
    assert (finding.fix, finding.severity) == ("", "check") and "seems to be meant" in finding.message


def test_row_that_two_fixes_leave_out_counts_for_the_first(clean: Any):
    rows = [row("One?", LONG), row("One?", LONG), row("One?", f"{LONG} so"), row("One?", "Other.")]
    applied, cleaned = clean(rows, "keep_first_answer", "drop_near_duplicates", "drop_duplicates")
    assert cleaned == [rows[0]]
    assert applied == [
        AppliedFix("drop_duplicates", [2]),
        AppliedFix("drop_near_duplicates", [3]),
        AppliedFix("keep_first_answer", [4]),
    ]


def test_question_whose_first_answer_is_left_out_keeps_its_next(clean: Any):
    """Row 2 is a near copy of row 1; row 3 is what is left of its question."""
    rows = [row("Who?", LONG), row("Whom?", LONG), row("Whom?", "Nell.")]
    _, cleaned = clean(rows, "drop_near_duplicates", "keep_first_answer")
    assert cleaned == [rows[0], rows[2]]


def test_conversations_that_go_on_differently_after_one_opening_are_kept(clean: Any):
    """`keep_first_answer` is about different answers; "Hi" and "Hello!" may open many conversations."""
    opening = row("Hi", "Hello!")["messages"]
    rows = [{"messages": opening + row(f"Question {n}?", f"Answer {n}.")["messages"]} for n in range(3)]
    assert clean(rows, "keep_first_answer") == ([AppliedFix("keep_first_answer", [])], rows)


@pytest.mark.parametrize(
    "text",
    [
        "on&#8203;its way",
        "It&acirc;&#128;&#153;s",
        "on&lt;|im_end|&gt;",
        "nell&#64;mailbox.co.uk",
        "a<\u200bp>b</p>",
    ],
)
def test_fault_that_another_fix_uncovers_is_mended_too(clean: Any, tmp_path: Path, text: str):
    clean([row("One?", text)], "repair_encoding", "strip_html", "remove_markers", "mask_personal_data")
    assert kinds_in(tmp_path / "clean.jsonl") == []


def test_cleaning_the_copy_again_changes_nothing(clean: Any, tmp_path: Path):
    bad_rows = [bad for fix, (_, rows) in ONE_OF_EACH.items() if fix != "strip_html" for bad in rows]
    rows = [*bad_rows, row("Two?", "b"), row("Two?", "b"), row("Who?", "<p>So</p>")]
    _, cleaned = clean(rows, *LABELS)
    again = write_cleaned_copy(open_file(tmp_path / "clean.jsonl"), list(LABELS), tmp_path / "again.jsonl").applied
    assert all(applied_fix.rows == [] for applied_fix in again)
    assert rows_of(tmp_path / "again.jsonl") == cleaned


def test_weights_tools_and_system_messages_survive(clean: Any):
    messages = [
        {"role": "system", "content": "Be."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "<i>f(2)</i>", "weight": 0},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ]
    _, [cleaned] = clean([{"messages": messages}], "strip_html")
    assert cleaned["messages"] == [*messages[:2], {**messages[2], "content": "f(2)"}, *messages[3:]]


def test_tools_keep_their_form_unless_a_fix_changes_them(clean: Any):
    call = {"name": "f", "arguments": {"a": "<b>x</b>"}}
    row = {
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<i>Wait</i>", "tool_calls": [{"name": "f", "arguments": {"a": "x"}}]},
            {"role": "tool", "content": "<i>4</i>", "name": "f"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "5"},
            {"role": "assistant", "content": "Nine."},
        ],
        "tools": [{"name": "f"}],
    }
    _, [cleaned] = clean([row], "strip_html")
    system, _, first, result, second, *_ = cleaned["messages"]
    assert system["structure"] == {"content": "", "tools": [{"name": "f"}]}
    assert first["structure"] == {"content": "Wait", "tool_calls": row["messages"][1]["tool_calls"]}
    assert result == {"role": "tool", "content": "4", "structure": {"name": "f"}}
    assert "structure" not in second and '"a": "x"' in second["content"]


def test_plain_text_and_tables_can_be_read_again(tmp_path: Path):
    text, table = tmp_path / "a.txt", tmp_path / "b.csv"
    text.write_text("One <b>day</b>.\n\nAnother.\n")
    table.write_text("question,answer\nOne?,<b>First</b>.\n")
    for path in (text, table):
        write_cleaned_copy(open_file(path), ["strip_html"], tmp_path / f"{path.name}.jsonl")
    assert rows_of(tmp_path / "a.txt.jsonl") == [
        {"messages": [{"role": "text", "content": content}]} for content in ("One day.", "Another.")
    ]
    assert rows_of(tmp_path / "b.csv.jsonl") == [row("One?", "First.")]
    assert kinds_in(tmp_path / "a.txt.jsonl") == kinds_in(tmp_path / "b.csv.jsonl") == []


# the files


def test_what_was_done_stands_beside_the_copy(clean: Any, tmp_path: Path):
    clean([row("One?", "a"), row("One?", "a"), row("Two?", "<b>c</b>")], "drop_duplicates", "strip_html")
    told = json.loads((tmp_path / "clean.jsonl.cleaning.json").read_text())
    assert told["source"] == str(tmp_path / "source.jsonl")
    assert told["applied"] == [{"fix": "strip_html", "rows": [3]}, {"fix": "drop_duplicates", "rows": [2]}]


def test_what_an_earlier_version_wrote_beside_a_copy_is_read(clean: Any, tmp_path: Path):
    clean([row("One?", "a"), row("One?", "a")], "drop_duplicates")
    note = tmp_path / "clean.jsonl.cleaning.json"
    note.write_text(note.read_text().replace('"applied"', '"deeds"'))
    cleaning = read_cleaning(tmp_path / "clean.jsonl")
    assert cleaning is not None and cleaning.applied == [AppliedFix("drop_duplicates", [2])]


def test_rows_that_no_fix_could_save_stand_beside_the_copy_too(clean: Any, tmp_path: Path):
    clean([row("One?", "a"), row("Two?", "")], "drop_duplicates")
    cleaning = read_cleaning(tmp_path / "clean.jsonl")
    assert cleaning is not None and [left.row for left in cleaning.left_out] == [2]


def test_other_files_are_no_cleaned_copies(tmp_path: Path):
    (tmp_path / "a.jsonl.cleaning.json").write_text("[]")
    assert read_cleaning(tmp_path / "a.jsonl") is None and read_cleaning(tmp_path / "b.jsonl") is None


@pytest.mark.parametrize(("rows", "said"), [([], "0 rows"), ([4], "1 row"), ([1, 2], "2 rows")])
def test_deed_is_told_as_a_sentence(rows: list[int], said: str):
    assert AppliedFix("drop_duplicates", rows).sentence() == f"Remove exact duplicates: {said}"


def test_folder_of_the_copy_is_made(source: Any, tmp_path: Path):
    copy = tmp_path / "new" / "folder" / "clean.jsonl"
    write_cleaned_copy(open_file(source([row("a", "b")])), (), copy)
    assert rows_of(copy) == [row("a", "b")]


def test_progress_rises_to_the_whole_over_both_passes(source: Any, tmp_path: Path):
    told: list[float] = []
    write_cleaned_copy(open_file(source([row(f"{n}", "b") for n in range(9)])), (), tmp_path / "c.jsonl", told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


# refusals


def test_unknown_fix_is_refused_with_those_there_are(source: Any, tmp_path: Path):
    with pytest.raises(DataError, match=r"^There is no fix 'polish'. Choose from repair_turns, repair_encoding"):
        write_cleaned_copy(open_file(source([row("a", "b")])), ["strip_html", "polish"], tmp_path / "clean.jsonl")
    assert not (tmp_path / "clean.jsonl").exists()


def test_copy_with_nothing_in_it_is_refused(source: Any, tmp_path: Path):
    with pytest.raises(DataError, match=r"^source\.jsonl has no usable conversation\. Row 1: message 2"):
        write_cleaned_copy(open_file(source([row("a", "")])), RECOMMENDED, tmp_path / "clean.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.jsonl"]


@pytest.mark.parametrize("way", ["same-name", "other-spelling", "symbolic-link", "hard-link"])
def test_source_is_never_overwritten(source: Any, tmp_path: Path, way: str):
    path = source([row("a", "<b>b</b>")])
    before, copy = path.read_bytes(), path
    if way == "other-spelling":
        copy = tmp_path / ".." / tmp_path.name / path.name
    elif way == "symbolic-link":
        copy = tmp_path / "link.jsonl"
        copy.symlink_to(path)
    elif way == "hard-link":
        copy = tmp_path / "link.jsonl"
        copy.hardlink_to(path)
    with pytest.raises(
        DataError, match=r"would overwrite the source source\.jsonl\. Choose another name for the cleaned copy"
    ):
        write_cleaned_copy(open_file(path), ["strip_html"], copy)
    assert path.read_bytes() == before


def test_note_beside_the_copy_does_not_overwrite_the_source(tmp_path: Path):
    path = tmp_path / "a.jsonl.cleaning.json"
    path.write_text(json.dumps([row("a", "b")]))
    with pytest.raises(DataError, match="would overwrite the source"):
        write_cleaned_copy(open_file(path), (), tmp_path / "a.jsonl")


def test_copy_with_another_ending_than_its_content_is_refused(source: Any, tmp_path: Path):
    with pytest.raises(
        DataError, match=r"is written as JSONL, got the name clean\.csv\. Choose a name that ends in \.jsonl\."
    ):
        write_cleaned_copy(open_file(source([row("a", "b")])), (), tmp_path / "clean.csv")


def test_copy_that_cannot_be_written_is_told(source: Any, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^The cleaned copy could not be written to .*clean\.jsonl: "):
        write_cleaned_copy(open_file(source([row("a", "b")])), (), tmp_path / "file" / "clean.jsonl")


def test_rows_that_differ_in_what_is_not_read_are_no_copies(clean: Any):
    pair = {"prompt": "And then?", "completion": "Half as much."}
    rows = [{**pair, "notes": f"the customer had asked about {plant} before"} for plant in ("ferns", "figs")]
    assert len(clean([*rows, rows[0]], "drop_duplicates")[1]) == 2


def test_rows_with_different_system_messages_are_no_near_copies(clean: Any, tmp_path: Path):
    rows = [
        {"messages": [{"role": "system", "content": f"Answer {way}."}, *row("Who?", LONG)["messages"]]}
        for way in ("formally", "casually")
    ]
    assert clean(rows, "drop_near_duplicates")[1] == rows
    assert "near_duplicate" not in kinds_in(tmp_path / "source.jsonl")

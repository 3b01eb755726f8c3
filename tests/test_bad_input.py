"""Whatever file a person brings: the good rows are read and the bad place is named, or one line says what to do."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Ended, assert_one_clear_line
from tests.data.sources.hub_stand_in import child_environment, running_hub, write_plain

pytestmark = pytest.mark.usefixtures("one_thread")
PROJECT = Path(__file__).resolve().parents[1]
GOOD = [{"prompt": f"Where is order {number}?", "completion": "Soon!"} for number in range(9)]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD)
LONG = b'{"prompt": "' + b"x" * 50_000_000 + b'", "completion": "y"}'
Inspect = Callable[..., Ended]


@pytest.fixture
def inspect(cli: Any, tmp_path: Path, tiny_model_dir: Path) -> Inspect:
    """`inspect NAME --json` of a file with this content."""

    def run(name: str, content: bytes, *options: str) -> Ended:
        (tmp_path / name).write_bytes(content)
        return cli("inspect", tmp_path / name, "--model", tiny_model_dir, "--json", *options)

    return run


def read_with(ended: Ended) -> tuple[int, list[tuple[int, str]]]:
    """How many conversations were read, and the rows left out with their reasons."""
    assert (ended.status, ended.err) == (0, "")
    report = ended.json
    return report["conversations"], [(row["row"], row["reason"]) for row in report["rejected"]]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.jsonl", b"", "empty.jsonl is empty."),
        ("empty.csv", b"", "empty.csv is empty."),
        ("mark.jsonl", b"\xef\xbb\xbf", "mark.jsonl: the file is empty."),
        ("blank.jsonl", b"\n \n\n", "blank.jsonl contains no rows."),
        ("none.json", b"[]", "none.json contains no rows."),
        ("header.csv", b"question,answer\n", "header.csv: there are no rows below its header."),
        ("none.jsonl.gz", gzip.compress(b"", mtime=0), "none.jsonl.gz: the file is empty."),
    ],
)
def test_file_without_a_row_is_told(inspect: Inspect, name: str, content: bytes, told: str) -> None:
    assert_one_clear_line(inspect(name, content), told)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.replace("\n", "\r\n").encode(),
        LINES.encode("utf-16"),
        b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode(),
    ],
)
def test_byte_order_mark_and_line_ends_of_windows_do_no_harm(inspect: Inspect, content: bytes) -> None:
    assert read_with(inspect("windows.jsonl", content)) == (9, [])


def test_csv_as_excel_writes_it_is_read(inspect: Inspect) -> None:
    table = "\ufeffquestion;answer\r\nWo ist es?;Dort\r\nWann?;Bald\r\n"
    assert read_with(inspect("excel.csv", table.encode())) == (2, [])


def test_latin_1_is_read_and_the_guess_is_told(inspect: Inspect) -> None:
    ended = inspect("old.jsonl", LINES.encode() + '{"prompt": "Où?", "completion": "Là"}\n'.encode("latin-1"))
    assert read_with(ended) == (10, [])
    (guess,) = [finding for finding in ended.json["findings"] if finding["kind"] == "reading_guess"]
    assert (guess["rows"], guess["message"]) == ([10], "1 row was read as Windows-1252 (check the accents).")


def test_broken_utf8_costs_only_its_line(inspect: Inspect) -> None:
    broken = LINES.encode() + b'{"prompt": "\xc3\xa4 \xff", "completion": "x"}\n' + LINES.encode()
    reason = "byte 16 of the line is not UTF-8; save the file again as UTF-8"
    assert read_with(inspect("broken.jsonl", broken)) == (18, [(10, reason)])


def test_rows_before_the_cut_of_a_json_list_are_kept_and_the_place_is_told(inspect: Inspect) -> None:
    cut = "[" + ",\n".join(json.dumps(row) for row in GOOD) + ',\n{"prompt": "Whe'
    reason = "the file ends at line 10, column 16 before the row or the list is closed; it seems to be cut off"
    assert read_with(inspect("cut.json", cut.encode())) == (9, [(10, reason)])


def test_bad_line_among_good_ones_is_left_out_and_told(inspect: Inspect) -> None:
    conversations, rejected = read_with(inspect("bad.jsonl", (LINES + "not json\n" + LINES).encode()))
    assert conversations == 18
    assert rejected == [(10, "not valid JSON: Expecting value at column 1")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "the row must be an object with named columns, got a list"),
        ("7", "the row must be an object with named columns, got a number"),
        ("null", "the row must be an object with named columns, got null"),
        ('{"other": 1}', "`prompt` must be text or a list of messages, got nothing"),
        (
            '{"prompt": {"a": {"b": []}}, "completion": "x"}',
            "`prompt` must be text or a list of messages, got an object",
        ),
        ('{"prompt": [["a"]], "completion": "x"}', "message 1 needs a `role` and a `content`"),
        ('{"prompt": null, "completion": "x"}', "`prompt` must be text or a list of messages, got nothing"),
        ('{"prompt": "x", "completion": null}', "`completion` must be text or a list of messages, got nothing"),
        ('{"prompt": 7, "completion": "x"}', "`prompt` must be text or a list of messages, got a number"),
        ('{"prompt": "x", "completion": true}', "`completion` must be text or a list of messages, got true or false"),
        ('{"prompt": "x", "completion": ""}', "message 2 (assistant) is empty"),
    ],
)
def test_row_of_another_shape_is_left_out_and_told(inspect: Inspect, line: str, reason: str) -> None:
    assert read_with(inspect("mixed.jsonl", f"{LINES}{line}\n{LINES}".encode())) == (18, [(10, reason)])


def test_number_in_a_message_is_told(inspect: Inspect) -> None:
    def chat(answer: Any) -> str:
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
        return json.dumps({"messages": messages}) + "\n"

    reason = "message 2 (assistant) has a number as content; expected text"
    assert read_with(inspect("chats.jsonl", (chat("Hello") * 3 + chat(5)).encode())) == (3, [(4, reason)])


def test_table_of_numbers_is_refused_with_its_columns(inspect: Inspect) -> None:
    assert_one_clear_line(inspect("numbers.csv", b"a,b\n1,2\n3,4\n"), "The columns `a`, `b` match no known layout.")


def test_line_of_50_mb_is_left_out_and_does_not_stop_the_others(inspect: Inspect) -> None:
    reason = "50.0 MB long; a row can be at most 10 MB"
    assert read_with(inspect("long.jsonl", LINES.encode() + LONG + b"\n" + LINES.encode())) == (18, [(10, reason)])


@pytest.mark.parametrize("name", ["long.jsonl", "long.json"])
def test_file_of_one_line_of_50_mb_is_refused(inspect: Inspect, name: str) -> None:
    told = f"{name} has no readable row. Row 1: 50.0 MB long; a row can be at most 10 MB."
    assert_one_clear_line(inspect(name, LONG), told)


def test_table_of_10_000_columns_is_read_by_those_that_hold_the_question_and_the_answer(inspect: Inspect) -> None:
    header = "question,answer," + ",".join(f"c{number}" for number in range(9998))
    rows = "".join(f"What is {number}?,A number" + ",1" * 9998 + "\n" for number in range(3))
    assert read_with(inspect("wide.csv", f"{header}\n{rows}".encode())) == (3, [])


def test_10_000_columns_that_fit_no_layout_do_not_fill_the_screen(inspect: Inspect) -> None:
    ended = inspect("wide.jsonl", json.dumps({f"c{number}": number for number in range(10_000)}).encode())
    assert_one_clear_line(ended, "The columns `c0`, `c1`,", "and 9,992 more match no known layout.")
    assert len(ended.err) < 300


def test_gzip_bomb_is_given_up_and_what_was_read_before_is_kept(inspect: Inspect) -> None:
    bomb = gzip.compress(LINES.encode() + b" " * 300_000_000, compresslevel=1)
    conversations, rejected = read_with(inspect("bomb.jsonl.gz", bomb))
    assert conversations == 9
    assert rejected == [(10, "the .gz file decompresses to more than 100 times its size; decompress it yourself first")]


def test_csv_whose_quotes_never_close_keeps_the_rows_before_and_tells_the_line(inspect: Inspect) -> None:
    table = b'question,answer\nWhere?,Here\nWhen?,"Soon\nWhy?,So\nHow?,Thus\n'
    conversations, ((row, reason),) = read_with(inspect("quotes.csv", table))
    assert (conversations, row) == (1, 2)
    assert reason.startswith(
        "a quote in the row that starts on line 3 is never closed, so that row and all rows after it were"
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("fake.parquet", b"PAR1 or so", "fake.parquet: the file is not Parquet, or is damaged or cut off"),
        ("text.parquet", LINES.encode(), "text.parquet: the file is not Parquet, or is damaged or cut off"),
        ("fake.jsonl.gz", b"hello", "fake.jsonl.gz: the .gz file is not gzip, or damaged"),
        ("packed.jsonl", gzip.compress(b"x", mtime=0), "packed.jsonl: the file is compressed with gzip; add .gz"),
        ("sheet.csv", b"PK\x03\x04" + b"\0" * 99, "sheet.csv: the file is a ZIP, Excel or Word file; save it as CSV"),
    ],
)
def test_file_that_is_not_what_its_name_says_is_refused(inspect: Inspect, name: str, content: bytes, told: str) -> None:
    assert_one_clear_line(inspect(name, content), told)


@pytest.mark.parametrize("data", ["json", "squad", "team/..", "../team/data", "team/../data", "owner/name/more"])
def test_name_that_is_neither_file_nor_data_set_is_refused(cli: Any, data: str) -> None:
    told = f"There is no data file {data}. To use a dataset on the Hub, enter the id shown on its page: owner/name."
    assert_one_clear_line(cli("inspect", data), told)


@pytest.mark.parametrize(
    "data",
    ["https://huggingface.co/datasets/team/plain/resolve/main/a.csv", "hf://datasets/team/plain/a.csv", "file:///a"],
)
def test_address_is_refused(cli: Any, data: str) -> None:
    assert_one_clear_line(
        cli("inspect", data),
        f"{data} is a web address",
        "To use a dataset on the Hub, enter the id shown on its page: owner/name.",
    )


CHILD = """
import sys
from sft_app.cli import main
for arguments in (["team/missing"], ["team/gated"], ["team/plain", "--set", "dataset_split=validation"]):
    try:
        main(["inspect", *arguments])
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
"""


def test_data_set_that_the_hub_does_not_give_is_one_line(home: Path, tmp_path: Path) -> None:
    """In another process, as the Hub's address is read at import."""
    with running_hub() as hub:
        hub.add("team/plain", write_plain(tmp_path / "plain"))
        hub.add("team/gated", write_plain(tmp_path / "gated"))
        hub.gated.add("team/gated")
        environment = child_environment(hub.endpoint, tmp_path / "cache") | {"SFT_APP_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-c", CHILD], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.stdout == ""
    missing, gated, no_split = done.stderr.splitlines()[::2]
    assert missing == "Error: The Hub has no dataset team/missing. Check the spelling; if it is private, " + (
        "log in with `hf auth login` or set HF_TOKEN."
    )
    assert gated.startswith("Error: team/gated is gated. Accept its terms at ")
    assert no_split == "Error: team/plain has no split 'validation'. Choose one of train, test."
    assert done.stderr.splitlines()[1::2] == ["1", "1", "1"]

"""Datasets of the Hub against a stand-in for it; in other processes, as the Hub's address is read at import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.sources.hub import HubDataset, fetch_dataset, read_source
from sft_app.errors import DataError
from tests.data.sources.hub_stand_in import (
    HubStandIn,
    child_environment,
    commit_of,
    running_hub,
    write_files,
    write_many,
    write_plain,
    write_table,
    write_thief,
)

PROJECT = Path(__file__).resolve().parents[3]
PLAIN = HubDataset("team/plain", None, "train", None, None)
TABLE = HubDataset("team/table", "code", "train", None, None)
CHILD = """
import json, sys
from pathlib import Path
from sft_app.data.sources.hub import HubDataset, fetch_dataset
from sft_app.errors import DataError
for request in json.load(sys.stdin):
    told = []
    try:
        answer = {"path": str(fetch_dataset(HubDataset(**request), Path(sys.argv[1]), told.append))}
    except DataError as error:
        answer = {"error": str(error)}
    print(json.dumps({**answer, "told": told}))
"""


def run_child(code: str, environment: dict[str, str], *arguments: str, text: str = "", cwd: Path = PROJECT) -> str:
    command, environment = [sys.executable, "-c", code, *arguments], {**environment, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        command, env=environment, cwd=cwd, input=text, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fetch(endpoint: str, folder: Path, cache: Path, *requests: HubDataset, cwd: Path = PROJECT) -> list[dict[str, Any]]:
    """`{"path" or "error", "told"}` for each; a cache of its own makes sure that only `folder` is remembered."""
    text = json.dumps([asdict(request) for request in requests])
    output = run_child(CHILD, child_environment(endpoint, cache), str(folder), text=text, cwd=cwd)
    return [json.loads(line) for line in output.splitlines()]


def rows_of(answer: dict[str, Any]) -> list[Any]:
    assert "path" in answer, answer
    return [json.loads(line) for line in Path(answer["path"]).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStandIn]:
    folder = tmp_path_factory.mktemp("hub")
    with running_hub() as hub:
        hub.add("team/plain", write_plain(folder / "plain"))
        hub.add("team/plain", write_plain(folder / "old", count=2), revision="v1")
        hub.add("team/table", write_table(folder / "table"))
        hub.add("team/many", write_many(folder / "many"))
        hub.add("team/gated", write_plain(folder / "gated"))
        hub.add("team/script", write_files(folder / "script", {"script.py": "1/0", "train.jsonl": '{"a": 1}\n'}))
        hub.add("team/card", write_files(folder / "card", {"README.md": "---\nlicense: mit\n---\n"}))
        hub.add("team/hollow", write_files(folder / "hollow", {"train.csv": "a,b\n"}))
        hub.add("team/broken", write_files(folder / "broken", {"train.jsonl": '{"a": 1}\n{"a": 2}\n{oh\n'}))
        hub.add("team/thief", write_thief(folder / "thief"))
        hub.gated.add("team/gated")
        yield hub


REQUESTS = {
    "whole": PLAIN,
    "test": replace(PLAIN, split="test"),
    "first three": replace(PLAIN, max_rows=3),
    "more than all": replace(PLAIN, max_rows=50),
    "tag": replace(PLAIN, revision="v1"),
    "table": TABLE,
    "prose": replace(TABLE, config="prose", split="test"),
    "missing": replace(PLAIN, id="team/missing"),
    "gated": replace(PLAIN, id="team/gated"),
    "no revision": replace(PLAIN, revision="v9"),
    "no split": replace(PLAIN, split="validation"),
    "slice": replace(PLAIN, split="train[:2]"),
    "no split of config": replace(TABLE, split="test"),
    "no config": replace(TABLE, config="verse"),
    "which config": replace(PLAIN, id="team/many"),
    "script": replace(PLAIN, id="team/script"),
    "card only": replace(PLAIN, id="team/card"),
    "hollow": replace(PLAIN, id="team/hollow"),
    "broken": replace(PLAIN, id="team/broken"),
    "thief": replace(PLAIN, id="team/thief"),
}


@pytest.fixture(scope="module")
def fetched(hub: HubStandIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fetched")


@pytest.fixture(scope="module")
def answers(hub: HubStandIn, fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """All requests in one process, for importing `datasets` takes longer than any of them.

    It runs where a folder has the name of the dataset, which must not be read in its place.
    """
    place = tmp_path_factory.mktemp("place")
    write_files(place / "team" / "plain", {"train.jsonl": '{"n": "from this machine"}\n'})
    given = fetch(hub.endpoint, fetched, tmp_path_factory.mktemp("cache"), *REQUESTS.values(), cwd=place)
    return dict(zip(REQUESTS, given, strict=True))


# what is fetched


def test_split_is_fetched_as_one_json_object_a_line(answers: dict[str, Any]):
    text = Path(answers["whole"]["path"]).read_text(encoding="utf-8")
    assert text == "".join(f'{{"n": {number}, "text": "é"}}\n' for number in range(4))
    assert rows_of(answers["test"]) == [{"n": 9, "text": "z"}]


def test_row_limit_gives_exactly_the_first_rows(answers: dict[str, Any]):
    assert [row["n"] for row in rows_of(answers["first three"])] == [0, 1, 2]
    assert [row["n"] for row in rows_of(answers["more than all"])] == [0, 1, 2, 3]


def test_revision_is_fetched_at_its_own_commit(answers: dict[str, Any], hub: HubStandIn):
    assert [row["n"] for row in rows_of(answers["tag"])] == [0, 1]
    source = read_source(Path(answers["tag"]["path"]))
    assert (source["revision"], source["commit"]) == ("v1", commit_of(hub.folders["team/plain"]["v1"]))


def test_config_chooses_the_files(answers: dict[str, Any]):
    assert rows_of(answers["prose"]) == [{"text": "a"}]
    assert len(rows_of(answers["table"])) == 2


def test_classes_become_names_and_dates_text_and_pictures_and_bytes_are_left_out(answers: dict[str, Any]):
    row = {"language": "PYTHON3", "solutions": [{"language": "C", "code": "main"}], "day": "2024-05-01"}
    assert rows_of(answers["table"]) == [row, {**row, "language": None}]


def test_file_name_tells_what_it_holds(answers: dict[str, Any], hub: HubStandIn):
    plain, table = (commit_of(hub.folders[id]["main"])[:12] for id in ("team/plain", "team/table"))
    assert Path(answers["first three"]["path"]).name == f"team-plain--train--{plain}--3.jsonl"
    assert Path(answers["table"]["path"]).name == f"team-table--code--train--{table}--all.jsonl"


def test_note_beside_the_file_tells_its_source(answers: dict[str, Any], hub: HubStandIn):
    path = Path(answers["table"]["path"])
    assert json.loads((path.parent / f"{path.stem}.source.json").read_text()) == {
        "id": "team/table",
        "config": "code",
        "split": "train",
        "revision": "main",
        "max_rows": None,
        "commit": commit_of(hub.folders["team/table"]["main"]),
        "rows": 2,
        "columns_left_out": ["picture", "pictures", "raw"],
        "licence": "mit, apache-2.0",
    }


def test_failed_requests_leave_no_file(answers: dict[str, Any], fetched: Path):
    paths = {Path(answer["path"]) for answer in answers.values() if "path" in answer}
    assert set(fetched.iterdir()) == paths | {path.with_suffix(".source.json") for path in paths}


@pytest.mark.parametrize(
    ("request_name", "told"),
    [
        ("first three", [1 / 3, 2 / 3, 1.0]),
        ("table", [0.5, 1.0]),
        ("whole", []),
        ("more than all", [0.02, 0.04, 0.06, 0.08]),
    ],
)
def test_progress_is_told_where_the_end_is_known(answers: dict[str, Any], request_name: str, told: list[float]):
    assert answers[request_name]["told"] == told


# what is refused


@pytest.mark.parametrize(
    ("request_name", "sentence"),
    [
        ("missing", "The Hub has no dataset team/missing. Check the spelling; if it is private, log in with "),
        ("gated", "team/gated is gated. Accept its terms at huggingface.co/datasets/team/ga"),
        ("no revision", "team/plain has no revision 'v9'. Enter a branch, tag or commit from its page, or leave "),
        ("no split", "team/plain has no split 'validation'. Choose one of train, test."),
        ("slice", "team/plain has no split 'train[:2]'. Choose one of train, test."),
        ("no split of config", "team/table, config code has no split 'test'. Choose one of train."),
        ("no config", "team/table has no config 'verse'. Choose one of code, prose."),
        ("which config", "team/many has several configs. Choose one of c0, c1, c2, c3, c4, c5, c6, c7 and 2 more."),
        (
            "script",
            "team/script can only be read with the loading script script.py, and scripts from the Hub are not run. "
            "Look ",
        ),
        ("card only", "team/card has no readable rows: it needs Parquet, JSON, JSONL, CSV or text files, "),
        ("hollow", "The split 'train' of team/hollow has no rows. Choose another split."),
        ("broken", "team/broken cannot be read (JSON parse error: "),
        ("thief", "team/thief cannot be read (Data files don't belong to team/thief. "),
    ],
)
def test_failure_is_one_sentence_that_says_what_to_do(answers: dict[str, Any], request_name: str, sentence: str):
    assert answers[request_name].get("error", "").startswith(sentence), answers[request_name]
    assert "\n" not in answers[request_name]["error"]


def test_unreachable_hub_is_told(hub: HubStandIn, tmp_path: Path):
    for endpoint in ("http://127.0.0.1:1", f"{hub.endpoint}/login-page"):
        (answer,) = fetch(endpoint, tmp_path / "out", tmp_path / "cache", PLAIN)
        expected = "The Hugging Face Hub could not be reached, so team/plain was not fetched. Connect to the internet "
        assert answer.get("error", "").startswith(f"{expected}and try again, ")


@pytest.mark.parametrize("rows", [0, -1])
def test_row_limit_below_one_is_refused(tmp_path: Path, rows: int):
    with pytest.raises(DataError, match=f"^Max rows must be at least 1, got {rows}\\."):
        fetch_dataset(replace(PLAIN, max_rows=rows), tmp_path)


# asking again


def test_same_request_is_answered_from_disk_until_the_commit_changes(tmp_path: Path):
    with running_hub() as hub:
        hub.add("team/plain", write_plain(tmp_path / "hub"))
        hub.add("team/plain", tmp_path / "hub", revision="v1")  # another name for the same commit
        (first,) = fetch(hub.endpoint, tmp_path / "out", tmp_path / "cache 1", PLAIN)
        assert "team/plain/train.jsonl" in hub.downloads
        hub.downloads.clear()
        again, tagged = fetch(
            hub.endpoint, tmp_path / "out", tmp_path / "cache 2", PLAIN, replace(PLAIN, revision="v1")
        )
        assert (again["path"], tagged["path"], hub.downloads) == (first["path"], first["path"], [])
        write_plain(tmp_path / "hub", count=1)
        (changed,) = fetch(hub.endpoint, tmp_path / "out", tmp_path / "cache 3", PLAIN)
    assert (len(rows_of(first)), len(rows_of(changed))) == (4, 1)
    os.utime(first["path"], (1, 1))
    assert fetch_dataset(PLAIN, tmp_path / "out") == Path(changed["path"])  # this process is offline
    with pytest.raises(DataError, match="cannot be fetched because HF_HUB_OFFLINE is set"):
        fetch_dataset(replace(PLAIN, max_rows=1), tmp_path / "out")


def test_file_without_its_note_is_fetched_again(tmp_path: Path):
    with running_hub() as hub:
        hub.add("team/plain", write_plain(tmp_path / "hub"))
        (first,) = fetch(hub.endpoint, tmp_path / "out", tmp_path / "cache", PLAIN)
        Path(first["path"]).write_text("cut")
        Path(first["path"]).with_suffix(".source.json").unlink()
        (again,) = fetch(hub.endpoint, tmp_path / "out", tmp_path / "cache", PLAIN)
    assert (again["path"], len(rows_of(again))) == (first["path"], 4)


def test_older_rows_in_the_cache_of_datasets_do_not_stand_in_for_what_cannot_be_read(tmp_path: Path):
    with running_hub() as hub:
        hub.add("team/plain", write_plain(tmp_path / "hub"))
        environment = child_environment(hub.endpoint, tmp_path / "cache")
        run_child("import datasets; datasets.load_dataset('team/plain')", environment)
        for name in ("train.jsonl", "test.jsonl"):
            (tmp_path / "hub" / name).unlink()
        (answer,) = fetch(hub.endpoint, tmp_path / "out", tmp_path / "cache", PLAIN)
    assert answer["error"].startswith("team/plain has no readable rows at this revision. ")

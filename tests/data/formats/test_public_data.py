"""Samples of public datasets, as they are: the layout is found and every row is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_app.data.reading import LoadedData, load_data, open_data
from sft_app.settings import DataSettings

SAMPLES = Path(__file__).parents[3].parent / "shared" / "data"
EXPECTED = {
    "alpaca.json": ("alpaca", 200),
    "dolly.json": ("dolly", 12),
    "gpteacher_roleplay.json": ("gpteacher", 200),
    "oasst_trees.jsonl": ("oasst", 20),
    "sharegpt.json": ("sharegpt", 120),
}

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the public samples are not on this machine")


def load(name: str, home: Path, **settings: str) -> LoadedData:
    return load_data(open_data(DataSettings(data=str(SAMPLES / name), **settings), home))  # type: ignore[arg-type]


def test_every_sample_is_expected():
    assert {path.name for path in SAMPLES.iterdir()} - {"README.md", "layouts"} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_row_is_a_conversation(name: str, tmp_path: Path):
    format, rows = EXPECTED[name]
    loaded = load(name, tmp_path)
    assert (loaded.file.settings.format, loaded.rows, loaded.rejected) == (format, rows, [])
    assert [example.row for example in loaded.examples] == list(range(1, rows + 1))
    assert [guess.format for guess in loaded.file.candidates] == [format]


@pytest.mark.parametrize(
    ("name", "first_answer"),
    [
        ("alpaca.json", "Making crepes is an easy and delicious process!"),
        ("dolly.json", "Virgin Australia commenced services on 31 August 2000"),
        ("gpteacher_roleplay.json", "The scene of the crime is a dimly lit study"),
        ("oasst_trees.jsonl", "The first step is to research your options."),
        ("sharegpt.json", "I am Vicuna, a language model trained by researchers"),
    ],
)
def test_first_answer_is_the_files(name: str, first_answer: str, tmp_path: Path):
    assert load(name, tmp_path).conversations[0].answers()[0].startswith(first_answer)


def test_all_paths_of_the_trees_are_more_than_the_best(tmp_path: Path):
    best, every = (load("oasst_trees.jsonl", tmp_path, reply_paths=paths) for paths in ("best", "all"))
    assert every.rejected == []
    assert set(best.conversations) < set(every.conversations)


def test_input_of_alpaca_is_in_the_question(tmp_path: Path):
    rows = json.loads((SAMPLES / "alpaca.json").read_text(encoding="utf-8"))
    expected = [row["instruction"] + ("\n" + row["input"] if row["input"] else "") for row in rows]
    assert [item.question() for item in load("alpaca.json", tmp_path).conversations] == expected
    assert any(row["input"] for row in rows)

"""What is taken for the name of a dataset on the Hub, and what its values become."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.sources.hub import HubDataset, fetch_dataset, is_dataset_id, refuse_if_unsafe
from sft_app.data.sources.hub_rows import plain_value, short_reason
from sft_app.errors import DataError

# names


@pytest.mark.parametrize("text", ["HuggingFaceH4/no_robots", "a/b", "deepmind/code_contests", "0x/v1.5-x", "a_/_b"])
def test_owner_and_name_is_an_id(text: str):
    assert is_dataset_id(text)
    refuse_if_unsafe(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the name is empty"),
        ("   ", "the name is empty"),
        ("json", "that is the name of a file format"),
        ("CSV", "that is the name of a file format"),
        ("parquet", "that is the name of a file format"),
        ("https://huggingface.co/datasets/a/b", "that is a web address"),
        ("hf://datasets/a/b", "that is a web address"),
        ("/etc/passwd", "that is a path on this machine"),
        ("~/data", "that is a path on this machine"),
        ("./a/b", "that is a path on this machine"),
        ("../a", "that is a path on this machine"),
        ("C:/data", "that is a path on this machine"),
        (r"\\share\a", "that is a path on this machine"),
        ("a/../b", "a name cannot contain `..`"),
        ("a/b.py", "that is a script, and scripts are not run"),
        ("data/train.jsonl", "that is the name of a file"),
        ("squad", "that is not an owner, a slash and a name"),
        ("a/b/c", "that is not an owner, a slash and a name"),
        ("a/", "that is not an owner, a slash and a name"),
        ("a--b/c", "that is not an owner, a slash and a name"),
        ("a/b c", "that is not an owner, a slash and a name"),
        ("a/b\n", "that is not an owner, a slash and a name"),
        ("ä/b", "that is not an owner, a slash and a name"),
        ("a/" + "b" * 97, "that is not an owner, a slash and a name"),
        ("datasets/squad", "that is not an owner, a slash and a name"),
        ("buckets/b", "that is not an owner, a slash and a name"),
    ],
)
def test_other_names_are_refused_with_what_they_are(tmp_path: Path, text: str, reason: str):
    assert not is_dataset_id(text)
    with pytest.raises(
        DataError, match=f" is not a dataset on the Hub: {reason}\\. Enter the id shown on its page, such as "
    ):
        fetch_dataset(HubDataset(text, None, "train", None, None), tmp_path)


def test_every_format_that_datasets_reads_is_refused_as_a_name():
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    assert [name for name in _PACKAGED_DATASETS_MODULES if is_dataset_id(name)] == []


def test_password_in_an_address_is_not_repeated():
    with pytest.raises(DataError, match="^This is not a dataset on the Hub: that is a web address\\."):
        refuse_if_unsafe("https://user:hf_secret@huggingface.co/datasets/a/b")


# values


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (1.5, 1.5),
        (True, True),
        (datetime.datetime(2024, 5, 1, 12, 30), "2024-05-01T12:30:00"),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(seconds=5), "0:00:05"),
        ({"a": [(1, datetime.date(2024, 5, 1))]}, {"a": [[1, "2024-05-01"]]}),
    ],
)
def test_value_is_what_json_holds(value: Any, plain: Any):
    assert plain_value(value) == plain
    assert json.loads(json.dumps(plain_value(value), allow_nan=False)) == plain


# reasons


def test_reason_is_one_line_without_signed_addresses():
    error = OSError("Client error\n\nfor https://files.example/a?signature=abc (x)")
    assert short_reason(error) == "Client error for its address (x)"


def test_reason_of_an_error_without_words_is_its_kind():
    assert short_reason(EOFError()) == "EOFError"

"""Which place is meant, who may open it, and a mounted folder as a store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sft_app.errors import SettingsError, StorageError
from sft_app.storage.stores import BucketStore, FolderStore, open_store, without_storage_token

BUCKET = "hf://buckets/anna/runs"


def test_no_place_is_no_storage() -> None:
    assert open_store({}) is None
    assert open_store({"SFT_APP_STORAGE": " "}) is None


def test_path_is_a_mounted_folder() -> None:
    assert open_store({"SFT_APP_STORAGE": "/data"}) == FolderStore(Path("/data"))


@pytest.mark.parametrize(
    ("place", "bucket", "prefix"),
    [(BUCKET, "anna/runs", ""), (f"{BUCKET}/", "anna/runs", ""), (f"{BUCKET}/a/b", "anna/runs", "a/b")],
)
def test_address_is_a_bucket_with_its_own_token(place: str, bucket: str, prefix: str) -> None:
    environment = {"SFT_APP_STORAGE": place, "SFT_APP_STORAGE_TOKEN": "hf_own", "HF_TOKEN": "hf_other"}
    assert open_store(environment) == BucketStore(bucket, prefix, "hf_own")
    assert "hf_own" not in repr(open_store(environment))


def test_bucket_without_its_own_token_takes_that_of_the_hub() -> None:
    assert open_store({"SFT_APP_STORAGE": BUCKET, "HF_TOKEN": "hf_other"}) == BucketStore("anna/runs", "", "hf_other")


@pytest.mark.parametrize("place", ["data", "hf://buckets/anna", "hf://models/anna/runs", "hf://buckets//runs"])
def test_other_places_are_refused_with_what_is_expected(place: str) -> None:
    with pytest.raises(
        SettingsError, match=re.escape(f"SFT_APP_STORAGE={place!r}: expected the path of a mounted folder")
    ):
        open_store({"SFT_APP_STORAGE": place})


def test_worker_is_not_given_the_token_of_the_storage() -> None:
    given = {"PATH": "/bin", "HF_TOKEN": "hf_models", "SFT_APP_STORAGE_TOKEN": "hf_own", "SFT_APP_STORAGE": BUCKET}
    assert without_storage_token(given) == {"PATH": "/bin", "HF_TOKEN": "hf_models", "SFT_APP_STORAGE": BUCKET}


def test_worker_is_not_given_the_token_of_the_hub_where_that_opens_the_storage() -> None:
    assert "HF_TOKEN" not in without_storage_token({"HF_TOKEN": "hf_models", "SFT_APP_STORAGE": BUCKET})


@pytest.mark.parametrize("storage", [{}, {"SFT_APP_STORAGE": "/data"}])
def test_token_of_the_hub_stays_where_it_opens_no_storage(storage: dict[str, str]) -> None:
    assert without_storage_token({"HF_TOKEN": "hf_models", **storage})["HF_TOKEN"] == "hf_models"


def test_folder_gives_back_what_was_put(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    store.put({"a/1/file": tmp_path / "file", "a/2/text": b"from memory"})
    assert store.names("") == ["a/1/file", "a/2/text"]
    assert store.names("a/2") == ["a/2/text"]
    store.fetch({"a/1/file": tmp_path / "back"})
    assert (tmp_path / "back").read_bytes() == b"from a file"
    store.delete(["a/1/file"])
    assert store.names("") == ["a/2/text"]
    assert not (store.root / "runs" / "a" / "1").exists()


def test_folder_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "data")
    with pytest.raises(StorageError, match=r"There is no folder .*data\. Check that the storage is mounted\."):
        store.put({"a/1/text": b""})
    assert not (tmp_path / "data").exists()


def test_file_that_is_gone_is_no_fault_of_the_storage(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put({"a/1/file": tmp_path / "gone"})


def test_full_folder_is_told(mounted: Path) -> None:
    (mounted / "runs").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written to: Not a directory"):
        FolderStore(mounted).put({"a/1/text": b""})

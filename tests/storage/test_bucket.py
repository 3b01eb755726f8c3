"""A bucket as a store: the real client library, and its transfer, against a bucket on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_app.runs.folder import Run
from sft_app.storage.backup import storage_state
from sft_app.storage.copies import copy_trouble
from tests.storage.bucket_stand_in import Bucket, bucket_on_this_machine
from tests.storage.conftest import contents, write_checkpoint

Make = Callable[..., Run]
TOKEN = "hf_ofAnna"
PROJECT = Path(__file__).resolve().parents[2]
# In a process of its own, since the client reads its address when it is imported.
KEEP = (
    "import sys, pathlib, logging; from sft_app.storage.backup import BackupWorker; "
    "from sft_app.storage.stores import open_store; "
    "worker = BackupWorker(pathlib.Path(sys.argv[1]), open_store()); worker.restore(); worker.back_up_changes()"
)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket("anna/runs", TOKEN)


@pytest.fixture
def keep(bucket: Bucket) -> Iterator[Callable[..., str]]:
    """Restores and copies once; what the process has printed."""
    with bucket_on_this_machine(bucket) as address:

        def run(home: Path, token: str = TOKEN, place: str = "hf://buckets/anna/runs/tuning") -> str:
            named = {"SFT_APP_STORAGE": place, "SFT_APP_STORAGE_TOKEN": token, "HF_ENDPOINT": address}
            done = subprocess.run(
                [sys.executable, "-c", KEEP, str(home)],
                cwd=PROJECT,
                env={**os.environ, **named, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hub")},
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout + done.stderr

        yield run


def test_run_goes_to_a_bucket_and_comes_back(
    make_run: Make, home: Path, new_home: Path, bucket: Bucket, keep: Callable[..., str]
) -> None:
    run = make_run(state="training", step=30)
    write_checkpoint(run, 20)
    (run.adapter_dir / "adapter_model.safetensors").write_bytes(os.urandom(300_000) + bytes(300_000))
    (run.path / "votes.jsonl").touch()  # an empty file is no transfer
    printed = keep(home)
    assert storage_state(home) == {"place": "hf://buckets/anna/runs/tuning", "trouble": ""}
    assert f"tuning/runs/{run.id}/1/manifest.json" in bucket.files
    assert bucket.requests[-1] == f"addFile tuning/runs/{run.id}/1/manifest.json", "the manifest is the last"

    printed += keep(new_home)
    back, before = contents(new_home / "runs" / run.id), contents(run.path)
    same = before.keys() - {"stop", "copy.json", "tokens/train.arrow", "status.json"}
    assert {name: back[name] for name in same} == {name: before[name] for name in same}
    assert Run(new_home / "runs" / run.id).status().state == "interrupted"
    assert TOKEN not in printed
    assert not any(TOKEN.encode() in text for folder in (home, new_home) for text in contents(folder).values())


def test_only_changes_go_and_deletions_are_followed(
    make_run: Make, home: Path, bucket: Bucket, keep: Callable[..., str]
) -> None:
    run = make_run()
    keep(home)
    bucket.requests.clear()
    run.log_metric(step=2, loss=1.0)
    keep(home)
    prefix = f"tuning/runs/{run.id}"
    assert bucket.requests == [
        f"addFile {prefix}/2/metrics.jsonl",
        f"addFile {prefix}/2/manifest.json",
        f"deleteFile {prefix}/1/manifest.json",
        f"deleteFile {prefix}/1/metrics.jsonl",
    ]


def test_wrong_token_is_told_and_not_shown(
    make_run: Make, home: Path, bucket: Bucket, keep: Callable[..., str]
) -> None:
    run = make_run()
    printed = keep(home, token="hf_wrong")
    assert "hf://buckets/anna/runs/tuning: Client error '401 Unauthorized'" in storage_state(home)["trouble"]
    assert "SFT_APP_STORAGE_TOKEN" in copy_trouble(run)
    assert "hf_wrong" not in printed and bucket.files == {}


def test_bucket_that_is_not_there_is_told(make_run: Make, home: Path, keep: Callable[..., str]) -> None:
    make_run()
    keep(home, place="hf://buckets/anna/none")
    assert "hf://buckets/anna/none" in storage_state(home)["trouble"]

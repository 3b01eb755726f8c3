"""Beside Start stands what a restart takes away, where it takes anything away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sft_app.hosting import Hosting
from sft_app.storage.backup import BackupWorker
from sft_app.storage.stores import FolderStore
from sft_app.ui.context import PageContext
from sft_app.ui.hosting_banner import EPHEMERAL, storage_notice

SPACE = Hosting(space="anna/tuning", owner="anna")


@pytest.fixture(autouse=True)
def _no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFT_APP_STORAGE", raising=False)


def test_at_home_nothing_is_said(home: Path) -> None:
    assert storage_notice(PageContext(home)) == ""


def test_on_a_space_the_disk_is_warned_of_with_what_to_do(home: Path) -> None:
    told = storage_notice(PageContext(home, SPACE))
    assert told == EPHEMERAL
    assert "emptied when it restarts" in told and "**Export** tab" in told
    assert storage_notice(PageContext(home, replace(SPACE, mode="demo"))) == ""  # nothing is trained there


def test_storage_that_works_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_APP_STORAGE", str(tmp_path))
    BackupWorker(home, FolderStore(tmp_path)).back_up_changes()
    assert storage_notice(PageContext(home, SPACE)) == f"Runs are copied to {tmp_path} and restored from there."


def test_storage_that_does_not_is_told_and_warned_of(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setenv("SFT_APP_STORAGE", str(gone))
    BackupWorker(home, FolderStore(gone)).restore()
    told = storage_notice(PageContext(home, SPACE))
    assert f"There is no folder {gone}" in told and EPHEMERAL in told

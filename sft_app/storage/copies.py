"""Copy a run into a store so that an interrupted copy leaves the previous one intact.

Each time, changed files go to `RUN/NUMBER/` under a new number. The last file written is `RUN/NUMBER/manifest.json`,
which says under which number each file of the run is. The highest manifest counts.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from sft_app.errors import StorageError
from sft_app.runs.checkpoints import checkpoint_step, complete_checkpoints
from sft_app.runs.directory import delete_run
from sft_app.runs.folder import Run
from sft_app.runs.paths import LOCK_FILE
from sft_app.runs.records import utc_now
from sft_app.runtime.files import read_json, write_json_atomically
from sft_app.runtime.home import deleted_runs_dir
from sft_app.storage.stores import Store

MANIFEST = "manifest.json"
COPY_RECORD = "copy.json"
NOT_COPIED = ("stop", "cancel", LOCK_FILE, COPY_RECORD)
MAX_LOG_BYTES = 16 * 2**20
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-z]{4}")


class CopiedFile(BaseModel):
    """Records the number a file was copied under, the size of the copy, and the file's time and size then."""

    number: int
    size: int
    changed_ns: int
    local_size: int


class Manifest(BaseModel):
    """Lists the files of a copy. `state` is that of the run; `checkpoint` is the step it can resume from."""

    number: int = 0
    state: str = ""
    checkpoint: int | None = None
    files: dict[str, CopiedFile] = {}

    def objects(self, run_id: str) -> set[str]:
        """Return the names in the store that belong to this copy."""
        files = {f"{run_id}/{file.number}/{name}" for name, file in self.files.items()}
        return files | {f"{run_id}/{self.number}/{MANIFEST}"} if self.number else files


class CopyRecord(BaseModel):
    """Holds `copy.json` in the run's folder: what this machine knows about the copy.

    `awaits_checkpoints` is true for a run that was restored without its checkpoints so far.
    """

    model_config = ConfigDict(populate_by_name=True)

    location: str = Field(default="", validation_alias="place", serialization_alias="place")
    manifest: Manifest | None = None
    copied_utc: str | None = None
    trouble: str = ""
    awaits_checkpoints: bool = False


@dataclass(frozen=True)
class _LocalFile:
    """Describes a file of the run: its content if it may grow, otherwise its path."""

    source: Path | bytes
    size: int
    changed_ns: int
    local_size: int

    def copied(self, number: int) -> CopiedFile:
        return CopiedFile(number=number, size=self.size, changed_ns=self.changed_ns, local_size=self.local_size)


def copy_run(store: Store, run: Run) -> bool:
    """Bring a run's copy up to date. Returns False if the run changed meanwhile and must be copied again.

    Raises: StorageError; the previous copy is intact then.
    """
    try:
        _copy_run(store, run)
    except FileNotFoundError:  # a newer checkpoint, a replaced adapter, or the run was deleted
        return False
    return True


def _copy_run(store: Store, run: Run) -> None:
    record = read_record(run)
    if record.awaits_checkpoints:
        return
    local_files, checkpoint = _local_files(run)
    known = record.manifest if record.location == store.location else None
    if known is not None and local_files.keys() == known.files.keys() and not _has_changes(local_files, known):
        if record.trouble:
            write_record(run, record.model_copy(update={"trouble": ""}))
        return
    names = set(store.names(run.id))
    known = known or read_manifests(store, names).get(run.id) or Manifest()
    copied = {name: file for name, file in known.files.items() if f"{run.id}/{file.number}/{name}" in names}
    manifest = _put_copy(store, run, names, copied, local_files, checkpoint)
    write_record(run, CopyRecord(location=store.location, manifest=manifest, copied_utc=utc_now()))


def _put_copy(
    store: Store,
    run: Run,
    names: set[str],
    known: dict[str, CopiedFile],
    local_files: dict[str, _LocalFile],
    checkpoint: int | None,
) -> Manifest:
    """Upload what has changed, then the manifest, and only then delete what is no longer needed."""
    number = 1 + max((int(name.split("/")[1]) for name in names if name.split("/")[1].isdecimal()), default=0)
    changed = {name: file for name, file in local_files.items() if not _is_copied(file, known.get(name))}
    store.put({f"{run.id}/{number}/{name}": file.source for name, file in changed.items()})
    for file in changed.values():  # an adapter replaced during the copy is copied next time
        if isinstance(file.source, Path) and file.source.stat().st_mtime_ns != file.changed_ns:
            raise FileNotFoundError(file.source)
    kept = {name: file for name, file in known.items() if name in local_files}
    new = {name: file.copied(number) for name, file in changed.items()}
    manifest = Manifest(number=number, state=run.status().state, checkpoint=checkpoint, files={**kept, **new})
    store.put({f"{run.id}/{number}/{MANIFEST}": manifest.model_dump_json(indent=1).encode()})
    if not run.path.is_dir():  # deleted during the copy
        delete_copy(store, run.id)
        raise FileNotFoundError(run.path)
    store.delete(sorted(names - manifest.objects(run.id)))
    return manifest


def _has_changes(local_files: dict[str, _LocalFile], known: Manifest) -> bool:
    return not all(_is_copied(file, known.files.get(name)) for name, file in local_files.items())


def _is_copied(file: _LocalFile, copied: CopiedFile | None) -> bool:
    return copied is not None and (file.changed_ns, file.local_size) == (copied.changed_ns, copied.local_size)


def _local_files(run: Run) -> tuple[dict[str, _LocalFile], int | None]:
    """Return the run's files to copy by name, and the step of the last checkpoint among them.

    Checkpoints are found first, so that the logs reach at least as far.
    """
    checkpoints = complete_checkpoints(run.checkpoints_dir)
    step = checkpoint_step(checkpoints[0]) if checkpoints else None
    folders = [*checkpoints, run.adapter_dir, run.train_file.parent]
    paths = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    complete = {path.relative_to(run.path).as_posix(): _whole_file(path) for path in paths}
    growing = (path for path in sorted(run.path.iterdir()) if path.is_file() and path.name[0] != ".")
    return {**complete, **{path.name: _complete_lines(path) for path in growing if path.name not in NOT_COPIED}}, step


def _whole_file(path: Path) -> _LocalFile:
    stat = path.stat()
    return _LocalFile(path, stat.st_size, stat.st_mtime_ns, stat.st_size)


def _complete_lines(path: Path) -> _LocalFile:
    """Read the complete lines of a file that may be growing, or the end of a long log."""
    stat, content = path.stat(), path.read_bytes()
    if path.suffix == ".jsonl":
        content = content[: content.rfind(b"\n") + 1]
    elif path.suffix == ".log":
        content = content[-MAX_LOG_BYTES:]
    return _LocalFile(content, len(content), stat.st_mtime_ns, stat.st_size)


def read_manifests(store: Store, names: Iterable[str]) -> dict[str, Manifest]:
    """Read the newest readable manifest of each run among these names in the store.

    Raises: StorageError.
    """
    numbers = sorted(_manifest_numbers(names))
    manifests: dict[str, Manifest] = {}
    with tempfile.TemporaryDirectory(prefix="manifests-") as folder:
        files = {(run_id, number): Path(folder) / f"{run_id}-{number}" for run_id, number in numbers}
        store.fetch({f"{run_id}/{number}/{MANIFEST}": file for (run_id, number), file in files.items()})
        for (run_id, _), file in files.items():
            manifest = _parse_manifest(file)
            if manifest is not None:
                manifests[run_id] = manifest
    return manifests


def _manifest_numbers(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    for name in names:
        parts = name.split("/")
        if len(parts) == 3 and parts[2] == MANIFEST and parts[1].isdecimal() and _RUN_ID.fullmatch(parts[0]):
            yield parts[0], int(parts[1])


def _parse_manifest(file: Path) -> Manifest | None:
    manifest = read_json(file, Manifest)
    if manifest is None:
        return None
    parts = [part for name in manifest.files for part in (name.startswith("/"), *name.split("/"))]
    return None if any(part in (True, "", ".", "..") for part in parts) else manifest


def read_record(run: Run) -> CopyRecord:
    """Read a run's `copy.json`; an empty record if it is missing or invalid."""
    return read_json(run.path / COPY_RECORD, CopyRecord) or CopyRecord()


def write_record(run: Run, record: CopyRecord) -> None:
    """Write a run's `copy.json`.

    Raises: FileNotFoundError if the run has been deleted.
    """
    write_json_atomically(run.path / COPY_RECORD, record.model_dump(by_alias=True))


def copy_trouble(run: Run) -> str:
    """Return why this run could not be copied, or an empty string."""
    return read_record(run).trouble


def delete_run_and_copy(home: Path, run: Run) -> None:
    """Delete the local run, and schedule the deletion of its copy.

    Raises: RunError while the run is working.
    """
    was_copied = (run.path / COPY_RECORD).exists() and _RUN_ID.fullmatch(run.id)
    delete_run(run)
    if was_copied:
        deleted_runs_dir(home).mkdir(exist_ok=True)
        (deleted_runs_dir(home) / run.id).touch()


def pending_deletions(home: Path) -> list[str]:
    """Return the ids of deleted runs whose copies must still be deleted."""
    folder = deleted_runs_dir(home)
    return sorted(path.name for path in folder.iterdir() if _RUN_ID.fullmatch(path.name)) if folder.is_dir() else []


def delete_pending_copies(home: Path, store: Store) -> None:
    """Delete the copies of deleted runs.

    Raises: StorageError; the rest is deleted next time.
    """
    for run_id in pending_deletions(home):
        delete_copy(store, run_id)
        (deleted_runs_dir(home) / run_id).unlink(missing_ok=True)


def delete_copy(store: Store, run_id: str) -> None:
    """Delete a run's copy, manifests first, so that the rest no longer counts as a copy.

    Raises: StorageError.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise StorageError(f"{run_id!r} is not a run.")
    names = store.names(run_id)
    manifests = [name for name in names if name.endswith(f"/{MANIFEST}")]
    store.delete(manifests)
    store.delete([name for name in names if name not in manifests])

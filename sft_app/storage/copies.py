"""A run as it is kept in a store, and how it gets there.

Each time something has changed, what changed goes to `RUN/NUMBER/` under a new number, and last of all
`RUN/NUMBER/manifest.json`, which says under which number each file of the run is. The highest manifest counts, so that
whatever is cut off in the middle leaves the copy before it as it was.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from sft_app.errors import StorageError
from sft_app.runs.checkpoints import checkpoint_step, complete_checkpoints
from sft_app.runs.directory import delete_run
from sft_app.runs.folder import Run
from sft_app.runs.paths import LOCK_FILE
from sft_app.runs.records import utc_now
from sft_app.runtime.files import read_json, write_json_atomically
from sft_app.storage.stores import Store

MANIFEST = "manifest.json"
RECORD = "copy.json"
NOT_COPIED = ("stop", "cancel", LOCK_FILE, RECORD)
LOG_BYTES_COPIED = 16 * 2**20
# Deletions that have to be followed stand here, beside `runs/`, as files with the run's id as their name.
DELETED = "deleted"
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-z]{4}")


class CopiedFile(BaseModel):
    """Under which number it was copied, how long the copy is, and how the file itself was then."""

    number: int
    size: int
    changed_ns: int
    local_size: int


class Manifest(BaseModel):
    """`state` and `step` are those of the run; `checkpoint` is the step that it can go on from."""

    number: int = 0
    state: str = ""
    checkpoint: int | None = None
    files: dict[str, CopiedFile] = {}

    def objects(self, run_id: str) -> set[str]:
        """The names in the store that belong to this copy."""
        files = {f"{run_id}/{file.number}/{name}" for name, file in self.files.items()}
        return files | {f"{run_id}/{self.number}/{MANIFEST}"} if self.number else files


class CopyRecord(BaseModel):
    """`copy.json` in the run's folder: what this machine knows of the copy. `awaits_checkpoints` is true of a run that
    came back from it without them so far."""

    place: str = ""
    manifest: Manifest | None = None
    copied_utc: str | None = None
    trouble: str = ""
    awaits_checkpoints: bool = False


@dataclass(frozen=True)
class _Found:
    """A file of the run: read at once where it may grow, or named where it stays as it is."""

    source: Path | bytes
    size: int
    changed_ns: int
    local_size: int

    def copied(self, number: int) -> CopiedFile:
        return CopiedFile(number=number, size=self.size, changed_ns=self.changed_ns, local_size=self.local_size)


def copy_run(store: Store, run: Run) -> bool:
    """Brings the copy up to date; False when the run changed under it, so that it has to be tried again.

    Raises: StorageError; the copy is as it was before then.
    """
    try:
        _copy_run(store, run)
    except FileNotFoundError:  # a checkpoint went for a newer one, the adapter was replaced, or the run was deleted
        return False
    return True


def _copy_run(store: Store, run: Run) -> None:
    record = read_record(run)
    if record.awaits_checkpoints:
        return
    found, checkpoint = _find_files(run)
    known = record.manifest if record.place == store.place else None
    if known is not None and found.keys() == known.files.keys() and not _changed(found, known):
        if record.trouble:
            write_record(run, record.model_copy(update={"trouble": ""}))
        return
    names = set(store.names(run.id))
    known = known or read_manifests(store, names).get(run.id) or Manifest()
    there = {name: file for name, file in known.files.items() if f"{run.id}/{file.number}/{name}" in names}
    manifest = _put_copy(store, run, names, there, found, checkpoint)
    write_record(run, CopyRecord(place=store.place, manifest=manifest, copied_utc=utc_now()))


def _put_copy(
    store: Store,
    run: Run,
    names: set[str],
    known: dict[str, CopiedFile],
    found: dict[str, _Found],
    checkpoint: int | None,
) -> Manifest:
    """What has changed, then the manifest, and only then what nobody needs any more is deleted."""
    number = 1 + max((int(name.split("/")[1]) for name in names if name.split("/")[1].isdecimal()), default=0)
    changed = {name: file for name, file in found.items() if not _is_copied(file, known.get(name))}
    store.put({f"{run.id}/{number}/{name}": file.source for name, file in changed.items()})
    for file in changed.values():  # an adapter may have been replaced meanwhile; then the next look copies it anew
        if isinstance(file.source, Path) and file.source.stat().st_mtime_ns != file.changed_ns:
            raise FileNotFoundError(file.source)
    kept = {name: file for name, file in known.items() if name in found}
    new = {name: file.copied(number) for name, file in changed.items()}
    manifest = Manifest(number=number, state=run.status().state, checkpoint=checkpoint, files={**kept, **new})
    store.put({f"{run.id}/{number}/{MANIFEST}": manifest.model_dump_json(indent=1).encode()})
    if not run.path.is_dir():  # deleted meanwhile
        delete_copy(store, run.id)
        raise FileNotFoundError(run.path)
    store.delete(sorted(names - manifest.objects(run.id)))
    return manifest


def _changed(found: dict[str, _Found], known: Manifest) -> bool:
    return not all(_is_copied(file, known.files.get(name)) for name, file in found.items())


def _is_copied(file: _Found, copied: CopiedFile | None) -> bool:
    return copied is not None and (file.changed_ns, file.local_size) == (copied.changed_ns, copied.local_size)


def _find_files(run: Run) -> tuple[dict[str, _Found], int | None]:
    """What belongs to the copy by its name in the run, and the step of the last checkpoint among it.

    Checkpoints are looked for first, so that what is logged goes at least as far as they do.
    """
    checkpoints = complete_checkpoints(run.checkpoints_dir)
    step = checkpoint_step(checkpoints[0]) if checkpoints else None
    folders = [*checkpoints, run.adapter_dir, run.train_file.parent]
    whole = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    found = {path.relative_to(run.path).as_posix(): _as_it_is(path) for path in whole}
    growing = (path for path in sorted(run.path.iterdir()) if path.is_file() and path.name[0] != ".")
    return {**found, **{path.name: _as_far(path) for path in growing if path.name not in NOT_COPIED}}, step


def _as_it_is(path: Path) -> _Found:
    stat = path.stat()
    return _Found(path, stat.st_size, stat.st_mtime_ns, stat.st_size)


def _as_far(path: Path) -> _Found:
    """Whole lines of a file that may be growing; of a long log its end."""
    stat, content = path.stat(), path.read_bytes()
    if path.suffix == ".jsonl":
        content = content[: content.rfind(b"\n") + 1]
    elif path.suffix == ".log":
        content = content[-LOG_BYTES_COPIED:]
    return _Found(content, len(content), stat.st_mtime_ns, stat.st_size)


def read_manifests(store: Store, names: Iterable[str]) -> dict[str, Manifest]:
    """The newest that can be read, by run, of these names in the store. Raises: StorageError."""
    numbers = sorted(_manifest_numbers(names))
    found: dict[str, Manifest] = {}
    with tempfile.TemporaryDirectory(prefix="manifests-") as folder:
        files = {(run_id, number): Path(folder) / f"{run_id}-{number}" for run_id, number in numbers}
        store.fetch({f"{run_id}/{number}/{MANIFEST}": file for (run_id, number), file in files.items()})
        for (run_id, _), file in files.items():
            manifest = _parse_manifest(file)
            if manifest is not None:
                found[run_id] = manifest
    return found


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
    return read_json(run.path / RECORD, CopyRecord) or CopyRecord()


def write_record(run: Run, record: CopyRecord) -> None:
    """Raises: FileNotFoundError when the run has been deleted."""
    write_json_atomically(run.path / RECORD, record.model_dump())


def copy_trouble(run: Run) -> str:
    """What stands in the way of copying this run, or nothing."""
    return read_record(run).trouble


def delete_run_and_copy(home: Path, run: Run) -> None:
    """Deletes the run here, and notes that its copy has to go too. Raises: RunError while it is working."""
    was_copied = (run.path / RECORD).exists() and _RUN_ID.fullmatch(run.id)
    delete_run(run)
    if was_copied:
        (home / DELETED).mkdir(exist_ok=True)
        (home / DELETED / run.id).touch()


def deleted_runs(home: Path) -> list[str]:
    """Runs whose copies still have to go."""
    folder = home / DELETED
    return sorted(path.name for path in folder.iterdir() if _RUN_ID.fullmatch(path.name)) if folder.is_dir() else []


def follow_deletions(home: Path, store: Store) -> None:
    """Raises: StorageError; what is left is followed the next time."""
    for run_id in deleted_runs(home):
        delete_copy(store, run_id)
        (home / DELETED / run_id).unlink(missing_ok=True)


def delete_copy(store: Store, run_id: str) -> None:
    """Its manifests first, without which nobody takes what is left for a copy. Raises: StorageError."""
    if not _RUN_ID.fullmatch(run_id):
        raise StorageError(f"{run_id!r} is not a run.")
    names = store.names(run_id)
    manifests = [name for name in names if name.endswith(f"/{MANIFEST}")]
    store.delete(manifests)
    store.delete([name for name in names if name not in manifests])

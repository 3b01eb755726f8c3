"""A stand-in for the Hub: its HTTP interface for datasets, over folders of this machine, on the loopback only."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from tests.hub_server import JsonHandler, serving
from tests.hub_server import child_environment as child_environment

API = re.compile(r"/api/datasets/(?P<id>[^/]+/[^/]+)(/(?P<what>revision|tree|paths-info|auth-check))?(/(?P<rest>.*))?")
FILE = re.compile(r"/datasets/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")

TABLE_CARD = """---
license: [mit, apache-2.0]
configs:
- {config_name: code, data_files: [{split: train, path: code/train.parquet}]}
- {config_name: prose, data_files: [{split: test, path: prose.parquet}]}
dataset_info:
- {config_name: code, splits: [{name: train, num_examples: 2, num_bytes: 100}]}
- {config_name: prose, splits: [{name: test, num_examples: 1, num_bytes: 10}]}
---
"""


@dataclass
class HubStandIn:
    """`folders[id][revision]` is what a repository holds there; `downloads` are the files given out, as `id/path`."""

    endpoint: str
    folders: dict[str, dict[str, Path]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    downloads: list[str] = field(default_factory=list)

    def add(self, id: str, folder: Path, revision: str = "main") -> None:
        self.folders.setdefault(id, {})[revision] = folder

    def find(self, id: str, revision: str) -> Path | None:
        """The folder of a branch, a tag or a commit."""
        folders = self.folders[id]
        return folders.get(revision) or next((f for f in folders.values() if commit_of(f) == revision), None)


def commit_of(folder: Path) -> str:
    """40 hex digits that change with any file."""
    return hashlib.sha1(b"".join(str(p).encode() + p.read_bytes() for p in files_of(folder))).hexdigest()


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def entries_of(folder: Path) -> list[dict[str, Any]]:
    """Files and folders as the Hub lists them."""
    return [
        {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size, "oid": digest(p)}
        if p.is_file()
        else {"type": "directory", "path": str(p.relative_to(folder)), "size": 0, "oid": "0" * 40}
        for p in sorted(folder.rglob("*"))
    ]


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def about(id: str, folder: Path, gated: bool) -> dict[str, Any]:
    card = folder / "README.md"
    head = card.read_text().split("---")[1] if card.is_file() else ""
    return {
        "id": id,
        "sha": commit_of(folder),
        "gated": "auto" if gated else False,
        "cardData": yaml.safe_load(head) or {},
        "siblings": [{"rfilename": str(path.relative_to(folder))} for path in files_of(folder)],
    }


class Handler(JsonHandler):
    hub: HubStandIn

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        found = API.fullmatch(path) or FILE.fullmatch(path)
        if path.startswith("/login-page"):
            self.send(200, b"<html>Welcome to our network</html>", {})
        elif not found or found["id"] not in self.hub.folders:
            self.refuse(401, "RepoNotFound")
        elif found.re is API:
            self.answer_api(found["id"], found["what"], found["rest"] or "main")
        else:
            self.give_file(found["id"], found["revision"], found["path"])

    do_POST = do_HEAD = do_GET

    def answer_api(self, id: str, what: str | None, rest: str) -> None:
        revision, _, below = rest.partition("/")
        folder = self.hub.find(id, revision)
        if what == "auth-check":
            self.refuse(403, "GatedRepo") if id in self.hub.gated else self.reply({})
        elif folder is None:
            self.refuse(404, "RevisionNotFound")
        elif what == "tree":
            below = below and f"{below}/"
            self.reply([entry for entry in entries_of(folder) if entry["path"].startswith(below)])
        elif what == "paths-info":
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
            self.reply([entry for entry in entries_of(folder) if entry["path"] in asked])
        else:
            self.reply(about(id, folder, id in self.hub.gated))

    def give_file(self, id: str, revision: str, path: str) -> None:
        folder = self.hub.find(id, revision)
        if id in self.hub.gated:
            self.refuse(403, "GatedRepo")
        elif folder is None or not (folder / path).is_file():
            self.refuse(404, "EntryNotFound")
        else:
            body = (folder / path).read_bytes()
            part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if part:
                body = body[int(part[1]) : int(part[2] or len(body)) + 1]
            if self.command == "GET":
                self.hub.downloads.append(f"{id}/{path}")
            named = {"ETag": f'"{digest(folder / path)}"', "X-Repo-Commit": commit_of(folder)}
            self.send(206 if part else 200, body, named)


@contextmanager
def running_hub() -> Iterator[HubStandIn]:
    with serving(Handler) as (endpoint, handler):
        handler.hub = HubStandIn(endpoint)
        yield handler.hub


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_plain(folder: Path, count: int = 4) -> Path:
    train = "".join(f'{{"n": {number}, "text": "é"}}\n' for number in range(count))
    card = "---\nlicense: mit\n---\n# Plain\n"
    return write_files(folder, {"train.jsonl": train, "test.jsonl": '{"n": 9, "text": "z"}\n', "README.md": card})


def write_table(folder: Path) -> Path:
    """A Parquet file with what text formats do not have: classes, dates, pictures that cannot be decoded, bytes."""
    import datasets as ds

    features = ds.Features(
        language=ds.ClassLabel(names=["C", "PYTHON3"]),
        solutions=ds.List({"language": ds.ClassLabel(names=["C", "PYTHON3"]), "code": ds.Value("string")}),
        day=ds.Value("date32"),
        picture=ds.Image(),
        pictures=ds.List(ds.Image()),
        raw=ds.Value("binary"),
    )
    row = {
        "language": 1,
        "solutions": [{"language": 0, "code": "main"}],
        "day": datetime.date(2024, 5, 1),
        "picture": {"bytes": b"no picture", "path": None},
        "pictures": [],
        "raw": b"\0",
    }
    (folder / "code").mkdir(parents=True)
    columns = {name: [row[name], {**row, "language": -1}[name]] for name in row}
    ds.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "code" / "train.parquet"))
    ds.Dataset.from_dict({"text": ["a"]}).to_parquet(str(folder / "prose.parquet"))
    return write_files(folder, {"README.md": TABLE_CARD})


def write_many(folder: Path) -> Path:
    configs = "".join(f"- {{config_name: c{number}, data_files: a.jsonl}}\n" for number in range(10))
    return write_files(folder, {"a.jsonl": '{"a": 1}\n', "README.md": f"---\nconfigs:\n{configs}---\n"})


def write_thief(folder: Path) -> Path:
    """Its card names a file of this machine as its data."""
    private = write_files(folder.parent, {"private.jsonl": '{"a": 1}\n'}) / "private.jsonl"
    card = f"---\nconfigs:\n- {{config_name: default, data_files: {private}}}\n---\n"
    return write_files(folder, {"README.md": card})

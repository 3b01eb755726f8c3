"""A stand-in for the Hub that takes what is pushed: repositories, large files, commits, Spaces and their variables.

The requests and answers are those that huggingface_hub 2.4 makes and expects (`hf_api`, `_commit_api`, `lfs`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from huggingface_hub import close_session, constants
from huggingface_hub.utils import sha

from tests.hub_server import JsonHandler, serving

GOOD_TOKEN = "hf_goodToken0123456789"
READ_TOKEN = "hf_readToken0123456789"
LARGE_ENDINGS = (".safetensors", ".bin", ".gguf")
REPOSITORY = r"/api/(?P<kind>model|space)s/(?P<id>[^/]+/[^/]+)"
INFO = re.compile(rf"{REPOSITORY}(/revision/[^/]+)?")
WRITE = re.compile(rf"{REPOSITORY}/(?P<what>preupload|commit|variables)(/(?P<revision>.+))?")
BATCH = re.compile(r"/(?P<space>spaces/)?(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
FILE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)")


@dataclass
class Held:
    """One repository."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass
class PushHub:
    """`sent` are the large files that came, by their names' hashes, `requests` all that was asked for."""

    endpoint: str
    users: dict[str, str] = field(default_factory=lambda: {GOOD_TOKEN: "ann", READ_TOKEN: "ann"})
    repositories: dict[tuple[str, str], Held] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failures: list[tuple[str, int, str]] = field(default_factory=list)

    def fail(self, request: str, status: int, message: str = "", times: int = 1) -> None:
        """The next requests whose `METHOD path` has this in it are refused; status 0 breaks the connection."""
        self.failures += [(request, status, message)] * times

    def get(self, id: str, kind: str = "model") -> Held:
        return self.repositories[kind, id]

    def add(self, id: str, private: bool = True, kind: str = "model", **files: bytes) -> Held:
        held = self.repositories[kind, id] = Held(private)
        held.files |= files
        return held


class Handler(JsonHandler):
    hub: PushHub

    def do_GET(self) -> None:
        if self.must_fail():
            return
        path = unquote(self.path.partition("?")[0])
        if path == "/api/whoami-v2":
            name = self.user()
            self.reply({"name": name, "type": "user"}) if name else self.refuse(401, "", "Invalid credentials")
        elif found := INFO.fullmatch(path):
            self.tell_of(found["kind"], found["id"])
        elif found := FILE.fullmatch(path):
            self.give(found["id"], found["path"])
        elif (found := WRITE.fullmatch(path)) and found["what"] == "variables" and self.owns(found["id"]):
            self.tell_variables(self.hub.repositories[found["kind"], found["id"]])
        else:
            self.refuse(404, "NotFound", path)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.must_fail():
            return
        path, body = unquote(self.path.partition("?")[0]), self.body()
        if path == "/api/validate-yaml":
            return self.check_card(json.loads(body)["content"])
        if not self.may_write():
            return
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif found := BATCH.fullmatch(path):
            self.plan_uploads(json.loads(body)["objects"])
        elif (found := WRITE.fullmatch(path)) and (held := self.hub.repositories.get((found["kind"], found["id"]))):
            if not self.owns(found["id"]):
                self.refuse(403, "", f"You don't have the rights to write to {found['id']}")
            else:
                getattr(self, f"take_{found['what']}")(held, body)
        else:
            self.refuse(404, "RepoNotFound", "Repository not found")

    do_DELETE = do_POST

    def do_PUT(self) -> None:
        body = self.body()
        if self.must_fail():
            return
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid and "Authorization" not in self.headers
        self.hub.blobs[oid] = body
        self.hub.sent.append(oid)
        self.send(200, b"", {})

    def must_fail(self) -> bool:
        asked = f"{self.command} {unquote(self.path)}"
        self.hub.requests.append(asked)
        for failure in self.hub.failures:
            if failure[0] in asked:
                self.hub.failures.remove(failure)
                if failure[1] == 0:
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.refuse(failure[1], "", failure[2])
                return True
        return False

    def user(self) -> str | None:
        return self.hub.users.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def owns(self, id: str) -> bool:
        return id.partition("/")[0] == self.user()

    def may_write(self) -> bool:
        if self.user() is None:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif READ_TOKEN in self.headers["Authorization"]:
            self.refuse(403, "", "This token has no right to write")
        else:
            return True
        return False

    def create(self, asked: dict[str, Any]) -> None:
        owner = asked["organization"] or self.user()
        id, kind = f"{owner}/{asked['name']}", asked.get("type") or "model"
        if not self.owns(id):
            self.refuse(403, "", f"You don't have the rights to create a {kind} under the namespace {owner}")
        elif (kind, id) in self.hub.repositories:
            told = {"error": f"You already created this {kind} repo", "url": self.page_of(self.hub.get(id, kind))}
            self.send(409, json.dumps(told).encode(), {"Content-Type": "application/json"})
        else:
            self.hub.add(id, asked["visibility"] == "private", kind)
            self.reply({"url": self.page_of(self.hub.get(id, kind)), "name": id, "id": "1"})

    def page_of(self, held: Held) -> str:
        kind, id = next(key for key, value in self.hub.repositories.items() if value is held)
        return f"{self.hub.endpoint}/{'spaces/' if kind == 'space' else ''}{id}"

    def tell_of(self, kind: str, id: str) -> None:
        held = self.hub.repositories.get((kind, id))
        if held is None or (held.private and not self.owns(id)):
            return self.refuse(401, "RepoNotFound", "Repository not found")
        sizes = "blobs=" in self.path
        siblings = [
            {"rfilename": name, **({"size": len(content), "blobId": "0"} if sizes else {})}
            for name, content in held.files.items()
        ]
        card = yaml.safe_load(held.files.get("README.md", b"---\n---\n").decode().split("---\n")[1]) or {}
        sha = hashlib.sha1(repr(held.commits).encode()).hexdigest()
        self.reply({"id": id, "sha": sha, "private": held.private, "siblings": siblings, "cardData": card})

    def give(self, id: str, path: str) -> None:
        held = self.hub.repositories.get(("model", id))
        if held is None or (held.private and not self.owns(id)):
            return self.refuse(401, "RepoNotFound", "Repository not found")
        if path not in held.files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        body = held.files[path]
        self.send(200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": "0" * 40})

    def check_card(self, content: str) -> None:
        head = content.split("---\n")[1] if content.startswith("---\n") else ""
        values = yaml.safe_load(head)
        base = values.get("base_model", "a/b") if isinstance(values, dict) else None
        if base is None or "/" not in base:
            errors = {"errors": [{"message": f'"base_model" with value "{base}" is not valid'}], "warnings": []}
            self.send(400, json.dumps(errors).encode(), {"Content-Type": "application/json"})
        else:
            self.reply({"errors": [], "warnings": []})

    def take_preupload(self, held: Held, body: bytes) -> None:
        found = []
        for file in json.loads(body)["files"]:
            is_large = file["path"].endswith(LARGE_ENDINGS) or file["size"] > 10_000_000
            there = held.files.get(file["path"])
            oid = None if there is None else hashlib.sha256(there).hexdigest() if is_large else sha.git_hash(there)
            mode = "lfs" if is_large else "regular"
            found.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.reply({"files": found})

    def plan_uploads(self, objects: list[dict[str, Any]]) -> None:
        """Large files that came before, also in a push that broke, have no action."""
        planned = [
            {"oid": one["oid"], "size": one["size"]}
            | (
                {}
                if one["oid"] in self.hub.blobs
                else {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"}}}
            )
            for one in objects
        ]
        self.reply({"transfer": "basic", "objects": planned})

    def take_commit(self, held: Held, body: bytes) -> None:
        header, *operations = [json.loads(line) for line in body.splitlines()]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                held.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                held.files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                del held.files[value["path"]]
        held.commits.append(header["value"]["summary"])
        oid = hashlib.sha1(repr(held.commits).encode()).hexdigest()
        self.reply({"commitUrl": f"{self.page_of(held)}/commit/{oid}", "commitOid": oid})

    def take_variables(self, held: Held, body: bytes) -> None:
        asked = json.loads(body)
        if self.command == "DELETE":
            del held.variables[asked["key"]]
        else:
            held.variables[asked["key"]] = asked["value"]
        self.tell_variables(held)

    def tell_variables(self, held: Held) -> None:
        self.reply({key: {"value": value} for key, value in held.variables.items()})


@contextmanager
def pushing_to(handler: type[Handler] = Handler) -> Iterator[PushHub]:
    with serving(handler) as (endpoint, bound):
        bound.hub = PushHub(endpoint)
        yield bound.hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PushHub]:
    """The stand-in, asked by this process, which is logged in as ann and does not wait before it tries again."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    at_once = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)
    with pushing_to() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        close_session()
        yield hub
    close_session()

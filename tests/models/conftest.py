"""A stand-in for the Hub: a small HTTP server on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@dataclass
class FakeHub:
    """`replies[path]` is `(status, body, headers)`; what is not there is an unknown repository, as the Hub says it."""

    endpoint: str
    replies: dict[str, tuple[int, Any, dict[str, str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def add_model(self, name: str, sha: str, files: tuple[str, ...] = ("config.json",), gated: Any = False) -> None:
        body = {"id": name, "sha": sha, "gated": gated, "siblings": [{"rfilename": file} for file in files]}
        self.replies[f"/api/models/{name}"] = (200, body, {})
        self.replies[f"/api/models/{name}/auth-check"] = (200, {}, {})

    def add_files(self, name: str, sha: str, folder: Path) -> None:
        """What can be downloaded of a model that was added."""
        listed: list[dict[str, Any]] = []
        self.replies[f"/api/models/{name}/tree/{sha}"] = (200, listed, {})
        for file in folder.iterdir():
            content = file.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            listed.append({"type": "file", "path": file.name, "size": len(content), "oid": etag[:40]})
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Content-Length": str(len(content))}
            self.replies[f"/{name}/resolve/{sha}/{file.name}"] = (200, content, headers)


@pytest.fixture
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No model of this machine's own cache can be found."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub(empty_hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The Hub client talks to it instead of to the real one, without a token."""
    from huggingface_hub import constants

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            fake.asked.append(path)
            fake.tokens.append(self.headers.get("authorization", "").removeprefix("Bearer "))
            unknown = (401, {"error": "Invalid username or password."}, {"X-Error-Code": "RepoNotFound"})
            status, body, headers = fake.replies.get(path, unknown)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeHub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", fake.endpoint)
    files = fake.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All models here are tiny."""

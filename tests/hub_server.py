"""What the stand-ins for the Hub share: a server on the loopback, and how the Hub answers and refuses."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    """Answers as the Hub does. Its class is made anew for each server, so that it can hold what that server knows."""

    hub: Any

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str | None = None) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message or code})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(handler: type[JsonHandler]) -> Iterator[tuple[str, type[JsonHandler]]]:
    """Its address, and a class of this handler that belongs to it alone."""
    bound = type("BoundHandler", (handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bound
    finally:
        server.shutdown()
        server.server_close()


def child_environment(endpoint: str, cache: Path) -> dict[str, str]:
    """For a process that asks the stand-in; `cache` is all that it remembers."""
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    return {**own, **settings, "HF_HUB_DISABLE_XET": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}

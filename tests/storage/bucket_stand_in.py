"""A bucket of the Hub on this machine: the part of its HTTP interface that the client library's bucket functions use.

Files go through the library's own transfer (xet), whose formats are read here as far as it needs: a shard says of which
chunks of which xorbs a file is made. Source: huggingface.co/docs/xet, "Shard", "Xorb", "CAS API", "Download Protocol".
"""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

ENTRY = 48  # bytes of each record in a shard
VERIFIED, EXTENDED = 0x8000_0000, 0x4000_0000


@dataclass
class Bucket:
    """What it holds, and who may use it. `files` has the entry that the list of files shows, by path."""

    id: str
    token: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    xorbs: dict[str, bytes] = field(default_factory=dict)
    made_of: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


def hash_text(raw: bytes) -> str:
    """Each 8 bytes are a little-endian number in this text."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def read_shard(shard: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(file, the terms that it is made of) of each file in it."""
    at = ENTRY  # after the header
    while shard[at : at + 32] != b"\xff" * 32:
        name = hash_text(shard[at : at + 32])
        flags, entries = struct.unpack_from("<II", shard, at + 32)
        at += ENTRY
        terms = []
        for place in range(at, at + entries * ENTRY, ENTRY):
            _, length, start, end = struct.unpack_from("<4I", shard, place + 32)
            xorb = hash_text(shard[place : place + 32])
            terms.append({"hash": xorb, "unpacked_length": length, "range": {"start": start, "end": end}})
        yield name, terms
        at += entries * ENTRY * (2 if flags & VERIFIED else 1) + (ENTRY if flags & EXTENDED else 0)


def chunk_places(xorb: bytes) -> list[int]:
    """Where each chunk begins, and after the last one where it ends: before the footer, if there is one."""
    places = [0]
    while places[-1] + 8 <= len(xorb) and xorb[places[-1]] == 0:
        size = int.from_bytes(xorb[places[-1] + 1 : places[-1] + 4], "little")
        places.append(places[-1] + 8 + size)
    return places


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket
    address: str

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, api = unquote(urlsplit(self.path).path), f"/api/buckets/{self.bucket.id}"
        if path.startswith("/cas/"):
            return self._get_data(path)
        if not self._may_use():
            return self._answer(401, {"error": "Invalid credentials."})
        if path.startswith(f"{api}/xet-"):
            return self._answer(
                200, {"accessToken": "cas", "exp": int(time.time()) + 3600, "casUrl": f"{self.address}/cas"}
            )
        if path.startswith(f"{api}/tree"):
            below = path.removeprefix(f"{api}/tree").strip("/")
            return self._answer(
                200, [file for name, file in sorted(self.bucket.files.items()) if name.startswith(below)]
            )
        self._answer(404, {"error": "Not found"}, {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        path = unquote(urlsplit(self.path).path).removeprefix(f"/buckets/{self.bucket.id}/resolve/")
        file = self.bucket.files.get(path)
        if file is None or not self._may_use():
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        refresh = f"{self.address}/api/buckets/{self.bucket.id}/xet-read-token"
        told = {"X-Xet-Hash": file["xetHash"], "X-Xet-Refresh-Route": refresh, "X-Linked-Size": str(file["size"])}
        self._answer(200, b"", told)

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        if path.startswith("/cas/v1/xorbs/default/"):
            self.bucket.xorbs[path.rpartition("/")[2]] = body
            return self._answer(200, {"was_inserted": True})
        if path == "/cas/v1/shards":
            self.bucket.made_of.update(read_shard(body))
            return self._answer(200, {"result": 1})
        if path.startswith("/cas/"):  # newer ways of uploading, which the client does without
            return self._answer(404, {})
        if not self._may_use():
            return self._answer(401, {"error": "Invalid credentials."})
        if path == f"/api/buckets/{self.bucket.id}/batch":
            return self._answer(200, self._batch(body))
        if path == f"/api/buckets/{self.bucket.id}/paths-info":
            asked = json.loads(body)["paths"]
            return self._answer(200, [self.bucket.files[name] for name in asked if name in self.bucket.files])
        self._answer(404, {})

    def _get_data(self, path: str) -> None:
        if path.startswith("/cas/v1/reconstructions/"):
            terms = self.bucket.made_of[path.rpartition("/")[2]]
            if self.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
                return self._answer(
                    200, {"offset_into_first_range": 0, "terms": terms, "fetch_info": self._places(terms)}
                )
            return self._answer(416, {})
        if path.startswith("/cas/data/"):
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            return self._answer(206, self.bucket.xorbs[path.rpartition("/")[2]][int(first) : int(last) + 1])
        self._answer(404, {})

    def _places(self, terms: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for term in terms:
            places, chunks = chunk_places(self.bucket.xorbs[term["hash"]]), term["range"]
            bytes_of = {"start": places[chunks["start"]], "end": places[chunks["end"]] - 1}
            url = f"{self.address}/cas/data/{term['hash']}"
            found.setdefault(term["hash"], []).append({"range": chunks, "url": url, "url_range": bytes_of})
        return found

    def _batch(self, body: bytes) -> dict[str, Any]:
        for line in body.splitlines():
            asked = json.loads(line)
            self.bucket.requests.append(f"{asked['type']} {asked['path']}")
            if asked["type"] == "deleteFile":
                self.bucket.files.pop(asked["path"], None)
            else:
                terms = self.bucket.made_of.get(asked["xetHash"], [])
                size = sum(term["unpacked_length"] for term in terms)
                file = {"type": "file", "path": asked["path"], "size": size, "xetHash": asked["xetHash"]}
                self.bucket.files[asked["path"]] = file
        return {"success": True, "failed": []}

    def _may_use(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.bucket.token}"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def bucket_on_this_machine(bucket: Bucket) -> Iterator[str]:
    """Its address, which the client library takes as that of the Hub."""
    handler: Any = type("Handler", (_Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield handler.address
    finally:
        server.shutdown()
        server.server_close()

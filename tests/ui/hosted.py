"""The app as a Space, and visitors who call it over HTTP, by the API and by the events of the page."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from itsdangerous import TimestampSigner

from bench.browser import Server

OWNER = "Alice"
CLIENT_SECRET = "client-secret-of-the-tests"
PLANTED = "hf_PlantedSecretOfTheSpace1234567890"


class Refused(Exception):
    """The sentence that the app answered with."""


class Space:
    """A server that believes to be the Space `Alice/studio`."""

    def __init__(self, home: Path, hub: str, **environment: str) -> None:
        self.home = home
        self.server = Server(
            home,
            SPACE_ID=f"{OWNER}/studio",
            SPACE_AUTHOR_NAME=OWNER,
            SYSTEM="spaces",
            OAUTH_CLIENT_ID="client-id",
            OAUTH_CLIENT_SECRET=CLIENT_SECRET,
            OAUTH_SCOPES="openid profile",
            OPENID_PROVIDER_URL=hub,
            HF_ENDPOINT=hub,
            HF_HUB_OFFLINE="0",
            HF_HUB_DISABLE_XET="1",
            HF_HOME=str(home / "hf"),
            HF_TOKEN=PLANTED,
            **environment,
        )
        self.url = self.server.url

    def call(self, endpoint: str, *arguments: Any, token: str | None = None) -> Any:
        """A function of the API. Raises: Refused."""
        headers = {"x-hf-authorization": f"Bearer {token}"} if token else {}
        told = httpx2.get(f"{self.url}/gradio_api/info").json()["named_endpoints"][f"/{endpoint}"]["parameters"]
        data = [*arguments, *(parameter["parameter_default"] for parameter in told[len(arguments) :])]
        asked = httpx2.post(f"{self.url}/gradio_api/call/{endpoint}", json={"data": data}, headers=headers)
        asked.raise_for_status()
        event = asked.json()["event_id"]
        stream = httpx2.get(f"{self.url}/gradio_api/call/{endpoint}/{event}", headers=headers, timeout=120)
        lines = stream.text.splitlines()
        kind = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")][-1]
        answer = json.loads([line.removeprefix("data: ") for line in lines if line.startswith("data: ")][-1])
        if kind == "error":
            raise Refused(answer.get("error") if isinstance(answer, dict) else str(answer))
        return answer[0] if answer else None

    def click(self, handler: str, *arguments: Any, cookies: dict[str, str] | None = None) -> Any:
        """An event of the page that is in no list of the API, called all the same. Raises: Refused."""
        config = httpx2.get(f"{self.url}/config", headers=_cookie(cookies)).json()
        shown = {one["id"]: one["props"].get("value") for one in config["components"]}
        names = (handler, *(f"{handler}_{n}" for n in range(1, 9)))
        private = [one for one in config["dependencies"] if one["api_visibility"] == "private"]
        event = next(one for one in private if one["api_name"] in names)
        data = list(arguments) or [shown[component] for component in event["inputs"]]
        session = uuid.uuid4().hex
        body = {"fn_index": event["id"], "data": data, "session_hash": session}
        httpx2.post(f"{self.url}/gradio_api/queue/join", json=body, headers=_cookie(cookies)).raise_for_status()
        address = f"{self.url}/gradio_api/queue/data?session_hash={session}"
        with httpx2.stream("GET", address, headers=_cookie(cookies), timeout=120) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise Refused(str(message["output"].get("error")))
                    return message["output"]["data"]
        raise AssertionError("the event had no end")

    def stop(self) -> None:
        self.server.stop()


def signed_in(name: str, token: str = "hf_token_of_the_visitor") -> dict[str, str]:
    """The cookie that gradio sets when the Hub has sent this person back."""
    login = {"userinfo": {"preferred_username": name}, "access_token": token, "scope": "openid", "expires_at": 4e9}
    key = hashlib.sha256(f"{CLIENT_SECRET}-v4".encode()).hexdigest()
    data = base64.b64encode(json.dumps({"oauth_info": login}).encode())
    return {"session": TimestampSigner(key).sign(data).decode()}


@contextmanager
def hub_of_names(names: dict[str, str]) -> Iterator[Any]:
    """A Hub that knows who these tokens belong to and nothing else; `seen` are the tokens that it was asked with."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            seen.append((self.path, token))
            name = names.get(token) if self.path.startswith("/api/whoami") else None
            self._answer(*((200, {"name": name, "type": "user"}) if name else (401, {"error": "no"})))

        do_HEAD = do_GET

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.seen = seen  # type: ignore[attr-defined]
    yield server
    server.shutdown()
    server.server_close()


def _cookie(cookies: dict[str, str] | None) -> dict[str, str]:
    """By hand: the session cookie is for https, which a client would keep it to."""
    return {"cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}

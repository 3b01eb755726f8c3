"""A server on the loopback that follows OpenAI's chat completions, with a judge whose character each test chooses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.hub_server import JsonHandler, serving

Character = Callable[[dict[str, str]], str]
"""Takes the parts of a question by title (PROMPT, ANSWER A …), and returns the text of the reply."""
PARTS = re.compile(r"^<<< ([A-Z ]+) ([0-9a-f]{16})\n(.*?)\n>>> END \2$", re.M | re.S)


def verdict(better: str) -> str:
    return json.dumps({"checklist": {"1": "both"}, "better": better})


def chooses(is_wanted: Callable[[str], bool]) -> Character:
    """A judge that prefers the answer that is wanted, whichever letter it has."""

    def character(parts: dict[str, str]) -> str:
        first, second = is_wanted(parts["ANSWER A"]), is_wanted(parts["ANSWER B"])
        return verdict("tie" if first == second else "A" if first else "B")

    return character


@dataclass
class Played:
    """What the server does: the first requests get `refusals` (status, headers, body), the others the judge's reply.

    With status 0 the connection is lost.
    """

    character: Character = lambda parts: verdict("A")
    refusals: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    body: bytes | None = None
    seconds: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    address: str = ""


class _Handler(JsonHandler):
    def do_POST(self) -> None:
        played: Played = self.hub
        body = json.loads(self.body())
        played.requests.append(body)
        played.headers.append(dict(self.headers))
        time.sleep(played.seconds)
        if self.path != "/v1/chat/completions":
            return self.send(404, b"404 page not found", {})
        if played.refusals:
            status, headers, text = played.refusals.pop(0)
            if not status:
                return self.connection.close()
            return self.send(status, text, headers)
        if played.body is not None:
            return self.send(200, played.body, {"Content-Type": "text/html"})
        parts = {title: text for title, _, text in PARTS.findall(body["messages"][-1]["content"])}
        message = {"role": "assistant", "content": played.character(parts)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        with suppress(BrokenPipeError):  # a client that waited long enough
            self.reply({"id": "c", "object": "chat.completion", "model": body["model"], "choices": [choice]})


@contextmanager
def judging(played: Played) -> Iterator[Played]:
    with serving(_Handler) as (address, handler):
        handler.hub = played
        played.address = f"{address}/v1"
        yield played

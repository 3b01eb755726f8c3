"""Ask a judge: any server that follows the chat completions of OpenAI, a local Ollama or vLLM too. Imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from sft_app.errors import JudgeError, SettingsError
from sft_app.hub.login import hide_tokens
from sft_app.runtime.environment import JUDGE_KEY_VARIABLE

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS, REPLY_SECONDS = 5.0, 120.0
PAUSES = (1.0, 4.0, 10.0)
"""The seconds before each further try of a request that a busy server refused."""
LONGEST_PAUSE = 30.0
BUSY = frozenset({408, 429, 500, 502, 503, 504, 529})
SHOWN_CHARACTERS = 200
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Judge:
    """A model at an address, without `/chat/completions`. The key is sent to this address and never shown."""

    address: str
    model: str
    key: str = field(default="", repr=False)
    reply_seconds: float = REPLY_SECONDS
    pauses: tuple[float, ...] = PAUSES

    def ask(self, messages: Messages) -> str:
        """Return the model's reply, "" if it has no text. A busy server is asked again after a pause.

        Raises: JudgeError if there is no reply; the message says why, without the key.
        """
        for pause in (*self.pauses, None):
            response = self._post(messages)
            if response.status_code not in BUSY or pause is None:
                break
            time.sleep(_longer_pause(pause, response.headers.get("retry-after", "")))
        if response.status_code != 200:
            raise JudgeError(self._refusal(response))
        return self._text(response)

    def _post(self, messages: Messages) -> httpx2.Response:
        import httpx2

        body = {"model": self.model, "messages": list(messages), "temperature": 0, "stream": False}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            # A proxy from the environment is not for this machine. Redirects are not followed: the key is for one host.
            with httpx2.Client(
                timeout=httpx2.Timeout(self.reply_seconds, connect=CONNECT_SECONDS),
                trust_env=not _is_loopback(urlsplit(self.address).hostname or ""),
            ) as client:
                return client.post(f"{self.address}/chat/completions", json=body, headers=headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise JudgeError(
                f"No server answers at {self.address}. Check the address and whether the server is running "
                "(with Ollama: `ollama serve`)."
            ) from error
        except httpx2.TimeoutException as error:
            raise JudgeError(
                f"{self.model} at {self.address} did not reply within {self.reply_seconds:g} seconds. Try again once "
                "the model is loaded, or choose a smaller model."
            ) from error
        except httpx2.HTTPError as error:
            raise JudgeError(
                f"The connection to {self.address} broke off ({type(error).__name__}). Try again."
            ) from error

    def _refusal(self, response: httpx2.Response) -> str:
        status, said = response.status_code, self._said(response)
        if status in (401, 403):
            done = "The key in" if self.key else "No key is set in"
            return (
                f"{self.address} refused access ({status}). {done} {JUDGE_KEY_VARIABLE}"
                f"{' is not valid for this model' if self.key else ''}. Set the right one and start the app again."
            )
        if status == 404:
            return (
                f"{self.address} has no model “{self.model}”, or the address is incomplete (404{said}). Check the name "
                "(with Ollama: `ollama list`), and that the address ends as its documentation says, usually in /v1."
            )
        if 300 <= status < 400:
            return f"{self.address} redirects to another address ({status}). Give that address."
        if status in BUSY:
            tries = len(self.pauses) + 1
            return f"{self.address} is too busy or has a problem ({status}{said}), {tries} tries in a row. Try later."
        return f"{self.address} cannot answer this request ({status}{said}). Try another model or address."

    def _said(self, response: httpx2.Response) -> str:
        """Return what the server says about an error, shortened and without the key."""
        value = _json(response)
        error = value.get("error") if isinstance(value, dict) else None
        text = error.get("message") if isinstance(error, dict) else error
        if not isinstance(text, str) or not text.strip():
            return ""
        shown = " ".join(text.split())
        shown = hide_tokens(shown.replace(self.key, "…") if self.key else shown)[:SHOWN_CHARACTERS]
        return f": {shown.rstrip('.')}"

    def _text(self, response: httpx2.Response) -> str:
        value = _json(response)
        try:
            text = value["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise JudgeError(
                f"{self.address} does not answer in the format of chat completions. Check that the address ends as its "
                "documentation says, usually in /v1."
            ) from error
        return text if isinstance(text, str) else ""


def make_judge(address: str, model: str, environment: Mapping[str, str] = os.environ) -> Judge:
    """Make a judge, with the key from the environment.

    Plain http is for this machine and, without a key, for private IP addresses: elsewhere, anyone on the way could read
    the answers and the key.

    Raises: SettingsError if the address, the name or the key cannot be used. No message repeats a key.
    """
    key = environment.get(JUDGE_KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"{JUDGE_KEY_VARIABLE} contains characters that no key has. Copy the key again.")
    text = address.strip().rstrip("/").removesuffix("/chat/completions")
    parts = _split(text)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(
            f"The judge's address must not contain a name, a password, ? or #. Put the key in {JUDGE_KEY_VARIABLE}."
        )
    host = parts.hostname or ""
    if parts.scheme == "http" and not _is_loopback(host) and (key or not _is_private(host)):
        raise SettingsError(
            f"http://{host} would send your data{' and key' if key else ''} unencrypted. Use https. Plain http works "
            "for localhost and, if no key is set, for private IP addresses such as 192.168.1.20."
        )
    if not model.strip():
        raise SettingsError("Enter the name of the model that judges, for example qwen3:8b.")
    return Judge(text, model.strip(), key)


def _split(address: str) -> SplitResult:
    """Split an address. Raises: SettingsError if it is not one; the message leaves it out, as it may hold a key."""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        is_address = False
    if not is_address or any(char.isspace() for char in address):
        raise SettingsError(
            "The judge's address must begin with https:// or http://, for example http://localhost:11434/v1 for Ollama."
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """Return whether this is an IP address inside a private network; not one of a cloud's metadata service."""
    try:
        found = ip_address(host)
    except ValueError:
        return False
    return found.is_private and not found.is_link_local


def _longer_pause(pause: float, asked: str) -> float:
    """Return the pause, or the longer one in seconds that the server asks for, within limits."""
    return max(pause, min(float(asked), LONGEST_PAUSE)) if asked.isdecimal() else pause


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None

"""Ask a judge: any server that follows the chat completions of OpenAI, a local Ollama or vLLM too. Imports no torch."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sft_app.errors import JudgeError, SettingsError
from sft_app.evaluation.judge.addresses import check_address, uses_environment
from sft_app.hub.login import hide_tokens
from sft_app.runtime.environment import JUDGE_KEY_VARIABLE

CONNECT_SECONDS, REPLY_SECONDS = 5.0, 600.0
PAUSES = (2.0, 10.0, 30.0, 30.0)
"""The seconds before each further try of a request that a busy server refused, or whose connection was lost."""
LONGEST_PAUSE = 30.0
BUSY = frozenset({408, 429, 500, 502, 503, 504, 529})
REFUSED = frozenset({200, 400, 413, 422})
"""The statuses of an error that may be about this one request."""
SHOWN_CHARACTERS = 200
Messages = Sequence[Mapping[str, str]]


class UnansweredError(JudgeError):
    """This request has no reply, but another may have one: it was refused or took too long."""


class _Response(NamedTuple):
    """What a server sent; status 0 if the connection was lost, and then `body` names the error."""

    status: int
    retry_after: str
    body: bytes


@dataclass(frozen=True)
class Judge:
    """A model at an address, without `/chat/completions`. The key is sent to this address and never shown.

    `options` are left out of further requests once the server has refused them.
    """

    address: str
    model: str
    key: str = field(default="", repr=False)
    reply_seconds: float = REPLY_SECONDS
    pauses: tuple[float, ...] = PAUSES
    options: dict[str, Any] = field(default_factory=lambda: {"temperature": 0}, compare=False)

    def ask(self, messages: Messages) -> str:
        """Return the model's reply, "" if it has no text or was cut off. A busy server is asked again after a pause.

        Raises: UnansweredError or another JudgeError if there is no reply; the message says why, without the key.
        """
        response = self._try(messages)
        if response.status == 400 and "temperature" in self.options and "temperature" in self._said(response).lower():
            del self.options["temperature"]
            response = self._try(messages)
        if response.status != 200:
            raise self._refusal(response)
        return self._text(response)

    def _try(self, messages: Messages) -> _Response:
        for pause in self.pauses:
            response = self._post(messages)
            if response.status and response.status not in BUSY:
                return response
            time.sleep(_longer_pause(pause, response.retry_after))
        return self._post(messages)

    def _post(self, messages: Messages) -> _Response:
        import httpx2

        try:
            return self._send({"model": self.model, "messages": list(messages), **self.options, "stream": False})
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise JudgeError(self._unreachable(error)) from error
        except httpx2.TimeoutException as error:
            raise UnansweredError(
                f"{self.model} at {self.address} did not reply within {self.reply_seconds:g} s. Try again once "
                "the model is loaded, or choose a smaller model; the command line allows more time with --timeout."
            ) from error
        except httpx2.TransportError as error:
            return _Response(0, "", type(error).__name__.encode())
        except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, ValueError) as error:
            raise JudgeError(
                f"{self.address} cannot be used, or the proxy that HTTPS_PROXY or ALL_PROXY names "
                f"({type(error).__name__}). Correct or unset it."
            ) from error

    def _send(self, body: dict[str, Any]) -> _Response:
        """Send a request, and read the response within the time for a reply.

        Redirects are not followed: the key is for one host.
        """
        import httpx2

        ends = time.monotonic() + self.reply_seconds
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        timeout = httpx2.Timeout(self.reply_seconds, connect=min(CONNECT_SECONDS, self.reply_seconds))
        url, content = f"{self.address}/chat/completions", json.dumps(body).encode()
        with (
            httpx2.Client(timeout=timeout, trust_env=uses_environment(self.address)) as client,
            client.stream("POST", url, content=content, headers=headers) as response,
        ):
            received = b""
            for part in response.iter_bytes():
                received += part
                if time.monotonic() > ends:
                    raise httpx2.ReadTimeout("")
            return _Response(response.status_code, response.headers.get("retry-after", ""), received)

    def _unreachable(self, error: Exception) -> str:
        if _is_about_tls(error):
            return (
                f"No secure connection to {self.address}: its certificate is not trusted, or it does not use https. "
                "Check the address; SSL_CERT_FILE can name the certificates of your organisation."
            )
        return (
            f"No server answers at {self.address}. Check the address and whether the server is running "
            "(with Ollama: `ollama serve`)."
        )

    def _refusal(self, response: _Response) -> JudgeError:
        status, said, tries = response.status, self._said(response), len(self.pauses) + 1
        if not status:
            lost = f"The connection to {self.address} broke off ({response.body.decode()}), {tries} tries in a row."
            return JudgeError(f"{lost} Try again later.")
        if status in (401, 403):
            done = "The key in" if self.key else "No key is set in"
            return JudgeError(
                f"{self.address} refused access ({status}). {done} {JUDGE_KEY_VARIABLE}"
                f"{' is not valid for this model' if self.key else ''}. Set the right one and start the app again."
            )
        if status == 404:
            return JudgeError(
                f"{self.address} has no model “{self.model}”, or the address is incomplete (404{said}). Check the name "
                "(with Ollama: `ollama list`), and that the address ends as its documentation says, usually in /v1."
            )
        if 300 <= status < 400:
            return JudgeError(f"{self.address} redirects to another address ({status}). Give that address.")
        if status in BUSY:
            trouble = f"{self.address} is too busy or has a problem ({status}{said}), {tries} tries in a row."
            return JudgeError(f"{trouble} Try later.")
        kind = UnansweredError if status in REFUSED else JudgeError
        return kind(f"{self.address} cannot answer this request ({status}{said}). Try another model or address.")

    def _said(self, response: _Response) -> str:
        """Return what the server says about an error, shortened and without the key."""
        value = _json(response)
        value = value[0] if isinstance(value, list) and value else value
        for name in ("error", "message", "detail"):
            found = value.get(name) if isinstance(value, dict) else None
            text = found.get("message") if isinstance(found, dict) else found
            if isinstance(text, str) and text.strip():
                break
        else:
            return ""
        shown = " ".join(text.split())
        shown = hide_tokens(shown.replace(self.key, "…") if self.key else shown)[:SHOWN_CHARACTERS]
        return f": {shown.rstrip('.')}"

    def _text(self, response: _Response) -> str:
        value = _json(response)
        try:
            choice = value["choices"][0]
            content, ended = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError) as error:
            if self._said(response):
                raise self._refusal(response) from error
            raise JudgeError(
                f"{self.address} does not answer in the format of chat completions. Check that the address ends as its "
                "documentation says, usually in /v1."
            ) from error
        return "" if ended == "length" else _joined(content)


def make_judge(address: str, model: str, environment: Mapping[str, str] = os.environ) -> Judge:
    """Make a judge, with the key from the environment.

    Raises: SettingsError if the address, the name or the key cannot be used. No message repeats a key.
    """
    key = environment.get(JUDGE_KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"{JUDGE_KEY_VARIABLE} contains characters that no key has. Copy the key again.")
    text = check_address(address, key)
    if not model.strip():
        raise SettingsError("Enter the name of the model that judges, for example qwen3:8b.")
    return Judge(text, model.strip(), key)


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _longer_pause(pause: float, asked: str) -> float:
    """Return the pause, or the longer one in seconds that the server asks for, within limits."""
    try:
        return max(pause, min(float(asked), LONGEST_PAUSE))
    except ValueError:
        return pause


def _joined(content: Any) -> str:
    """Return the text of a reply, which may come in parts; others of them are thoughts."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _json(response: _Response) -> Any:
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None

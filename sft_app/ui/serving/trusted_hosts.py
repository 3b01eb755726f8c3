"""Which requests reach the page: those for a host that it serves, unless another site's page sent them.

A browser lets any site send requests to this machine, under any name that resolves to it. `Origin` names the site that
sent the request, `Host` the name it was sent to. Gradio compares the two for only three host names.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Self

from gradio.routes import App, ORJSONResponse

from sft_app.errors import SettingsError
from sft_app.hosting import Hosting
from sft_app.runtime.environment import ALLOWED_HOSTS_VARIABLE

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERY_ADDRESS = ("0.0.0.0", "::")
DEFAULT_PORTS = {"http": 80, "https": 443}
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::([0-9]{1,5}))?")
# The Hub shows a Space in a frame on its own page.
SPACE_FRAMES = "'self' https://huggingface.co https://*.hf.space"
# Gradio builds the page's address from these; a browser sends neither.
FORWARDED_HOST, NODE_SERVER = b"x-forwarded-host", b"x-gradio-server"
FORBIDDEN, MISDIRECTED = 403, 421  # Source: RFC 9110, 15.5.4 and 15.5.20
MAX_LOGGED = MAX_SHOWN_CHARACTERS = 100

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Authority:
    """The `host:port` of a `Host`, or of an `Origin` after its scheme. An IP address is in its shortest form."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return None for text that is neither a name nor an address, such as `user@host`."""
        found = AUTHORITY.fullmatch(text.strip(" \t").lower())
        host = canonical_host(found[1]) if found else None
        return cls(host, int(found[2]) if found[2] else None) if found and host else None

    def with_port(self, scheme: str) -> Self:
        return type(self)(self.host, self.port or DEFAULT_PORTS[scheme])


@dataclass(frozen=True)
class Refusal:
    """The HTTP status and the message of a refused request."""

    status: int
    message: str


@dataclass(frozen=True)
class TrustedHosts:
    """The hosts that the page serves.

    `names` are hosts. `origins` are complete addresses at which a proxy serves the page, whatever `Host` it sends.
    """

    names: frozenset[str] = LOOPBACK
    origins: frozenset[tuple[str, Authority]] = frozenset()
    frame_ancestors: str = "'self'"

    def refusal_of(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused, or None."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        host = Authority.parse(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_named(host, scope):
            return _wrong_host(host)
        if not origins:
            return _other_site("") if _is_cross_site(scope) else None
        return None if len(origins) == 1 and self._matches(origins[0], host) else _other_site(origins[0])

    def _is_named(self, host: Authority, scope: Scope) -> bool:
        """Return whether the host is trusted. So is the connection's own IP address, which no other site can have."""
        here = canonical_host(str((scope.get("server") or ("",))[0]))
        return host.host in self.names or (here is not None and host.host == here and _address(here) is not None)

    def _matches(self, origin: str, host: Authority) -> bool:
        scheme, sender = _parse_origin(origin)
        return sender is not None and (sender == host.with_port(scheme) or (scheme, sender) in self.origins)

    def passed_on(self, scope: Scope) -> Scope:
        """Return the scope without headers from which Gradio would build an untrusted address of the page."""
        headers = [(name, value) for name, value in scope["headers"] if not self._misleads(name.lower(), value)]
        return {**scope, "headers": headers}

    def _misleads(self, name: bytes, value: bytes) -> bool:
        forwarded = Authority.parse(value.decode("latin-1").partition(",")[0]) if name == FORWARDED_HOST else None
        return name == NODE_SERVER or (
            name == FORWARDED_HOST and (forwarded is None or forwarded.host not in self.names)
        )


class GuardedApp(App):
    """Gradio's app behind the host check: refused requests do not even reach Gradio's middleware."""

    def __init__(self, trusted: TrustedHosts) -> None:
        super().__init__(default_response_class=ORJSONResponse)  # as Gradio creates its own app
        self.trusted = trusted

    def build_middleware_stack(self) -> Any:
        """Put the host check outermost: Gradio adds its middleware last, and Starlette puts later ones outside."""
        return HostCheck(super().build_middleware_stack(), self.trusted)


class HostCheck:
    """ASGI middleware that refuses untrusted requests, and adds to each response who may frame the page."""

    def __init__(self, app: Callable[..., Awaitable[None]], trusted: TrustedHosts) -> None:
        self.app, self.trusted = app, trusted
        self.logged: set[str] = set()
        self.headers = [
            (b"content-security-policy", f"frame-ancestors {trusted.frame_ancestors}".encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif refusal := self.trusted.refusal_of(scope):
            self._log(refusal.message)
            await self._refuse(refusal, scope, send)
        else:
            await self.app(self.trusted.passed_on(scope), receive, self._adding_headers(send))

    def _adding_headers(self, send: Send) -> Send:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", []) if pair[0].lower() != b"x-content-type-options"]
                message = {**message, "headers": [*kept, *self.headers]}
            await send(message)

        return send_with_headers

    async def _refuse(self, refusal: Refusal, scope: Scope, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        headers = [*plain, *self.headers]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{refusal.message}\n".encode()})

    def _log(self, message: str) -> None:
        """Log each message once, up to a limit that keeps the log small."""
        if message not in self.logged and len(self.logged) < MAX_LOGGED:
            self.logged.add(message)
            logger.warning("A request was refused: %s", message)


def trusted_hosts(address: str, hosting: Hosting, environment: Mapping[str, str]) -> TrustedHosts:
    """Return the hosts of a page at `address`: loopback, the address, the Space's host, and the configured ones.

    Raises: SettingsError if `SFT_APP_ALLOWED_HOSTS` contains something that is not a host.
    """
    listening = canonical_host(address.lower()) or address
    names = {*LOOPBACK, listening}
    if listening in EVERY_ADDRESS:
        names.add(socket.gethostname().lower())
    origins = set(_space_origins(hosting, environment))
    for entry in filter(None, map(str.strip, environment.get(ALLOWED_HOSTS_VARIABLE, "").split(","))):
        scheme, _, rest = entry.rpartition("://")
        named = Authority.parse(_in_ascii(rest.rstrip("/")))
        if named is None or scheme.lower() not in ("", *DEFAULT_PORTS):
            raise SettingsError(
                f"{ALLOWED_HOSTS_VARIABLE}: {entry!r} is not a host. Use a name such as studio.example.org."
            )
        names.add(named.host)
        if scheme:
            origins.add((scheme.lower(), named.with_port(scheme.lower())))
    names |= {origin.host for _, origin in origins}
    frames = SPACE_FRAMES if hosting.is_hosted else "'self'"
    return TrustedHosts(frozenset(names), frozenset(origins), frames)


def canonical_host(text: str) -> str | None:
    """Return a name without its final dot, or an IP address in its shortest form without brackets; None for neither."""
    text = text.removesuffix(".")
    address = _address(text.removeprefix("[").removesuffix("]"))
    if address is not None:
        return str(getattr(address, "ipv4_mapped", None) or address)
    return text if text and not text.startswith("[") else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _space_origins(hosting: Hosting, environment: Mapping[str, str]) -> Iterator[tuple[str, Authority]]:
    """Yield the Space's origins. `SPACE_HOST` is a comma-separated list if the Space has a custom domain."""
    if hosting.space is None:
        return
    default = re.sub("[^a-z0-9]+", "-", hosting.space.lower()) + ".hf.space"
    for host in (environment.get("SPACE_HOST") or default).split(","):
        if named := Authority.parse(host):
            yield "https", named.with_port("https")


def _parse_origin(text: str) -> tuple[str, Authority | None]:
    """Return the scheme and the authority, which is None for `null` and for schemes other than http and https."""
    scheme, _, rest = text.strip(" \t").lower().partition("://")
    sender = Authority.parse(rest) if scheme in DEFAULT_PORTS else None
    return scheme, sender and sender.with_port(scheme)


def _in_ascii(host: str) -> str:
    """Return a host as a browser sends it; "" if it cannot be encoded."""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""


def _values(scope: Scope, header: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == header]


def _is_cross_site(scope: Scope) -> bool:
    """Return whether another site's page loads this as an image, a script or the like. A link to the page is allowed.

    Source: W3C, Fetch Metadata Request Headers.
    """
    sites, modes = _values(scope, b"sec-fetch-site"), _values(scope, b"sec-fetch-mode")
    return any(site in ("cross-site", "same-site") for site in sites) and modes != ["navigate"]


def _wrong_host(host: Authority | None) -> Refusal:
    if host is None:
        return Refusal(
            MISDIRECTED,
            "The request does not name exactly one host. Open the page at the address that the app printed.",
        )
    problem = f"The app does not serve the host {host.host[:MAX_SHOWN_CHARACTERS]!r}."
    advice = f"If it is yours, start the app with {ALLOWED_HOSTS_VARIABLE}={host.host[:MAX_SHOWN_CHARACTERS]}."
    return Refusal(MISDIRECTED, f"{problem} {advice}")


def _other_site(origin: str) -> Refusal:
    problem = "Another site sent this request. Open the page itself and try again there."
    if _parse_origin(origin)[1] is None:
        return Refusal(FORBIDDEN, problem)
    address = origin.strip()[:MAX_SHOWN_CHARACTERS]
    advice = f"If {address} is yours, start the app with {ALLOWED_HOSTS_VARIABLE}={address}."
    return Refusal(FORBIDDEN, f"{problem} {advice}")

"""Which requests reach the page: those sent to a host that it was opened for, and not by another site's page.

A browser lets any site send requests to this machine, under any name that resolves to it. Who asked stands in `Origin`,
which name was asked for in `Host`; gradio compares the two for three host names only.
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
# The Hub shows a Space in a frame of its own page.
SPACE_FRAMES = "'self' https://huggingface.co https://*.hf.space"
# Gradio builds the page's address from these; a browser sends neither.
FORWARDED_HOST, NODE_SERVER = b"x-forwarded-host", b"x-gradio-server"
FORBIDDEN, MISDIRECTED = 403, 421  # Source: RFC 9110, 15.5.4 and 15.5.20
MOST_LOGGED = MOST_TOLD = 100

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Authority:
    """`host:port` as it stands in a `Host` or after the scheme of an `Origin`; an address in its shortest form."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for what is neither a name nor an address, such as one with a user before it."""
        found = AUTHORITY.fullmatch(text.strip(" \t").lower())
        host = canonical_host(found[1]) if found else None
        return cls(host, int(found[2]) if found[2] else None) if found and host else None

    def with_port(self, scheme: str) -> Self:
        return type(self)(self.host, self.port or DEFAULT_PORTS[scheme])


@dataclass(frozen=True)
class Refusal:
    """`status` and sentence of a request that goes no further."""

    status: int
    message: str


@dataclass(frozen=True)
class TrustedHosts:
    """`names` are hosts; `origins` are whole addresses at which a proxy serves the page, whatever `Host` it sends."""

    names: frozenset[str] = LOOPBACK
    origins: frozenset[tuple[str, Authority]] = frozenset()
    frame_ancestors: str = "'self'"

    def refusal_of(self, scope: Scope) -> Refusal | None:
        """What is wrong with a request, None where nothing is."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        host = Authority.parse(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_named(host, scope):
            return _wrong_host(host)
        if not origins:
            return _other_site("") if _is_cross_site(scope) else None
        return None if len(origins) == 1 and self._matches(origins[0], host) else _other_site(origins[0])

    def _is_named(self, host: Authority, scope: Scope) -> bool:
        """The address that the connection came in at is this machine's, and no other site can have it for a name."""
        here = canonical_host(str((scope.get("server") or ("",))[0]))
        return host.host in self.names or (here is not None and host.host == here and _address(here) is not None)

    def _matches(self, origin: str, host: Authority) -> bool:
        scheme, sender = _parse_origin(origin)
        return sender is not None and (sender == host.with_port(scheme) or (scheme, sender) in self.origins)

    def passed_on(self, scope: Scope) -> Scope:
        """Without what would tell gradio another address of the page than one of these."""
        headers = [(name, value) for name, value in scope["headers"] if not self._misleads(name.lower(), value)]
        return {**scope, "headers": headers}

    def _misleads(self, name: bytes, value: bytes) -> bool:
        told = Authority.parse(value.decode("latin-1").partition(",")[0]) if name == FORWARDED_HOST else None
        return name == NODE_SERVER or (name == FORWARDED_HOST and (told is None or told.host not in self.names))


class GuardedApp(App):
    """Gradio's app, which sees no request that `trusted` refuses: not even its own middleware does."""

    def __init__(self, trusted: TrustedHosts) -> None:
        super().__init__(default_response_class=ORJSONResponse)  # as gradio makes its own
        self.trusted = trusted

    def build_middleware_stack(self) -> Any:
        """Starlette's; it adds later middleware outside of earlier ones, and gradio adds its own last."""
        return HostCheck(super().build_middleware_stack(), self.trusted)


class HostCheck:
    """ASGI middleware: refuses what is not for this page, and says in each answer who may frame it."""

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
        """Each once, and no more of them than a file should hold."""
        if message not in self.logged and len(self.logged) < MOST_LOGGED:
            self.logged.add(message)
            logger.warning("A request was refused: %s", message)


def trusted_hosts(address: str, hosting: Hosting, environment: Mapping[str, str]) -> TrustedHosts:
    """Those of a page that listens on `address`: loopback, the address, the Space's, and what the person named.

    Raises: SettingsError when `SFT_APP_ALLOWED_HOSTS` names something that is no host.
    """
    opened_for = canonical_host(address.lower()) or address
    names = {*LOOPBACK, opened_for}
    if opened_for in EVERY_ADDRESS:
        names.add(socket.gethostname().lower())
    origins = set(_space_origins(hosting, environment))
    for given in filter(None, map(str.strip, environment.get(ALLOWED_HOSTS_VARIABLE, "").split(","))):
        scheme, _, rest = given.rpartition("://")
        named = Authority.parse(_in_ascii(rest.rstrip("/")))
        if named is None or scheme.lower() not in ("", *DEFAULT_PORTS):
            raise SettingsError(
                f"{ALLOWED_HOSTS_VARIABLE}: {given!r} is not a host. Give a name such as studio.example.org."
            )
        names.add(named.host)
        if scheme:
            origins.add((scheme.lower(), named.with_port(scheme.lower())))
    names |= {origin.host for _, origin in origins}
    frames = SPACE_FRAMES if hosting.is_hosted else "'self'"
    return TrustedHosts(frozenset(names), frozenset(origins), frames)


def canonical_host(text: str) -> str | None:
    """A name without the dot at its end; an address in its shortest form and without brackets. None if it is none."""
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
    """`SPACE_HOST` has several with commas between them where the Space has a domain of its own."""
    if hosting.space is None:
        return
    usual = re.sub("[^a-z0-9]+", "-", hosting.space.lower()) + ".hf.space"
    for host in (environment.get("SPACE_HOST") or usual).split(","):
        if named := Authority.parse(host):
            yield "https", named.with_port("https")


def _parse_origin(text: str) -> tuple[str, Authority | None]:
    """Scheme and address, which is None for `null` and for what is not of the web."""
    scheme, _, rest = text.strip(" \t").lower().partition("://")
    sender = Authority.parse(rest) if scheme in DEFAULT_PORTS else None
    return scheme, sender and sender.with_port(scheme)


def _in_ascii(host: str) -> str:
    """As a browser sends it."""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _is_cross_site(scope: Scope) -> bool:
    """A picture, a script or the like of another site's page, which comes without an Origin; a link is none of them.

    Source: W3C, Fetch Metadata Request Headers.
    """
    sites, modes = _values(scope, b"sec-fetch-site"), _values(scope, b"sec-fetch-mode")
    return any(site in ("cross-site", "same-site") for site in sites) and modes != ["navigate"]


def _wrong_host(host: Authority | None) -> Refusal:
    if host is None:
        return Refusal(MISDIRECTED, "The request does not name one host. Open the page at the address the app printed.")
    told = f"The app does not serve the host {host.host[:MOST_TOLD]!r}."
    advice = f"If it is yours, start the app with {ALLOWED_HOSTS_VARIABLE}={host.host[:MOST_TOLD]}."
    return Refusal(MISDIRECTED, f"{told} {advice}")


def _other_site(origin: str) -> Refusal:
    told = "Another site sent this request. Open the page itself and try from there."
    if _parse_origin(origin)[1] is None:
        return Refusal(FORBIDDEN, told)
    address = origin.strip()[:MOST_TOLD]
    advice = f"If {address} is yours, start the app with {ALLOWED_HOSTS_VARIABLE}={address}."
    return Refusal(FORBIDDEN, f"{told} {advice}")

"""Which addresses of a judge may be used, and with what."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

from sft_app.errors import SettingsError
from sft_app.runtime.environment import JUDGE_KEY_VARIABLE

METADATA_SERVICES = frozenset({ip_address("169.254.169.254"), ip_address("fd00:ec2::254")})
"""Where clouds hand out their secrets to every program on a machine."""


def check_address(address: str, key: str) -> str:
    """Return the address as it is used, without `/chat/completions`.

    Plain http is for this machine and, without a key, for private IP addresses: elsewhere, anyone on the way could read
    the answers and the key.

    Raises: SettingsError if it cannot be used. No message repeats a key.
    """
    text = address.strip().rstrip("/").removesuffix("/chat/completions")
    parts = _split(text)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(
            f"The judge's address must not contain a name, a password, ? or #. Put the key in {JUDGE_KEY_VARIABLE}."
        )
    host = parts.hostname or ""
    if parts.scheme == "http" and not is_loopback(host) and (key or not _is_private(host)):
        raise SettingsError(
            f"http://{host} would send your data{' and key' if key else ''} unencrypted. Use https. Plain http works "
            "for localhost and, if no key is set, for private IP addresses such as 192.168.1.20."
        )
    return text


def uses_environment(address: str) -> bool:
    """Return whether proxies and certificates from the environment are for this address."""
    parts = urlsplit(address)
    return parts.scheme == "https" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can be reached under this name or IP address, in brackets or not."""
    found = _ip(host)
    return host == "localhost" or (found is not None and found.is_loopback)


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


def _is_private(host: str) -> bool:
    """Return whether this is the IP address of one machine inside a private network."""
    found = _ip(host)
    if found is None or found.is_unspecified or found.is_link_local or found in METADATA_SERVICES:
        return False
    return found.is_private


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host.strip("[]"))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found

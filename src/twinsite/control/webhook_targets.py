"""Where webhooks may lead. A tenant names the address and the controller connects to it, so what only the controller
can reach (its own services, its neighbours, a cloud's metadata) must not be within the tenant's reach through it.

Without a list of allowed hosts only public addresses are sent to. A name is looked up each time, every address of it is
checked, and the connection goes to the address that was checked, not to the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from twinsite.errors import TwinsiteError

URL_CHARACTERS_MAX = 2048
_PORTS = {"http": 80, "https": 443}
_PORT_MAX = 65535

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses of IPv4 behind a translator (RFC 6052)."""


_PLATFORMS_OWN = (
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("fec0::/10"),
)
"""Not private by the registries that Python knows, and still this machine's neighbourhood: what Azure serves its
machines with, where Oracle's cloud has its metadata, and addresses of one site (RFC 3879)."""


class TargetRefused(TwinsiteError):
    """A URL that is not sent to; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. `address` is set when it names no host but an address."""

    scheme: str
    host: str
    port: int
    address: Address | None


def parse_target(url: str) -> Target:
    """Return where a URL leads. Raises `TargetRefused` for what is no plain http or https URL."""
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise TargetRefused(f"use at most {URL_CHARACTERS_MAX} printable ASCII characters without blanks")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetRefused(f"this is no URL: {error}") from None
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not host:
        raise TargetRefused("begin it with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise TargetRefused("leave user and password out; the signature says who sends")
    if parts.fragment:
        raise TargetRefused("leave the part after '#' out; it is not sent")
    if port is not None and not 1 <= port <= _PORT_MAX:
        raise TargetRefused("use a port of 1 to 65535")
    return Target(parts.scheme, host.rstrip(".").lower(), port or _PORTS[parts.scheme], _address_of(host))


def _address_of(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def refuse_address(target: Target, address: Address, allowed: Sequence[str]) -> None:
    """Raise `TargetRefused` unless this address of the target may be connected to."""
    if any(_covers(item, target.host, address) for item in allowed):
        return
    if allowed:
        raise TargetRefused(f"{target.host} is not among webhook_allowed_hosts of the controller's settings")
    if not _is_public(address):
        raise TargetRefused(
            f"{address} is not a public address; an administrator can allow it by webhook_allowed_hosts in the "
            "controller's settings"
        )


def _covers(item: str, host: str, address: Address) -> bool:
    """Say whether an entry of the list allows a host at an address: a name, `*.domain`, an address or a network."""
    pattern = item.lower().rstrip(".")
    if pattern == host or (pattern.startswith("*.") and host.endswith(pattern[1:])):
        return True
    try:
        network = ipaddress.ip_network(item, strict=False)
    except ValueError:
        return False
    plain = _plain(address)
    return plain.version == network.version and plain in network


def _plain(address: Address) -> Address:
    """Return the address that is meant by one that wraps another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address


def _is_public(address: Address) -> bool:
    plain = _plain(address)
    if any(plain.version == network.version and plain in network for network in _PLATFORMS_OWN):
        return False
    return plain.is_global and not plain.is_multicast and not plain.is_reserved


async def resolve(target: Target, allowed: Sequence[str]) -> Address:
    """Return an address of the target that may be connected to; one that may not refuses them all.

    Raises `TargetRefused`, also when the name cannot be looked up.
    """
    if target.address is not None:
        addresses: list[Address] = [target.address]
    else:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TargetRefused(f"{target.host} cannot be looked up: {error.strerror or error}") from error
        except UnicodeError as error:  # A part of it is empty, or longer than 63 characters.
            raise TargetRefused(f"{target.host} cannot be the name of a host") from error
        addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
    for address in addresses:
        refuse_address(target, address, allowed)
    if not addresses:
        raise TargetRefused(f"{target.host} has no address")
    return addresses[0]

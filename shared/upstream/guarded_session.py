"""
Sockets for everybody: the aiohttp sessions under the AI transport and under the Azure SDKs.

One process has two of them, with one TLS context (aiohttp keeps it): `open_guarded_session` for
customers' endpoints, which refuses addresses that nobody may make us call, and `open_session` for
the operator's own Storage and Key Vault.
"""

from __future__ import annotations

import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from shared.errors import ConnectionInvalid

IDLE_S = 60
CONNECTIONS = 256
"""Sockets a worker holds open to customers' endpoints at once; a kept TLS connection costs about 0.3 MB."""

_NEVER = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link local: the metadata service of every cloud
        "168.63.129.16/32",  # Azure's own platform address, though it counts as public
        "fe80::/10",
        "fec0::/10",  # site local, of old: Python takes it for public
        "fd00:ec2::254/128",
        "100.100.100.200/32",  # other clouds' metadata, in ranges that are merely private, or
        "192.0.0.0/24",  # public to a Python before 3.11.10
    )
)
_NAT64 = ip_network("64:ff9b::/96")

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
"""An address about to be connected to, as `socket.getaddrinfo` tells it."""


def open_session(ca_file: str = "") -> aiohttp.ClientSession:
    """
    A session for the Azure SDKs, which decode bodies themselves. Needs a running loop.

    `ca_file` is trusted besides the system's authorities. Given to the SDKs instead, it would cost a
    TLS context a request.
    """
    connector = None
    if ca_file:
        tls = ssl.create_default_context()
        tls.load_verify_locations(ca_file)
        connector = aiohttp.TCPConnector(ssl=tls)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


def open_guarded_session(*, allow_local: bool, allow_private: bool) -> aiohttp.ClientSession:
    """A session that connects to public addresses, to others as far as allowed. Needs a running loop."""
    resolver = GuardedResolver(allow_local=allow_local, allow_private=allow_private)

    def guarded_socket(target: AddrInfo) -> socket.socket:
        family, kind, protocol, _, address = target
        if not is_allowed_address(str(address[0]), local=allow_local, private=allow_private):
            raise ConnectionInvalid("The `endpoint` leads to an address that may not be called.")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=resolver,
        # Asked with the very address that is connected to, a literal one of a URL included.
        socket_factory=guarded_socket,
        limit=CONNECTIONS,
        keepalive_timeout=IDLE_S,
        enable_cleanup_closed=False,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("content-type",),  # a POST without a body would be told to have one of bytes
    )


class GuardedResolver(AbstractResolver):
    """
    Resolves names, and refuses those whose address may not be called.

    The check is on the very addresses that the connector then connects to, so a name that resolves
    to something else a moment later does not get round it. Literal addresses in a URL never come
    here: `outbound.check_allowed` refuses them, and the session's sockets do.
    """

    def __init__(self, *, allow_local: bool, allow_private: bool, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or DefaultResolver()
        self._allow_local = allow_local
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The host's addresses, if all may be called. Raises ConnectionInvalid, and OSError as DNS does."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not is_allowed_address(one["host"], local=self._allow_local, private=self._allow_private):
                raise ConnectionInvalid(
                    f"`endpoint`: {host} resolves to an address that may not be called; a private one "
                    "needs the app setting ALLOW_PRIVATE_ENDPOINTS."
                )
        return found

    async def close(self) -> None:
        """Closes the resolver within."""
        await self._inner.close()


def is_allowed_address(text: str, *, local: bool, private: bool) -> bool:
    """Whether an IP address may be called on behalf of a customer."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.sixtofour is not None:
            address = address.sixtofour
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    if address.is_loopback:
        return local
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    return address.is_global or private

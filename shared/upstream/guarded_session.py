"""
The aiohttp sessions under the AI client and under the Azure SDKs.

A process has two, which share a TLS context (aiohttp caches it). `open_guarded_session` is for customers'
endpoints and refuses IP addresses that must not be called for them. `open_session` is for the operator's own
Storage and Key Vault.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from shared.errors import ConnectionInvalid, SettingInvalid
from shared.shares import Shares
from shared.upstream.lenient_http import MAX_HEADER_BYTES, MAX_HEADERS, LenientResponseHandler

KEEPALIVE_S = 60
MAX_CONNECTIONS = 256
"""Sockets that a worker holds open to customers' endpoints; an idle TLS connection costs about 0.3 MB."""
MAX_LOOKUPS = max(min(32, (os.cpu_count() or 1) + 4) - 2, 2)
"""
Names that are looked up at once: each takes one of the event loop's threads until the name server answers. Two of them
are left for the vault and Storage.
"""
MAX_LOOKUP_WAIT_S = 10.0

_FORBIDDEN_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link local: the metadata service of every cloud
        "168.63.129.16/32",  # Azure's own platform address, although it counts as public
        "fe80::/10",
        "fec0::/10",  # site local, deprecated: Python considers it public
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "100.100.100.200/32",  # other clouds' metadata, in ranges that are merely private, or
        "192.0.0.0/24",  # public to a Python before 3.11.10
    )
)
_NAT64 = ip_network("64:ff9b::/96")

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
"""An address that is about to be connected to, as `socket.getaddrinfo` returns it."""


def open_session(ca_file: str = "") -> aiohttp.ClientSession:
    """
    Return a session for the Azure SDKs, which decode bodies themselves. Needs a running loop.

    The certificate authorities in `ca_file` are trusted besides the system's. If the SDKs got the file instead,
    they would create a TLS context for each request. Raises SettingInvalid if the file can't be read.
    """
    connector = aiohttp.TCPConnector(ssl=load_authorities(ca_file)) if ca_file else None
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


def load_authorities(ca_file: str) -> ssl.SSLContext:
    """Return a TLS context that trusts the authorities in a file, too. Raises SettingInvalid if it can't be read."""
    tls = ssl.create_default_context()
    try:
        tls.load_verify_locations(ca_file)
    except (OSError, ValueError):
        raise SettingInvalid("KEY_VAULT_CA_FILE must be a file that exists, with certificates in PEM.") from None
    return tls


def open_guarded_session(*, allow_local: bool, allow_private: bool, lookups: Shares) -> aiohttp.ClientSession:
    """
    Return a session that connects only to IP addresses that may be called. Needs a running loop.

    Its requests raise ConnectionInvalid for any other address.
    """
    resolver = GuardedResolver(allow_local=allow_local, allow_private=allow_private, lookups=lookups)

    def open_guarded_socket(target: AddrInfo) -> socket.socket:
        family, kind, protocol, _, address = target
        if not is_allowed_address(str(address[0]), local=allow_local, private=allow_private):
            raise ConnectionInvalid("The IP address of the `endpoint` is not allowed.")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=resolver,
        # Called with the very address that is connected to, also if it is a literal in the URL.
        socket_factory=open_guarded_socket,
        limit=MAX_CONNECTIONS,
        keepalive_timeout=KEEPALIVE_S,
        enable_cleanup_closed=False,
    )
    factory: Any = partial(LenientResponseHandler, loop=asyncio.get_running_loop())
    connector._factory = factory  # noqa: SLF001
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
        trace_configs=[_trace()],
        skip_auto_headers=("content-type",),  # otherwise a POST without a body gets `application/octet-stream`
    )


@dataclass(slots=True)
class Sending:
    """A customer's request, and whether it has begun to be sent, and so may be billed."""

    customer: str
    begun: bool = False


_sending: ContextVar[Sending] = ContextVar("_sending")


@contextmanager
def observe_sending(customer: str) -> Iterator[Sending]:
    """Observe the customer's request that is sent within the block."""
    sending = Sending(customer)
    token = _sending.set(sending)
    try:
        yield sending
    finally:
        _sending.reset(token)


def _trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_note_sending)
    return trace


async def _note_sending(*_: object) -> None:
    if (sending := _sending.get(None)) is not None:
        sending.begun = True


class GuardedResolver(AbstractResolver):
    """
    Resolves names, and refuses those that have an IP address that must not be called.

    It checks the very addresses that the connector then connects to, so a name that resolves to something else
    a moment later does not get around it. Literal addresses in a URL never reach a resolver:
    `egress_policy.check_allowed` refuses them, and so do the session's sockets.

    A name server may take its time, and a callback's may be anybody's: each customer has its share of the lookups.
    """

    def __init__(
        self,
        *,
        allow_local: bool,
        allow_private: bool,
        inner: AbstractResolver | None = None,
        lookups: Shares | None = None,
    ) -> None:
        self._inner = inner or DefaultResolver()
        self._lookups = lookups or Shares(MAX_LOOKUPS)
        self._allow_local = allow_local
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the host's addresses if all are allowed. Raises ConnectionInvalid, or OSError if DNS fails."""
        sending = _sending.get(None)
        customer = sending.customer if sending else ""
        try:
            async with asyncio.timeout(MAX_LOOKUP_WAIT_S):
                await self._lookups.wait(customer)
        except TimeoutError:
            raise OSError(None, "too many names are being looked up") from None
        try:
            # aiohttp lets this go on when nobody waits for it any more, as its thread does.
            addresses = await self._inner.resolve(host, port, family)
        finally:
            self._lookups.give_back(customer)
        for address in addresses:
            if not is_allowed_address(address["host"], local=self._allow_local, private=self._allow_private):
                raise ConnectionInvalid(
                    f"The `endpoint` host {host} resolves to an IP address that is not allowed; a private address "
                    "needs the app setting ALLOW_PRIVATE_ENDPOINTS."
                )
        return addresses

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


def is_allowed_address(text: str, *, local: bool, private: bool) -> bool:
    """Return whether an IP address may be called for a customer; `local` adds loopback, `private` private ones."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.sixtofour is not None:
            address = address.sixtofour
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
    if any(address in network for network in _FORBIDDEN_NETWORKS if network.version == address.version):
        return False
    if address.is_loopback:
        return local
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    return address.is_global or private

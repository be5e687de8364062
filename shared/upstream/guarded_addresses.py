"""Which IP addresses may be called for a customer, whatever name resolves to them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from shared.errors import ConnectionInvalid
from shared.lru import LRU
from shared.network.hosts import Host
from shared.shares import Shares

MAX_LOOKUPS = max(min(32, (os.cpu_count() or 1) + 4) - 2, 2)
"""
Names that are looked up at once: each takes one of the event loop's threads until the name server answers. Two of them
are left for the vault and Storage.
"""
MAX_LOOKUP_WAIT_S = 10.0
_KEEP_S = 10.0
_MAX_KEPT = 1000

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

AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""An address to connect to, as `socket.getaddrinfo` returns it."""


async def look_up(name: str, port: int) -> Sequence[AddrInfo]:
    """Return the addresses of a name, or an address as it is. Raises OSError."""
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


class GuardedAddresses:
    """
    Resolves names, each at most once in ten seconds, and refuses those that have an address that must not be called.

    A connection goes to the very addresses that are checked here, so a name that resolves to something else a moment
    later does not get around it. A name server may take its time, and a callback's may be anybody's: each customer has
    its share of the `lookups`.
    """

    def __init__(self, *, allow_local: bool, allow_private: bool, lookups: Shares) -> None:
        self._allow_local, self._allow_private = allow_local, allow_private
        self._lookups = lookups
        self._kept = LRU[tuple[str, Host], tuple[float, asyncio.Future[Sequence[AddrInfo]]]](_MAX_KEPT)

    async def resolve(self, host: Host, customer: str) -> Sequence[AddrInfo]:
        """Return the host's addresses if all are allowed. Raises ConnectionInvalid, or OSError if DNS fails."""
        if (literal := _literal(host)) is not None:
            if not self._is_allowed(literal):
                raise ConnectionInvalid("The IP address of the `endpoint` is not allowed.")
            return [literal]
        addresses = await self._look_up(host, customer)
        if not all(map(self._is_allowed, addresses)):
            raise ConnectionInvalid(
                f"The `endpoint` host {host.name} resolves to an IP address that is not allowed; a private address "
                "needs the app setting ALLOW_PRIVATE_ENDPOINTS."
            )
        return addresses

    def _is_allowed(self, address: AddrInfo) -> bool:
        return is_allowed_address(str(address[4][0]), local=self._allow_local, private=self._allow_private)

    async def _look_up(self, host: Host, customer: str) -> Sequence[AddrInfo]:
        key, now = (customer, host), asyncio.get_running_loop().time()
        begun_at, lookup = self._kept.get(key) or (0.0, None)
        if lookup is None or now - begun_at > _KEEP_S or _has_failed(lookup):
            try:
                async with asyncio.timeout(MAX_LOOKUP_WAIT_S):
                    await self._lookups.wait(customer)
            except TimeoutError:
                raise OSError(None, "too many names are being looked up") from None
            lookup = asyncio.ensure_future(look_up(host.name, host.port))
            lookup.add_done_callback(partial(self._end, customer))
            self._kept.set(key, (now, lookup))
        return await asyncio.shield(lookup)

    def _end(self, customer: str, lookup: asyncio.Future[Sequence[AddrInfo]]) -> None:
        # A lookup takes its thread until it ends, also if nobody waits for it any more.
        self._lookups.give_back(customer)
        if not lookup.cancelled():
            lookup.exception()  # or the loop reports one that nobody waits for


def _has_failed(lookup: asyncio.Future[Sequence[AddrInfo]]) -> bool:
    return lookup.done() and (lookup.cancelled() or lookup.exception() is not None)


def _literal(host: Host) -> AddrInfo | None:
    try:
        address = ip_address(host.name)
    except ValueError:
        return None
    tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    if isinstance(address, IPv4Address):
        return (socket.AF_INET, *tcp, (host.name, host.port))
    return (socket.AF_INET6, *tcp, (host.name, host.port, 0, 0))


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

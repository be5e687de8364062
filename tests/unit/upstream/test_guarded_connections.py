"""Connections to customers' endpoints: names that a certificate, or no certificate, can have."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import pytest
import trustme

from shared.errors import ProviderUnavailable
from shared.network.hosts import Host
from shared.shares import Shares
from shared.upstream import guarded_addresses, guarded_connections
from shared.upstream.guarded_connections import GuardedConnections
from tests.support.clients import open_client


async def to_loopback(_: str, port: int) -> Sequence[guarded_addresses.AddrInfo]:
    """Find each name on this machine."""
    return await asyncio.get_running_loop().getaddrinfo("127.0.0.1", port, type=guarded_addresses.socket.SOCK_STREAM)


async def test_a_certificate_has_no_dot_at_the_end_of_its_name(monkeypatch: pytest.MonkeyPatch):
    """`acme.example.` is `acme.example` in full: the same server, and the same certificate."""
    issuer, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("acme.example").configure_cert(tls)
    trusting = ssl.create_default_context()
    issuer.configure_trust(trusting)
    monkeypatch.setattr(guarded_addresses, "look_up", to_loopback)
    monkeypatch.setattr(guarded_connections, "tls_context", lambda: trusting)
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    connections = GuardedConnections(allow_local=True, allow_private=False, lookups=Shares(4))

    connection = await connections.open(Host("acme.example.", listener.sockets[0].getsockname()[1], True), "acme")

    connection.close()
    listener.close()


async def test_a_name_that_can_t_be_one_can_t_be_reached():
    """A label has 63 letters at most. Nothing was sent to it."""
    async with open_client() as client:
        with pytest.raises(ProviderUnavailable, match="could not be reached") as failure:
            await client.post(f"https://{'a' * 64}.example/", b"", {}, customer="acme", timeout_s=5, member="callback")

    assert not failure.value.facts.unanswered

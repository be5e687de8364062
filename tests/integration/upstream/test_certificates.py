"""Endpoints over TLS."""

from __future__ import annotations

import asyncio

import pytest

from local.vault.server import Vault
from shared.errors import ProviderUnavailable
from shared.secret import Secret
from shared.upstream import guarded_addresses
from shared.upstream.messages import ApiKey, UpstreamRequest
from tests.support.clients import open_client
from tests.support.networks import Network, RebindingResolver

ADDRESS = "20.42.0.1"


async def test_an_untrusted_certificate_ends_the_call(vault: Vault, monkeypatch: pytest.MonkeyPatch):
    """Over https nothing is sent to a host without a certificate of that name from a trusted authority."""
    loop = asyncio.get_running_loop()
    network = Network(loop, int(vault.url.rpartition(":")[2].strip("/")))
    monkeypatch.setattr(loop, "sock_connect", network.sock_connect)
    monkeypatch.setattr(guarded_addresses, "look_up", RebindingResolver(ADDRESS).look_up)
    request = UpstreamRequest("POST", "https://contoso.openai.azure.com/v1/x", b"{}")
    async with open_client(allow_local=False) as client:
        with pytest.raises(ProviderUnavailable, match="SSLCertVerificationError"):
            await client.send(request, ApiKey("api-key", Secret("k")), customer="acme", timeout_s=5)

    assert [ADDRESS] == network.called

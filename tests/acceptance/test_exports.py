"""Exports on a real Functions host: from jobs over HTTP to the systems' sums, by the timer's function."""

from __future__ import annotations

import asyncio
import json

import pytest

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.clock import now
from tests.support.billing_receivers import KEY, Lago, Stripe, serve_system
from tests.support.endpoint import Endpoint
from tests.support.live_server import serve


@pytest.mark.long
async def test_usage_of_jobs_reaches_two_billing_systems(azurite: Azurite, vault: Vault, endpoint: Endpoint):
    """
    Five jobs over HTTP, a customer's profile over HTTP, one run of the timer: both systems have the sum of what the
    results say, and the host's log has neither key.
    """
    stripe, lago = Stripe(now), Lago(now)
    async with serve_system(stripe) as stripe_url, serve_system(lago) as lago_url:
        exports = [
            {"name": "stripe", "kind": "stripe", "event_name": "ai_tokens", "value": "total_tokens", "url": stripe_url},
            {"name": "lago-eu", "kind": "lago", "code": "ai_tokens", "value": "total_tokens", "url": lago_url},
        ]
        async with serve(azurite, vault, endpoint, USAGE_EXPORTS=json.dumps(exports)) as server:
            customer = server.harness.customer()
            for name in ("stripe", "lago-eu"):
                server.harness.put_secret(f"export--{name}", KEY)
            ids = {"external_ids": {"stripe": "cus_1", "lago-eu": "sub_1"}}
            profile = await server.http.put(f"/api/customers/{customer.name}/profile", json=ids)
            assert profile.is_success, profile.text
            responses = await asyncio.gather(
                *(server.http.post("/api/jobs", json=customer.job(), headers={"Prefer": "wait=60"}) for _ in range(5))
            )
            used = sum(response.json()["usage"]["total_tokens"] for response in responses)
            async with asyncio.timeout(60):
                while lago.sum() < used or stripe.sum() < used:
                    await server.http.post("/admin/functions/wake_jobs", json={})
                    await asyncio.sleep(0.5)

        assert used == stripe.sum("cus_1") == lago.sum("sub_1") > 0
        assert 0 == stripe.doubles == lago.doubles
        assert any("export_sent export=stripe events=" in line for line in server.lines)
        assert [] == [line for line in server.lines if KEY in line]

"""What a customer may have in flight over HTTP at once, so that others find room."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from shared.billing.statements import Statements
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.probe import ConnectionProbe
from shared.http.shares import LIST_WEIGHT, MAX_CONNECTION_TESTS, MAX_STATEMENTS, MAX_VAULT_REQUESTS, MAX_WAITS
from tests.support.harness import Customer
from tests.support.http_client import HttpResponse, post, send
from tests.support.http_connections import put

KINDS: dict[str, tuple[str, str, type, str, int]] = {
    "reads": ("GET", "/connections/default", KeyVaultCredentials, "get_with_info", MAX_VAULT_REQUESTS),
    "lists": ("GET", "/connections", KeyVaultCredentials, "list", MAX_VAULT_REQUESTS // LIST_WEIGHT),
    "tests": ("POST", "/connections/default/test", ConnectionProbe, "run", MAX_CONNECTION_TESTS),
    "statements": ("GET", "/usage", Statements, "read", MAX_STATEMENTS),
}
"""Method, path, what is blocked to keep such a request in flight, and how many a worker answers at once."""


@pytest.mark.parametrize(("method", "path", "blocked", "name", "limit"), KINDS.values(), ids=KINDS)
async def test_a_customer_has_half_of_the_requests_in_flight(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, method: str, path: str, blocked: type, name: str, limit: int
):
    """Beyond its share a customer gets 429, and nothing is done; another customer's request is answered."""
    other = customer.harness.customer()
    for each in (customer, other):
        assert (await put(each)).status < 300
    reached, release, method_of = [], asyncio.Event(), getattr(blocked, name)

    def block(*arguments: Any, **options: Any) -> Any:
        async def wait() -> Any:
            reached.append(arguments)
            await release.wait()
            return await method_of(*arguments, **options)

        async def iterate() -> Any:
            reached.append(arguments)
            await release.wait()
            async for item in method_of(*arguments, **options):
                yield item

        return iterate() if name == "list" else wait()

    monkeypatch.setattr(blocked, name, block)

    async def request(each: Customer) -> HttpResponse:
        return await send(each.harness, method, f"customers/{each.name}{path}")

    running = [asyncio.create_task(request(customer)) for _ in range(limit // 2)]
    while len(reached) < limit // 2:  # noqa: ASYNC110  # a list has no event
        await asyncio.sleep(0.01)
    refused = await request(customer)
    running.append(asyncio.create_task(request(other)))
    while len(reached) <= limit // 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    release.set()

    refused.assert_problem(429, "rate_limited", "repeat this one later")
    assert refused.headers["Retry-After"]
    assert {200} == {response.status for response in await asyncio.gather(*running)}
    assert 200 == (await request(customer)).status


async def test_only_so_many_requests_are_kept_waiting(customer: Customer):
    """Beyond its customer's share, a request with `Prefer: wait` gets 202 at once, like one without it."""
    resource: Any = customer.harness.services.http.handlers["submit_job"]
    with ExitStack() as waiting:
        for _ in range(MAX_WAITS // 2):
            assert waiting.enter_context(resource.__self__.waits.tried(customer.name))

        async with asyncio.timeout(30):
            response = await post(customer, job_id="one-more", headers={"prefer": "wait=120"})

        assert (202, "queued") == (response.status, response.json["status"])
        assert resource.__self__.waits.has_room("another")
    assert {} == resource.__self__.waits.taken

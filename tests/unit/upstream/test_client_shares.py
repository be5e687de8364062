"""A customer's share of a worker's sockets and lookups of names, and of the memory for large answers."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.errors import ProviderUnavailable, UpstreamTimeout
from shared.secret import Secret
from shared.upstream import client as client_module
from shared.upstream import guarded_addresses
from shared.upstream.client import UpstreamClient
from shared.upstream.guarded_addresses import AddrInfo
from shared.upstream.messages import ApiKey, Response, UpstreamRequest
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.clients import Resolver, open_client
from tests.support.endpoint import Account, reply

MIB = 1024 * 1024


@pytest_asyncio.fixture(loop_scope="session")
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UpstreamClient]:
    """A client with eight sockets, and room for 16 MiB of large answers."""
    monkeypatch.setattr(client_module, "MAX_CONNECTIONS", 8)
    monkeypatch.setattr(client_module, "MAX_LARGE_BYTES", 16 * MIB)
    async with open_client() as opened:
        yield opened


async def send(client: UpstreamClient, account: Account, customer: str, timeout_s: float = 30) -> Response:
    """Send one request of a customer."""
    request = UpstreamRequest("POST", f"{account.base}/v1/x", b"{}")
    return await client.send(request, ApiKey("api-key", Secret(account.key)), customer=customer, timeout_s=timeout_s)


async def test_no_customer_takes_every_socket(client: UpstreamClient, account: Account):
    """
    One customer's calls take half of the sockets, and wait for them; another customer's call goes through. A call that
    did not get one in time was not sent.
    """
    blocking = BlockingEndpoint()
    account.will_answer(*[blocking] * 4, reply(b"{}"))
    hanging = [asyncio.create_task(send(client, account, "a")) for _ in range(40)]
    while len(account.received) < 4:  # noqa: ASYNC110  # a list has no event
        await asyncio.sleep(0.01)

    assert b"{}" == (await send(client, account, "b")).body
    with pytest.raises(UpstreamTimeout, match="could not be sent") as raised:
        await send(client, account, "a", timeout_s=0.1)
    assert raised.value.facts.unsent
    assert 5 == len(account.received)
    for task in hanging[4:]:
        task.cancel()
    blocking.release.set()
    await asyncio.gather(*hanging[:4])

    await asyncio.gather(*hanging, return_exceptions=True)
    assert {} == client._sockets.taken


LARGE = {
    "declared": reply(b"x" * 3 * MIB),
    "compressed": reply(gzip.compress(b"x" * 3 * MIB), headers={"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("kind", LARGE)
async def test_large_answers_wait_for_memory(
    client: UpstreamClient, account: Account, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """
    A customer's large answers take half of the memory for them, whether their size is declared or shows only when they
    are decompressed, for as long as they are in use. Another customer's goes through, and small ones are not counted.
    """
    monkeypatch.setattr("shared.upstream.response_body.MAX_RESPONSE_BYTES", 4 * MIB)
    first = 2 if kind == "declared" else 1
    account.will_answer(*[LARGE[kind]] * (first + 2), reply(b"{}"), LARGE[kind])
    kept = [await send(client, account, "a") for _ in range(first)]
    waiting = [asyncio.create_task(send(client, account, "a")) for _ in range(2)]
    while len(account.received) < first + 2:  # noqa: ASYNC110  # a list has no event
        await asyncio.sleep(0.01)
    small, other = await send(client, account, "a"), await send(client, account, "b")

    assert (b"{}", 3 * MIB) == (small.body, len(other.body))
    assert 3 * MIB == client._memory.taken["b"]
    assert 3 * MIB * first <= client._memory.taken["a"] <= 8 * MIB
    assert not all(task.done() for task in waiting)
    kept.clear()
    del other
    assert [3 * MIB] * 2 == [len((await task).body) for task in waiting]
    waiting.clear()
    await asyncio.sleep(0.05)

    assert {} == client._memory.taken


class SlowNames(Resolver):
    """A resolver whose server answers nothing for names of `slow.example`."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        super().__init__(addresses)
        self.hanging = 0
        self.end = asyncio.Event()

    async def look_up(self, name: str, port: int) -> list[AddrInfo]:
        """Return the addresses of the name, or wait for the end."""
        if name.endswith(".slow.example"):
            self.hanging += 1
            await self.end.wait()
        return await super().look_up(name, port)


async def test_no_customer_takes_every_lookup(account: Account, monkeypatch: pytest.MonkeyPatch):
    """Callbacks to names that no server answers for, of which anybody can have many, hold up no other customer."""
    names = SlowNames({"fast.example": ["127.0.0.1"]})
    monkeypatch.setattr(guarded_addresses, "look_up", names.look_up)
    monkeypatch.setattr(guarded_addresses, "MAX_LOOKUP_WAIT_S", 0.2)
    monkeypatch.setattr(client_module, "MAX_LOOKUPS", 8)
    account.will_answer(reply(b"{}"))
    async with open_client() as client:
        callbacks = [
            client.post(f"https://{n}.slow.example/", b"{}", {}, customer="a", timeout_s=30, member="callback")
            for n in range(20)
        ]
        hanging = [asyncio.create_task(callback) for callback in callbacks]
        done, _ = await asyncio.wait(hanging, timeout=2)
        request = UpstreamRequest("POST", f"{account.base.replace('127.0.0.1', 'fast.example')}/v1/x", b"{}")
        access = ApiKey("api-key", Secret(account.key))

        assert b"{}" == (await client.send(request, access, customer="b", timeout_s=30)).body
        assert (4, 16) == (names.hanging, len(done))
        names.end.set()
        ends = await asyncio.gather(*hanging, return_exceptions=True)
        assert {ProviderUnavailable} == {type(end) for end in ends}

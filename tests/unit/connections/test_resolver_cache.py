"""Connections in memory: what the resolver adds to the cache of secrets (`test_secret_cache`)."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.connections import secret_cache
from shared.connections.connection import Connection
from shared.connections.resolver import Connections
from shared.connections.secret_cache import FRESH_S, OUTAGE_S, REREAD_S
from shared.errors import ConnectionDisabled, ConnectionExpired, ConnectionFault, VaultUnavailable
from tests.support.credential_store import (
    ENDPOINT,
    KEY,
    OPERATORS,
    MemoryCredentials,
    key_of,
    set_time,
    settings,
)
from tests.support.manual_clock import ManualClock

SECRET = "contoso", "default"


@pytest.fixture
def with_static(store: MemoryCredentials, clock: ManualClock) -> Connections:
    """The connections in the store, and the operator's for all customers."""
    return Connections(settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)


@pytest.mark.parametrize(
    ("secret", "outcome", "life_s"),
    [
        ({"version": "v1"}, "v1", FRESH_S),
        (None, "connection_not_found", REREAD_S),
        ({"value": "{"}, "connection_invalid", REREAD_S),
    ],
    ids=["usable", "missing", "invalid"],
)
async def test_a_secret_is_read_again_after_its_life(
    connections: Connections,
    store: MemoryCredentials,
    clock: ManualClock,
    secret: dict[str, Any] | None,
    outcome: str,
    life_s: float,
) -> None:
    """A connection is used for FRESH_S; one that is added or corrected after a first job serves REREAD_S later."""

    async def resolved() -> str:
        try:
            return (await connections.resolve(*SECRET)).version
        except ConnectionFault as fault:
            return fault.code

    if secret is not None:
        store.put("contoso", **secret)
    assert outcome == await resolved()
    store.put("contoso", version="v2")
    clock.advance(life_s - 1)
    before = await resolved()
    clock.advance(1)

    assert (outcome, "v2", 2) == (before, await resolved(), store.reads[SECRET])


async def test_jobs_refused_with_the_old_key_share_a_reread(connections: Connections, store: MemoryCredentials) -> None:
    """
    All jobs that are refused during a rotation get the new connection at once, for one read. A new key that is refused
    as well is read once more.
    """
    store.put("contoso")
    refused = await connections.resolve(*SECRET)
    store.put("contoso", value=json.dumps({"endpoint": ENDPOINT, "api_key": "rotated-key"}))

    renewed = await asyncio.gather(*(connections.find_rotated(refused) for _ in range(50)))
    renewed.append(await connections.find_rotated(refused))

    current = await connections.resolve(*SECRET)
    assert "rotated-key" == key_of(current)
    assert all(connection is current for connection in renewed)
    assert 2 == store.reads[SECRET]
    assert await connections.find_rotated(current) is None
    assert 3 == store.reads[SECRET]


async def test_a_flood_of_refusals_is_few_reads(store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However many jobs are refused, the secret is read once in REFUSED_PAUSE_S, and each job waits for a read that began
    after its refusal. The same version is no new one.
    """
    monkeypatch.setattr(secret_cache, "REFUSED_PAUSE_S", 0.2)
    store.put("contoso")
    connections = Connections(settings(), store)
    refused = await connections.resolve(*SECRET)
    began = time.monotonic()

    async def job(number: int) -> Connection | None:
        await asyncio.sleep(number / 200)
        return await connections.find_rotated(refused)

    assert {None} == set(await asyncio.gather(*(job(number) for number in range(100))))

    assert 2 <= store.reads[SECRET] - 1 <= 2 + (time.monotonic() - began) / 0.2


async def test_a_key_rotated_just_after_its_first_refusal_serves_the_next_job(
    connections: Connections, store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before a job's refusal is no reason to fail it, not even if it was read a moment before."""
    monkeypatch.setattr(secret_cache, "REFUSED_PAUSE_S", 0.01)
    store.put("contoso", version="v1")
    refused = await connections.resolve(*SECRET)
    assert await connections.find_rotated(refused) is None
    store.gate = asyncio.Event()
    during = asyncio.create_task(connections.find_rotated(refused))
    await asyncio.sleep(0.05)
    assert 3 == store.reads[SECRET]

    next_job = asyncio.create_task(connections.find_rotated(refused))  # refused while an older read is under way
    await asyncio.sleep(0)
    answered = store.secrets["contoso", "default"]
    store.put("contoso", version="v2")
    rotated = store.secrets["contoso", "default"]
    store.secrets["contoso", "default"] = answered  # which the vault had read before the rotation
    store.gate.set()
    assert await during is None
    store.secrets["contoso", "default"] = rotated

    renewed = await next_job
    assert renewed is not None
    assert ("v2", 4) == (renewed.version, store.reads[SECRET])


async def test_a_version_that_is_in_memory_replaces_a_refused_one(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """If other jobs have found the new version, or that the secret is disabled, a refused job needs no read."""
    store.put("contoso", version="v1")
    refused = await connections.resolve(*SECRET)
    store.put("contoso", version="v2")
    clock.advance(FRESH_S)
    renewed = await connections.resolve(*SECRET)
    assert renewed is await connections.find_rotated(refused)
    assert 2 == store.reads[SECRET]

    store.put("contoso", enabled=False)
    with pytest.raises(ConnectionDisabled):
        await connections.find_rotated(renewed)
    for _ in range(2):
        with pytest.raises(ConnectionDisabled):
            await connections.resolve(*SECRET)
        with pytest.raises(ConnectionDisabled):
            await connections.find_rotated(refused)

    assert 3 == store.reads[SECRET]


async def test_a_forgotten_connection_is_read_again(connections: Connections, store: MemoryCredentials) -> None:
    """After `forget` the next job, or a refused one, gets the new version, and no other connection is read again."""
    for secret in (SECRET, ("contoso", "spare"), ("fabrikam", "default")):
        store.put(*secret, version="v1")
    first, *_ = [await connections.resolve(*secret) for secret in store.secrets]

    for version in ("v2", "v3"):
        store.put("contoso", version=version)
        connections.forget(*SECRET)
        renewed = await connections.find_rotated(first) if version == "v2" else await connections.resolve(*SECRET)
        assert renewed is not None
        assert version == renewed.version

    assert ["v3", "v1", "v1"] == [(await connections.resolve(*secret)).version for secret in store.secrets]
    assert [3, 1, 1] == [store.reads[key] for key in store.secrets]


async def test_an_outage_never_uses_the_static_connection(
    with_static: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """While it is unknown whether a customer has a connection of its own, its jobs wait."""
    assert "static" == (await with_static.resolve(*SECRET)).source
    store.down = True
    clock.advance(OUTAGE_S)

    for customer in ("contoso", "fabrikam"):
        with pytest.raises(VaultUnavailable, match=f"Key Vault answered 503.*{customer}'s connection default"):
            await with_static.resolve(customer, "default")


async def test_a_key_rotated_during_an_outage_fails_no_job(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """
    If the vault does not answer whether there is a new key, the error requeues the job. However many are refused, the
    vault is tried once in REREAD_S; once it answers, the new key is found, or that there is none.
    """
    store.put("contoso", version="v1")
    refused = await connections.resolve(*SECRET)
    store.down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable, match="refused the key of customer contoso's connection default"):
            await connections.find_rotated(refused)
    assert 2 == store.reads[SECRET]
    assert refused is await connections.resolve(*SECRET)

    store.down = False
    clock.advance(REREAD_S)
    assert await connections.find_rotated(refused) is None
    store.put("contoso", version="v2")
    clock.advance(REREAD_S)
    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "v2" == renewed.version


async def test_a_cached_connection_expires(
    connections: Connections, store: MemoryCredentials, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A connection that expires while it is cached is refused from that moment on, and a new version or date is used as
    soon as it is read: at that moment, for one read, and then once in REREAD_S.
    """
    expiry = now() + timedelta(minutes=1)
    store.put("contoso", expires_on=expiry)
    store.put("fabrikam", version="v1", expires_on=expiry)
    set_time(monkeypatch, expiry - timedelta(microseconds=1))
    for customer in ("contoso", "fabrikam"):
        await connections.resolve(customer, "default")
    store.put("fabrikam", version="v2", expires_on=expiry + timedelta(days=30))
    set_time(monkeypatch, expiry)

    resolved = await asyncio.gather(*(connections.resolve("fabrikam", "default") for _ in range(50)))
    assert ({"v2"}, 2) == ({connection.version for connection in resolved}, store.reads["fabrikam", "default"])
    for _ in range(3):
        with pytest.raises(ConnectionExpired, match="contoso's connection default has expired"):
            await connections.resolve(*SECRET)
    assert 2 == store.reads[SECRET]
    store.put("contoso", expires_on=expiry + timedelta(days=30))
    clock.advance(REREAD_S)

    assert KEY == key_of(await connections.resolve(*SECRET))


async def test_a_cached_secret_becomes_valid(
    connections: Connections, store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that is not valid yet is refused, and used from its first moment on without another read."""
    start = now() + timedelta(minutes=1)
    store.put("contoso", not_before=start)
    with pytest.raises(ConnectionExpired, match="not valid yet"):
        await connections.resolve(*SECRET)

    set_time(monkeypatch, start)

    assert (KEY, 1) == (key_of(await connections.resolve(*SECRET)), store.reads[SECRET])


async def test_similar_names_have_separate_entries(connections: Connections, store: MemoryCredentials) -> None:
    """The cache's key is customer and name, not a text that two pairs could share."""
    store.put("a-b", "c", json.dumps({"endpoint": ENDPOINT, "api_key": "key-of-a-b"}))
    store.put("a", "b-c", json.dumps({"endpoint": ENDPOINT, "api_key": "key-of-a"}))

    first = await connections.resolve("a-b", "c")
    second = await connections.resolve("a", "b-c")

    assert ("key-of-a-b", "key-of-a") == (key_of(first), key_of(second))


async def test_the_static_connection_is_never_rotated(
    with_static: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """
    The operator's key is an app setting, so there is nothing to read again; and a job that began on the operator's
    account never goes on with the key that the customer has stored since.
    """
    refused = await with_static.resolve(*SECRET)
    assert (None, 1) == (await with_static.find_rotated(refused), store.reads[SECRET])

    store.put("contoso")
    clock.advance(REREAD_S)
    assert "key_vault" == (await with_static.resolve(*SECRET)).source

    assert await with_static.find_rotated(refused) is None

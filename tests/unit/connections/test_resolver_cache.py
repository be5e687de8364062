"""Connections in memory: shared reads, outages, rotations and dates."""

from __future__ import annotations

import asyncio
import gc
import json
from datetime import UTC, datetime, timedelta

import pytest

from shared.connections import secret_cache
from shared.connections.resolver import Connections
from shared.connections.secret_cache import FRESH_S, OUTAGE_S, REREAD_S, STALE_S
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionInvalid,
    ConnectionNotFound,
    VaultUnavailable,
)
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


async def test_concurrent_jobs_share_a_read(connections: Connections, store: MemoryCredentials) -> None:
    """However many jobs resolve a connection at the same time, its secret is read once."""
    store.put("contoso")

    resolved = await asyncio.gather(*(connections.resolve("contoso", "default") for _ in range(100)))

    assert 1 == store.reads["contoso", "default"]
    assert all(connection is resolved[0] for connection in resolved)


async def test_concurrent_jobs_share_a_failing_read(connections: Connections, store: MemoryCredentials) -> None:
    """While the vault is down, concurrent jobs share one read, and each gets its own error."""
    store.down = True

    resolved = await asyncio.gather(
        *(connections.resolve("contoso", "default") for _ in range(100)), return_exceptions=True
    )

    assert 1 == store.reads["contoso", "default"]
    assert all(isinstance(result, VaultUnavailable) for result in resolved)


async def test_a_connection_is_read_again_after_fresh_s(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """For FRESH_S a connection is used as it was read; after that a new version is found."""
    store.put("contoso", version="v1")
    await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")

    clock.advance(FRESH_S - 1)
    before = await connections.resolve("contoso", "default")
    clock.advance(1)
    after = await connections.resolve("contoso", "default")

    assert ("v1", "v2") == (before.version, after.version)
    assert 2 == store.reads["contoso", "default"]


async def test_a_missing_connection_is_cached_briefly(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """A customer who is onboarded after a first failed job is served REREAD_S later, not FRESH_S."""
    with pytest.raises(ConnectionNotFound):
        await connections.resolve("contoso", "default")
    store.put("contoso")

    with pytest.raises(ConnectionNotFound):
        await connections.resolve("contoso", "default")
    clock.advance(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))
    assert 2 == store.reads["contoso", "default"]


async def test_an_invalid_connection_is_cached_briefly(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """A corrected secret is used REREAD_S later as well."""
    store.put("contoso", value="{")
    with pytest.raises(ConnectionInvalid):
        await connections.resolve("contoso", "default")
    store.put("contoso")

    clock.advance(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_a_rotated_key_is_found_at_once(connections: Connections, store: MemoryCredentials) -> None:
    """After a refusal the secret is read again, and a new version is returned."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", value=json.dumps({"endpoint": ENDPOINT, "api_key": "rotated-key"}))

    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "rotated-key" == key_of(renewed)
    assert renewed is await connections.resolve("contoso", "default")


async def test_a_forgotten_connection_is_read_again(connections: Connections, store: MemoryCredentials) -> None:
    """After `forget` the next job gets the new version, and no other connection is read again."""
    store.put("contoso", version="v1")
    store.put("contoso", "spare")
    store.put("fabrikam")
    for customer, name in store.secrets:
        await connections.resolve(customer, name)
    store.put("contoso", version="v2")

    connections.forget("contoso", "default")

    versions = [(await connections.resolve(customer, name)).version for customer, name in store.secrets]
    assert "v2" == versions[0]
    assert [2, 1, 1] == [store.reads[key] for key in store.secrets]


async def test_an_unchanged_key_is_not_rotated(connections: Connections, store: MemoryCredentials) -> None:
    """If the secret is still the same version, None is returned."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")

    assert await connections.find_rotated(refused) is None


async def test_refusals_reread_a_secret_once_in_reread_s(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """However many jobs are refused, at the same time or not, the secret is read again once in REREAD_S."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")

    for _ in range(3):
        await asyncio.gather(*(connections.find_rotated(refused) for _ in range(50)))
    assert 2 == store.reads["contoso", "default"]

    clock.advance(REREAD_S)
    await connections.find_rotated(refused)
    assert 3 == store.reads["contoso", "default"]


async def test_jobs_refused_with_the_old_key_share_a_reread(connections: Connections, store: MemoryCredentials) -> None:
    """All jobs that are refused during a rotation get the new connection, for one read."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")

    at_once = await asyncio.gather(*(connections.find_rotated(refused) for _ in range(50)))
    late = await connections.find_rotated(refused)

    assert {"v2"} == {connection.version for connection in (*at_once, late) if connection is not None}
    assert 51 == len([connection for connection in (*at_once, late) if connection is not None])
    assert 2 == store.reads["contoso", "default"]


async def test_a_new_key_that_is_refused_too_is_not_read_again_at_once(
    connections: Connections, store: MemoryCredentials
) -> None:
    """A key that was just found by a reread and is refused as well is not read again."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso")
    renewed = await connections.find_rotated(refused)
    assert renewed is not None

    assert await connections.find_rotated(renewed) is None
    assert 2 == store.reads["contoso", "default"]


async def test_a_version_that_is_in_memory_replaces_a_refused_one(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """If other jobs have found the new version, or that the secret is disabled, a refused job needs no read."""
    store.put("contoso", version="v1")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")
    clock.advance(FRESH_S)
    renewed = await connections.resolve("contoso", "default")
    assert renewed is await connections.find_rotated(refused)

    store.put("contoso", enabled=False)
    clock.advance(FRESH_S)
    for _ in range(2):
        with pytest.raises(ConnectionDisabled):
            await connections.resolve("contoso", "default")
        with pytest.raises(ConnectionDisabled):
            await connections.find_rotated(refused)

    assert 3 == store.reads["contoso", "default"]


async def test_a_refused_connection_that_is_no_longer_in_memory_is_read(
    connections: Connections, store: MemoryCredentials
) -> None:
    """A refused job finds the new version after the old one was forgotten or discarded."""
    store.put("contoso", version="v1")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")
    connections.forget("contoso", "default")

    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "v2" == renewed.version


async def test_a_refused_key_that_was_disabled_is_an_error(connections: Connections, store: MemoryCredentials) -> None:
    """If the reread finds the secret disabled, that error is raised."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", enabled=False)

    with pytest.raises(ConnectionDisabled):
        await connections.find_rotated(refused)


async def test_a_vault_outage_is_bridged(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """While the vault is down, a connection is used until STALE_S, and the vault tried once in OUTAGE_S."""
    store.put("contoso")
    cached = await connections.resolve("contoso", "default")
    store.down = True

    clock.advance(FRESH_S)
    reads = store.reads["contoso", "default"]
    for _ in range(int(5 * OUTAGE_S)):
        assert cached is await connections.resolve("contoso", "default")
        clock.advance(1)
    assert 5 == store.reads["contoso", "default"] - reads

    clock.advance(STALE_S - FRESH_S - 5 * OUTAGE_S)
    assert cached is await connections.resolve("contoso", "default")

    clock.advance(OUTAGE_S)
    with pytest.raises(VaultUnavailable, match="contoso's connection default"):
        await connections.resolve("contoso", "default")


async def test_a_new_version_is_found_after_an_outage(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """The first read after an outage finds what has changed meanwhile."""
    store.put("contoso", version="v1")
    await connections.resolve("contoso", "default")
    store.down = True
    clock.advance(FRESH_S)
    await connections.resolve("contoso", "default")

    store.down = False
    store.put("contoso", version="v2")
    clock.advance(OUTAGE_S)

    assert "v2" == (await connections.resolve("contoso", "default")).version


async def test_an_outage_never_uses_the_static_connection(store: MemoryCredentials, clock: ManualClock) -> None:
    """While it is unknown whether a customer has a connection of its own, its jobs wait."""
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*")
    connections = Connections(static, store, clock=clock)
    assert "static" == (await connections.resolve("contoso", "default")).source
    store.down = True
    clock.advance(OUTAGE_S)

    for customer in ("contoso", "fabrikam"):
        with pytest.raises(VaultUnavailable):
            await connections.resolve(customer, "default")


async def test_a_key_rotated_during_an_outage_fails_no_job(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """
    If the vault does not answer whether there is a new key, the error requeues the job. However many are refused, the
    vault is tried once in REREAD_S; once it answers, the new key is found, or that there is none.
    """
    store.put("contoso", version="v1")
    refused = await connections.resolve("contoso", "default")
    store.down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable, match="refused the key of customer contoso's connection default"):
            await connections.find_rotated(refused)
    assert 2 == store.reads["contoso", "default"]
    assert refused is await connections.resolve("contoso", "default")

    store.down = False
    clock.advance(REREAD_S)
    assert await connections.find_rotated(refused) is None
    store.put("contoso", version="v2")
    clock.advance(REREAD_S)
    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "v2" == renewed.version


async def test_an_outage_is_cached_briefly(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """While the vault is down, jobs of a connection that is not cached try it once in REREAD_S, not each."""
    store.down = True
    for _ in range(5):
        with pytest.raises(VaultUnavailable, match="Key Vault answered 503"):
            await connections.resolve("contoso", "default")
    assert 1 == store.reads["contoso", "default"]

    store.down = False
    store.put("contoso")
    store.put("fabrikam")
    await connections.resolve("fabrikam", "default")
    clock.advance(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_a_cached_connection_expires(
    connections: Connections, store: MemoryCredentials, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A connection that expires while it is cached is refused from that moment on. It is read again then, and once in
    REREAD_S as long as it is outside its dates, so that new dates are used soon.
    """
    expiry = datetime.now(UTC) + timedelta(minutes=1)
    store.put("contoso", expires_on=expiry)
    await connections.resolve("contoso", "default")

    set_time(monkeypatch, expiry - timedelta(microseconds=1))
    await connections.resolve("contoso", "default")
    set_time(monkeypatch, expiry)

    for reads in (2, 3):
        for _ in range(3):
            with pytest.raises(ConnectionExpired, match="has expired"):
                await connections.resolve("contoso", "default")
        assert reads == store.reads["contoso", "default"]
        clock.advance(REREAD_S)

    store.put("contoso", expires_on=expiry + timedelta(days=30))

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_a_new_version_is_used_when_the_old_one_expires(
    connections: Connections, store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is stored before the cached one expires is used from that moment on, for one read."""
    expiry = datetime.now(UTC) + timedelta(seconds=1)
    store.put("contoso", version="v1", expires_on=expiry)
    assert "v1" == (await connections.resolve("contoso", "default")).version
    store.put("contoso", version="v2", expires_on=expiry + timedelta(days=30))

    set_time(monkeypatch, expiry)
    resolved = await asyncio.gather(*(connections.resolve("contoso", "default") for _ in range(50)))

    assert {"v2"} == {connection.version for connection in resolved}
    assert 2 == store.reads["contoso", "default"]


async def test_an_expiry_during_an_outage_waits_for_the_vault(
    connections: Connections, store: MemoryCredentials, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a connection expires while the vault is down, its jobs wait: there may be a new version."""
    expiry = datetime.now(UTC) + timedelta(seconds=1)
    store.put("contoso", version="v1", expires_on=expiry)
    await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")
    store.down = True
    set_time(monkeypatch, expiry)

    for _ in range(3):
        with pytest.raises(VaultUnavailable, match="contoso's connection default"):
            await connections.resolve("contoso", "default")
    assert 2 == store.reads["contoso", "default"]

    store.down = False
    clock.advance(REREAD_S)
    assert "v2" == (await connections.resolve("contoso", "default")).version


async def test_a_cached_secret_becomes_valid(
    connections: Connections, store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that is not valid yet is refused, and used from its first moment on without another read."""
    start = datetime.now(UTC) + timedelta(minutes=1)
    store.put("contoso", not_before=start)
    with pytest.raises(ConnectionExpired, match="not valid yet"):
        await connections.resolve("contoso", "default")

    set_time(monkeypatch, start)

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_similar_names_have_separate_entries(connections: Connections, store: MemoryCredentials) -> None:
    """The cache's key is customer and name, not a text that two pairs could share."""
    store.put("a-b", "c", json.dumps({"endpoint": ENDPOINT, "api_key": "key-of-a-b"}))
    store.put("a", "b-c", json.dumps({"endpoint": ENDPOINT, "api_key": "key-of-a"}))

    first = await connections.resolve("a-b", "c")
    second = await connections.resolve("a", "b-c")

    assert ("key-of-a-b", "key-of-a") == (key_of(first), key_of(second))


async def test_the_cache_is_bounded(store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_ENTRIES connections, the least recently used one is discarded."""
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 3)
    connections = Connections(settings(), store)
    for customer in ("a", "b", "c"):
        store.put(customer)
        await connections.resolve(customer, "default")

    await connections.resolve("a", "default")
    store.put("d")
    await connections.resolve("d", "default")
    for customer in ("a", "c", "d", "b"):
        await connections.resolve(customer, "default")

    assert {"a": 1, "b": 2, "c": 1, "d": 1} == {name[0]: count for name, count in store.reads.items()}


async def test_more_concurrent_reads_than_entries_are_all_served(
    store: MemoryCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is discarded before its job has it still reaches that job."""
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 2)
    connections = Connections(settings(), store)
    store.gate = asyncio.Event()
    customers = [f"c{number}" for number in range(20)]
    for customer in customers:
        store.put(customer)
    waiting = [asyncio.create_task(connections.resolve(customer, "default")) for customer in customers]
    await asyncio.sleep(0)

    store.gate.set()
    resolved = await asyncio.gather(*waiting)

    assert customers == [connection.customer for connection in resolved]


async def test_a_cancelled_job_does_not_cancel_the_read_of_the_others(
    connections: Connections, store: MemoryCredentials
) -> None:
    """The first of several waiting jobs is cancelled; the read goes on, and the others get its result."""
    store.put("contoso")
    store.gate = asyncio.Event()
    first, *others = [asyncio.create_task(connections.resolve("contoso", "default")) for _ in range(5)]
    await asyncio.sleep(0.01)

    first.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    resolved = await asyncio.gather(*others)

    assert first.cancelled()
    assert {KEY} == {key_of(connection) for connection in resolved}
    assert 1 == store.reads["contoso", "default"]


async def test_a_failed_read_without_waiting_jobs_is_not_logged(
    connections: Connections, store: MemoryCredentials, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A read whose last waiting job was cancelled may fail without a log line, and a later job reads again."""
    store.gate = asyncio.Event()
    store.down = True
    job = asyncio.create_task(connections.resolve("contoso", "default"))
    await asyncio.sleep(0.01)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    store.gate.set()
    await asyncio.sleep(0.01)
    gc.collect()
    store.down = False
    store.put("contoso")
    clock.advance(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))
    assert "" == caplog.text


async def test_a_refused_static_connection_is_not_rotated(store: MemoryCredentials, clock: ManualClock) -> None:
    """The operator's key is an app setting, so there is nothing to read again."""
    connections = Connections(settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)
    refused = await connections.resolve("contoso", "default")

    assert await connections.find_rotated(refused) is None
    assert 1 == store.reads["contoso", "default"]


async def test_a_job_of_the_static_connection_does_not_change_to_the_customers_own(
    store: MemoryCredentials, clock: ManualClock
) -> None:
    """A job that began on the operator's account never goes on with the key that the customer has stored since."""
    connections = Connections(settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)
    refused = await connections.resolve("contoso", "default")
    store.put("contoso")
    clock.advance(REREAD_S)
    assert "key_vault" == (await connections.resolve("contoso", "default")).source

    assert await connections.find_rotated(refused) is None

"""The cache of secrets by itself; what its two users add is in `test_resolver_cache` and `test_signing`."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from shared.connections import secret_cache
from shared.connections.secret_cache import FRESH_S, OUTAGE_S, REREAD_S, STALE_S, Entry, SecretCache
from shared.connections.store import StoredCredential
from shared.errors import VaultUnavailable
from shared.secret import Secret

ENDS = datetime(2026, 11, 20, tzinfo=UTC)


class Vault:
    """Secrets of one version, whose reads are counted, and can fail or be held."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reads: Counter[str] = Counter()
        self.version = "v1"
        self.expires_on: datetime | None = None
        self.is_usable = True
        self.is_down = False
        self.gate: asyncio.Event | None = None
        self.cache = SecretCache[str, str](clock=lambda: self.now)

    async def load(self, key: str = "key") -> Entry[str]:
        """Reads it."""
        self.reads[key] += 1
        version = self.version
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down:
            raise VaultUnavailable("Key Vault answered 503.", 7)
        secret = StoredCredential(Secret("the-key"), version, expires_on=self.expires_on)
        return Entry(version, secret, is_usable=self.is_usable)

    async def get(self, key: str = "key") -> str:
        """The version that the cache returns."""
        return (await self.cache.get(key, lambda: self.load(key))).value

    async def reread(self, refused: str = "v1") -> str:
        """The version that the cache returns after its endpoint has refused a version."""
        return (await self.cache.reread("key", self.load, is_refused=lambda version: version == refused)).value

    async def refusals(self, number: int = 3, *, reread: bool = False) -> list[VaultUnavailable]:
        """The errors of that many calls, at the same time."""
        call = self.reread if reread else self.get
        errors = await asyncio.gather(*(call() for _ in range(number)), return_exceptions=True)
        assert all(isinstance(error, VaultUnavailable) for error in errors)
        return [error for error in errors if isinstance(error, VaultUnavailable)]


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    """A vault with a secret, and an empty cache, at a time before ENDS."""
    monkeypatch.setattr(secret_cache, "now", lambda: ENDS - timedelta(microseconds=1))
    monkeypatch.setattr(secret_cache, "REFUSED_PAUSE_S", 0.01)
    return Vault()


@pytest.mark.parametrize(("is_usable", "life_s"), [(True, FRESH_S), (False, REREAD_S)])
async def test_an_entry_is_read_again_after_its_life(vault: Vault, is_usable: bool, life_s: float):
    """A usable secret is served for FRESH_S, an unusable one for REREAD_S; it is read once, whoever waits."""
    vault.is_usable = is_usable
    first = await asyncio.gather(*(vault.cache.get("key", vault.load) for _ in range(20)))
    assert all(entry is first[0] for entry in first)
    vault.version = "v2"

    vault.now += life_s - 0.1
    before = await vault.get()
    vault.now += 0.1

    assert ("v1", "v2", 2) == (before, await vault.get(), vault.reads["key"])


async def test_an_entry_whose_dates_end_is_read_again(vault: Vault, monkeypatch: pytest.MonkeyPatch):
    """It is read once when they end, and then once in REREAD_S. It bridges no outage: there may be a new version."""
    vault.expires_on = ENDS
    await vault.get()
    await vault.get()
    assert 1 == vault.reads["key"]
    monkeypatch.setattr(secret_cache, "now", lambda: ENDS)

    for reads in (2, 3):
        for _ in range(3):
            assert not (await vault.cache.get("key", vault.load)).is_valid()
        assert reads == vault.reads["key"]
        vault.now += REREAD_S
    vault.is_down = True
    await vault.refusals()

    assert 4 == vault.reads["key"]


async def test_an_outage_is_bridged_for_a_while(vault: Vault):
    """
    Until STALE_S the entry is served, and the vault tried once in OUTAGE_S; then it is tried once in REREAD_S, and each
    error is a new one. Another secret is read all the same.
    """
    await vault.get()
    vault.is_down = True
    vault.now += FRESH_S
    for reads in (2, 3):
        for _ in range(3):
            assert "v1" == await vault.get()
            vault.now += OUTAGE_S / 3
        assert reads == vault.reads["key"]
    vault.now += STALE_S - FRESH_S - 2 * OUTAGE_S
    assert "v1" == await vault.get()
    vault.now += OUTAGE_S
    errors = [*await vault.refusals(), *await vault.refusals()]

    assert 5 == vault.reads["key"]
    assert {("Key Vault answered 503.", 7)} == {(str(error), error.delay_s) for error in errors}
    assert 6 == len(set(map(id, errors)))
    vault.is_down, vault.version = False, "v2"
    assert "v2" == await vault.get("another")
    vault.now += REREAD_S
    assert "v2" == await vault.get()


async def test_a_reread_says_whether_the_vault_answered(vault: Vault):
    """It reads a refused entry again, however fresh; if that fails, it raises, and `get` serves what there is."""
    await vault.get()
    vault.version = "v2"
    for _ in range(3):
        assert "v2" == await vault.reread()
    assert 2 == vault.reads["key"]

    vault.version, vault.is_down = "v1", True
    await vault.reread()
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            await vault.reread("v2")

    assert ("v2", 3) == (await vault.get(), vault.reads["key"])


async def test_a_reread_after_a_failure_does_not_return_an_expired_secret(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    """If a secret ends just after a reread, and the vault is down, a reread raises: there may be a new version."""
    vault.expires_on = ENDS
    await vault.reread()
    monkeypatch.setattr(secret_cache, "now", lambda: ENDS)
    vault.is_down = True
    await vault.refusals(1)

    await vault.refusals(1, reread=True)

    assert 2 == vault.reads["key"]


async def test_a_read_ends_the_memory_of_a_failure(vault: Vault):
    """Once the vault answers, a flood of rereads is one read again, as if it had never failed."""
    vault.is_down = True
    await vault.refusals(1)
    vault.is_down = False
    vault.now += REREAD_S

    await asyncio.gather(*(vault.reread() for _ in range(3)))

    assert 2 == vault.reads["key"]


async def test_a_forgotten_secret_is_read_again_at_once(vault: Vault):
    """After `forget` neither the old version is served, however fresh it is, nor an error of the vault."""
    await vault.get()
    vault.version = "v2"
    vault.cache.forget("key")
    assert vault.cache.peek("key") is None
    assert "v2" == await vault.get()

    vault.cache.forget("key")
    vault.is_down = True
    await vault.refusals(1)
    vault.is_down = False
    vault.cache.forget("key")

    assert ("v2", 4) == (await vault.get(), vault.reads["key"])


@pytest.mark.parametrize("fails", [False, True])
async def test_a_read_that_was_forgotten_is_not_kept(vault: Vault, fails: bool):
    """Whoever waits for it gets its outcome; whoever comes after `forget` starts a read, and that one is kept."""
    gate = vault.gate = asyncio.Event()
    old = asyncio.create_task(vault.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    vault.cache.forget("key")
    vault.gate, vault.version = None, "v2"
    new = await vault.get()

    vault.is_down = fails
    gate.set()
    (outcome,) = await asyncio.gather(old, return_exceptions=True)
    vault.is_down = False

    assert (isinstance(outcome, VaultUnavailable) if fails else outcome == "v1", new) == (True, "v2")
    assert ("v2", 2) == (await vault.get(), vault.reads["key"])
    assert "v2" == await vault.reread()


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """
    Beyond MAX_ENTRIES the least recently used secret is discarded; one that is discarded before its jobs have it still
    reaches them.
    """
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 3)
    vault = Vault()
    for key in "abcadacdb":
        await vault.get(key)
    assert {"a": 1, "b": 2, "c": 1, "d": 1} == vault.reads

    assert ["v1"] * 20 == await asyncio.gather(*(vault.get(f"c{number}") for number in range(20)))


async def test_a_cancelled_job_does_not_cancel_the_read_of_the_others(vault: Vault):
    """The first of several waiting jobs is cancelled; the read goes on, and the others get its result."""
    vault.gate = asyncio.Event()
    first, *others = [asyncio.create_task(vault.get()) for _ in range(5)]
    await asyncio.sleep(0.01)

    first.cancel()
    await asyncio.sleep(0)
    vault.gate.set()

    assert ["v1"] * 4 == await asyncio.gather(*others)
    assert (True, 1) == (first.cancelled(), vault.reads["key"])


async def test_a_failed_read_without_waiting_jobs_is_not_logged(vault: Vault, caplog: pytest.LogCaptureFixture):
    """A read whose last waiting job was cancelled may fail without a log line, and a later job reads again."""
    vault.gate, vault.is_down = asyncio.Event(), True
    job = asyncio.create_task(vault.get())
    await asyncio.sleep(0.01)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    vault.gate.set()
    await asyncio.sleep(0.01)
    gc.collect()
    vault.is_down = False
    vault.now += REREAD_S

    assert ("v1", "") == (await vault.get(), caplog.text)


async def test_nothing_that_is_kept_shows_a_secret(vault: Vault):
    """Neither the cache nor its entries have it in their repr."""
    await vault.get()

    assert "the-key" not in f"{vault.cache!r} {vars(vault.cache)!r} {vault.cache.peek('key')!r}"
    assert "***" in repr(vault.cache.peek("key"))

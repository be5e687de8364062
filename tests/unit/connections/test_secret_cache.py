"""The cache of secrets by itself; what its two users promise is in `test_resolver` and `test_signing`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.connections import secret_cache
from shared.connections.secret_cache import FRESH_S, OUTAGE_S, REREAD_S, STALE_S, Entry, SecretCache
from shared.connections.store import StoredCredential
from shared.errors import VaultUnavailable
from shared.secret import Secret


class Vault:
    """One secret, whose reads are counted, and can fail or be held."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reads = 0
        self.version = "v1"
        self.expires_on: datetime | None = None
        self.is_usable = True
        self.is_down = False
        self.gate: asyncio.Event | None = None
        self.cache = SecretCache[str, str](clock=lambda: self.now)

    async def load(self) -> Entry[str]:
        """Reads it."""
        self.reads += 1
        version = self.version
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down:
            raise VaultUnavailable("Key Vault answered 503.", 7)
        secret = StoredCredential(Secret("the-key"), version, expires_on=self.expires_on)
        return Entry(version, secret, is_usable=self.is_usable)

    async def get(self) -> str:
        """The version that the cache returns."""
        return (await self.cache.get("key", self.load)).value


@pytest.fixture
def vault() -> Vault:
    """A vault with a secret, and an empty cache."""
    return Vault()


@pytest.mark.parametrize(("is_usable", "life_s"), [(True, FRESH_S), (False, REREAD_S)])
async def test_an_entry_is_read_again_after_its_life(vault: Vault, is_usable: bool, life_s: float):
    """A usable secret is served for FRESH_S, an unusable one for REREAD_S."""
    vault.is_usable = is_usable
    assert "v1" == await vault.get()
    vault.version = "v2"

    vault.now += life_s - 0.1
    before = await vault.get()
    vault.now += 0.1

    assert ("v1", "v2", 2) == (before, await vault.get(), vault.reads)


async def test_an_entry_whose_dates_end_is_read_again(vault: Vault, monkeypatch: pytest.MonkeyPatch):
    """It is read once when they end, and then once in REREAD_S."""
    vault.expires_on = datetime(2026, 11, 20, tzinfo=UTC)
    monkeypatch.setattr(secret_cache, "now", lambda: vault.expires_on - timedelta(seconds=1))
    await vault.get()
    monkeypatch.setattr(secret_cache, "now", lambda: vault.expires_on)

    for reads in (2, 3):
        for _ in range(3):
            assert not (await vault.cache.get("key", vault.load)).is_valid()
        assert reads == vault.reads
        vault.now += REREAD_S


async def test_an_outage_is_bridged_for_a_while(vault: Vault):
    """Until STALE_S the entry is served, and the vault tried once in OUTAGE_S; then each error is a new one."""
    await vault.get()
    vault.is_down = True
    vault.now += FRESH_S
    for reads in (2, 3):
        assert {"v1"} == {await vault.get() for _ in range(3)}
        assert reads == vault.reads
        vault.now += OUTAGE_S
    vault.now += STALE_S
    errors = [await refusal(vault) for _ in range(3)]

    assert 4 == vault.reads
    assert {("Key Vault answered 503.", 7)} == {(str(error), error.delay_s) for error in errors}
    assert 3 == len(set(map(id, errors)))


async def refusal(vault: Vault) -> VaultUnavailable:
    """The error of one `get`."""
    with pytest.raises(VaultUnavailable) as raised:
        await vault.get()
    return raised.value


async def test_a_reread_says_whether_the_vault_answered(vault: Vault):
    """It reads a fresh entry again, once in REREAD_S; if it fails, it raises, and `get` serves what there is."""
    await vault.get()
    vault.version = "v2"
    for _ in range(3):
        assert "v2" == (await vault.cache.reread("key", vault.load)).value
    assert 2 == vault.reads

    vault.now += REREAD_S
    vault.is_down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            await vault.cache.reread("key", vault.load)

    assert ("v2", 3) == (await vault.get(), vault.reads)


async def test_a_reread_after_a_failure_does_not_return_an_expired_secret(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    """If a secret ends just after a reread, and the vault is down, a reread raises: there may be a new version."""
    vault.expires_on = datetime(2026, 11, 20, tzinfo=UTC)
    monkeypatch.setattr(secret_cache, "now", lambda: vault.expires_on - timedelta(seconds=1))
    await vault.cache.reread("key", vault.load)
    monkeypatch.setattr(secret_cache, "now", lambda: vault.expires_on)
    vault.is_down = True
    await refusal(vault)

    with pytest.raises(VaultUnavailable):
        await vault.cache.reread("key", vault.load)

    assert 2 == vault.reads


async def test_a_read_ends_the_memory_of_a_failure(vault: Vault):
    """Once the vault answers, a flood of rereads is one read again, as if it had never failed."""
    vault.is_down = True
    await refusal(vault)
    vault.is_down = False
    vault.now += REREAD_S

    for _ in range(3):
        await vault.cache.reread("key", vault.load)

    assert 2 == vault.reads


async def test_a_forgotten_secret_is_read_again_at_once(vault: Vault):
    """After `forget` neither the old version is served, however fresh it is, nor an error of the vault."""
    await vault.get()
    vault.version = "v2"
    vault.cache.forget("key")
    assert vault.cache.peek("key") is None
    assert "v2" == await vault.get()

    vault.cache.forget("key")
    vault.is_down = True
    await refusal(vault)
    vault.is_down = False
    vault.cache.forget("key")

    assert ("v2", 4) == (await vault.get(), vault.reads)


async def test_a_read_that_was_forgotten_is_not_kept(vault: Vault):
    """Whoever waits for it gets its result; whoever comes after `forget` starts a new read, and that one is kept."""
    vault.gate = asyncio.Event()
    old = asyncio.create_task(vault.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    vault.cache.forget("key")
    vault.version = "v2"
    new = asyncio.create_task(vault.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    vault.gate.set()
    results = await asyncio.gather(old, new)

    assert (["v1", "v2"], "v2", 2) == (results, await vault.get(), vault.reads)


async def test_nothing_that_is_kept_shows_a_secret(vault: Vault):
    """Neither the cache nor its entries have it in their repr."""
    await vault.get()

    assert "the-key" not in f"{vault.cache!r} {vars(vault.cache)!r} {vault.cache.peek('key')!r}"
    assert "***" in repr(vault.cache.peek("key"))

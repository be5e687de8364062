"""Signing secrets and their dates. What they sign and verify is in `test_http_webhooks` and `test_callbacks`."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from shared import signing as module
from shared.errors import VaultUnavailable
from shared.secret import Secret
from shared.signing import REREAD_S, NoSigningSecret, Signing
from shared.stores import StoredCredential

ENDS = datetime(2026, 11, 20, tzinfo=UTC)


class Store:
    """One signing secret in memory; counts how often it is asked, and is down when told so."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.put("1", ENDS)

    def put(self, version: str, expires_on: datetime) -> None:
        """A new version."""
        key = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.found = StoredCredential(Secret(key), version, expires_on=expires_on)

    async def signing_secret(self, _: str) -> StoredCredential | None:
        """See `signing.SigningStore`."""
        self.asked += 1
        if self.down:
            raise VaultUnavailable("Key Vault answered 503.")
        return self.found


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose secret ends at ENDS, a minute before that."""
    monkeypatch.setattr(module, "now", lambda: ENDS - timedelta(minutes=1))
    return Store()


async def test_a_new_version_takes_over_when_the_old_one_ends(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A secret that ends right after it was read is read again, and the version that is there by then signs."""
    signing = Signing(store, ticks=lambda: 1000.0)
    await signing.sign("contoso", "msg_1", b"{}")
    store.put("2", ENDS + timedelta(days=30))

    monkeypatch.setattr(module, "now", lambda: ENDS)

    assert await signing.sign("contoso", "msg_2", b"{}")
    assert 2 == store.asked


async def test_an_ended_secret_is_not_read_for_every_callback(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Outside its dates it is asked for once in REREAD_S; while the vault is down, nobody knows its dates."""
    clock = [1000.0]
    signing = Signing(store, ticks=lambda: clock[0])
    await signing.sign("contoso", "msg_1", b"{}")
    monkeypatch.setattr(module, "now", lambda: ENDS)
    store.down = True
    with pytest.raises(VaultUnavailable):
        await signing.sign("contoso", "msg_2", b"{}")
    store.down = False

    for asked in (3, 4):
        for _ in range(3):
            with pytest.raises(NoSigningSecret, match="has expired"):
                await signing.sign("contoso", "msg_3", b"{}")
        assert asked == store.asked
        clock[0] += REREAD_S

"""The keys of exports: which secret is used, and why one is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.clock import now
from shared.connections.store import StoredCredential
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.exports.keys import ExportKeys, NoKey, SigningExports
from shared.secret import Secret
from tests.support.rows import every_row

DAY = timedelta(days=1)


class OneSecret:
    """A vault with one secret, or what it raises instead."""

    def __init__(self, answer: StoredCredential | Exception | None) -> None:
        self.answer = answer
        self.reads = 0

    async def export_secret(self, export: str) -> StoredCredential | None:
        """See ExportStore."""
        assert export == "stripe"
        self.reads += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@every_row("text", ["sk_live_1", " sk_live_1\n", '"sk_live_1"', "\ufeffsk_live_1\r\n"])
async def test_a_key_as_somebody_pasted_it(text: str):
    """What an editor or a shell wrote around it is removed. It is read once, until it is refused."""
    store = OneSecret(StoredCredential(Secret(text), "1"))
    keys = ExportKeys(store)

    assert "sk_live_1" == (await keys.get("stripe")).reveal() == (await keys.get("stripe")).reveal()
    assert 1 == store.reads
    keys.forget("stripe")
    await keys.get("stripe")
    assert 2 == store.reads


@every_row(
    ("answer", "problem"),
    [
        (None, "doesn't exist"),
        (ConnectionDisabled("The secret is disabled."), "is disabled"),
        (StoredCredential(Secret("k"), "1", enabled=False), "is disabled"),
        (StoredCredential(Secret("k"), "1", expires_on=now() - DAY), "is outside its dates"),
        (StoredCredential(Secret("k"), "1", not_before=now() + DAY), "is outside its dates"),
        (StoredCredential(Secret("two MARKED"), "1"), "is not a key: one word of ASCII characters"),
        (StoredCredential(Secret("MAR\x00KED"), "1"), "is not a key: one word of ASCII characters"),
        (StoredCredential(Secret(""), "1"), "is not a key: one word of ASCII characters"),
        (StoredCredential(Secret("MARK\u00c9D"), "1"), "is not a key: one word of ASCII characters"),
    ],
)
async def test_a_secret_that_can_not_be_used(answer: StoredCredential | Exception | None, problem: str):
    """The message names the secret and what is wrong, and nothing of it."""
    with pytest.raises(NoKey) as refusal:
        await ExportKeys(OneSecret(answer)).get("stripe")

    assert f"The secret export--stripe {problem}." == str(refusal.value)


async def test_a_vault_that_is_down_or_missing():
    """It does not count as a missing secret; without a vault, every secret is missing."""
    with pytest.raises(VaultUnavailable):
        await ExportKeys(OneSecret(VaultUnavailable("Key Vault answered 503."))).get("stripe")
    with pytest.raises(NoKey):
        await ExportKeys(None).get("stripe")
    assert [] == await SigningExports(OneSecret(None)).signing_customers()

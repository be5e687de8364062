"""Signing secrets: reading, caching, dates and signatures. The routes are in `test_webhooks` and `test_delivery`."""

from __future__ import annotations

import base64
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from shared.clock import now
from shared.connections import secret_cache
from shared.connections.secret_cache import REREAD_S
from shared.connections.store import StoredCredential
from shared.errors import VaultUnavailable
from shared.secret import Secret
from shared.webhooks import signing as signing_module
from shared.webhooks import signing_reads
from shared.webhooks.signing import MAX_KEYS, NoSigningSecret, Signing
from shared.webhooks.signing_reads import PREFETCH_S, READS_A_SECOND
from tests.support.manual_clock import ManualClock
from tests.support.rows import every_row
from tests.support.signatures import new_secret, signed

ENDS = datetime(2026, 11, 20, tzinfo=UTC)


class Secrets:
    """Signing secrets by customer; counts reads, and can be down."""

    def __init__(
        self, values: dict[str, str], *, not_before: datetime | None = None, expires_on: datetime | None = None
    ) -> None:
        self.values = values
        self.not_before = not_before
        self.expires_on = expires_on
        self.reads = 0
        self.down = False
        self.listed = list[str]()

    async def signing_customers(self) -> list[str]:
        """See SigningStore."""
        return self.listed

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See SigningStore."""
        self.reads += 1
        if self.down:
            raise VaultUnavailable("The vault is down.")
        value = self.values.get(customer)
        if value is None:
            return None
        return StoredCredential(Secret(value), "1", not_before=self.not_before, expires_on=self.expires_on)


async def test_an_expired_secret_is_not_read_for_every_callback(monkeypatch: pytest.MonkeyPatch):
    """
    A secret that expires is read again at once, although it was just read, and then once in REREAD_S, also while the
    vault is down, when a new version may exist. A new version is used.
    """
    at = ENDS - timedelta(minutes=1)
    for module in (signing_module, secret_cache):
        monkeypatch.setattr(module, "now", lambda: at)
    store, clock = Secrets({"acme": new_secret()}, expires_on=ENDS), ManualClock()
    signing = Signing(store, clock=clock)
    await signing.sign("acme", "msg_1", b"{}")
    at = ENDS
    store.down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            await signing.sign("acme", "msg_2", b"{}")
    assert 2 == store.reads
    store.down = False
    clock.advance(REREAD_S)

    for reads in (3, 4):
        for _ in range(3):
            with pytest.raises(NoSigningSecret, match="has expired"):
                await signing.sign("acme", "msg_3", b"{}")
        assert reads == store.reads
        clock.advance(REREAD_S)
    store.expires_on = ENDS + timedelta(days=30)
    assert await signing.sign("acme", "msg_4", b"{}")


async def test_a_secret_that_is_not_valid_yet_signs_nothing():
    """The refusal says so; what it would sign does not verify either."""
    key = new_secret()
    signing = Signing(Secrets({"acme": key}, not_before=now() + timedelta(days=1)))

    with pytest.raises(NoSigningSecret, match="is not valid yet"):
        await signing.sign("acme", "msg_1", b"{}")
    assert not await signing.verify("acme", b"{}", signed(key, b"{}"))


async def test_a_secret_is_read_every_few_minutes():
    """
    A usable secret is read once in five minutes; an outage is bridged until an hour after the last read. A customer
    without a secret can't sign; one that is stored meanwhile is used seconds later.
    """
    key = new_secret()
    store, clock = Secrets({"acme": key}), ManualClock()
    signing = Signing(store, clock=clock)
    for seconds, reads in ((0, 1), (299.5, 1), (0.5, 2)):
        clock.advance(seconds)
        assert await signing.verify("acme", b"{}", signed(key, b"{}"))
        assert reads == store.reads
    with pytest.raises(NoSigningSecret, match="The customer has no signing secret"):
        await signing.sign("new", "msg_1", b"{}")
    store.values["new"] = new_secret()
    clock.advance(5)
    assert await signing.sign("new", "msg_1", b"{}")

    store.down = True
    clock.advance(3595)
    assert await signing.verify("acme", b"{}", signed(key, b"{}"))
    clock.advance(0.5)
    with pytest.raises(VaultUnavailable):
        await signing.verify("acme", b"{}", signed(key, b"{}"))


async def test_a_flood_of_names_is_limited():
    """
    A worker reads a limited number of secrets per second for senders; known customers are not affected, and a callback
    can be signed for a customer that is not in memory.
    """
    key = new_secret()
    store, clock = Secrets({"acme": key, "fabrikam": key}), ManualClock()
    secrets = Signing(store, clock=clock)
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    clock.advance(2)
    for number in range(READS_A_SECOND):
        assert not await secrets.verify(f"c{number}", b"{}", signed(key, b"{}"))
    with pytest.raises(VaultUnavailable, match="Too many"):
        await secrets.verify("one-more", b"{}", signed(key, b"{}"))

    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    assert await secrets.sign("fabrikam", "msg_1", b"{}")
    clock.advance(1.1)
    assert not await secrets.verify("one-more", b"{}", signed(key, b"{}"))


async def flood(secrets: Signing, clock: ManualClock, seconds: int) -> None:
    """Send webhooks for two hundred made-up names per second."""
    for number in range(200 * seconds):
        clock.advance(0.005)
        with suppress(VaultUnavailable):
            await secrets.verify(f"x{clock.seconds:.3f}-{number}".replace(".", "-"), b"{}", {})


async def test_a_flood_does_not_evict_known_customers(monkeypatch: pytest.MonkeyPatch):
    """During a flood, a known customer's secret stays in memory, and is read again when it is due."""
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 20)
    key = new_secret()
    store, clock = Secrets({"acme": key}), ManualClock()
    secrets = Signing(store, clock=clock)
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    for _ in range(3):
        clock.advance(299)
        await flood(secrets, clock, 2)
        assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
        assert await secrets.sign("acme", "msg_1", b"{}")
    store.values["acme"] = new = new_secret()
    clock.advance(299)
    await flood(secrets, clock, 2)

    assert await secrets.verify("acme", b"{}", signed(new, b"{}"))


async def test_a_flood_does_not_reveal_who_is_known():
    """During a flood, a wrong signature has the same outcome for a known customer as for any other name."""
    key = new_secret()
    store, clock = Secrets({"acme": key}), ManualClock()
    secrets = Signing(store, clock=clock)
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    with pytest.raises(NoSigningSecret):
        await secrets.sign("without", "msg_1", b"{}")

    async def outcome(name: str) -> str:
        try:
            return str(await secrets.verify(name, b"{}", signed(new_secret(), b"{}")))
        except VaultUnavailable as exc:
            return str(exc)

    for quiet_s in (10, 400):
        clock.advance(quiet_s)
        await flood(secrets, clock, 1)
        busy = [await outcome(name) for name in ("acme", "without", "nobody")]
        clock.advance(2)
        reads = store.reads
        calm = []
        for name in ("acme", "without", "nobody"):
            calm += [await outcome(name), await outcome(name)]
            assert reads + 1 == store.reads, name
            reads = store.reads
        assert (1, {"False"}) == (len(set(busy)), set(calm))
        assert busy[0].startswith("Too many")
    for name in ("acme", "without", "nobody"):  # what was known is old by now: it is read once all the same
        clock.advance(400)
        reads = store.reads
        assert ("False", reads + 1) == (await outcome(name), store.reads), name


async def test_a_flood_does_not_lock_out_customers_that_are_not_in_memory(monkeypatch: pytest.MonkeyPatch):
    """
    As soon as made-up names take all reads for senders, the worker reads the secrets that the vault lists, slowly and
    once in ten minutes: from then on a valid signature of any customer verifies without a read.
    """
    monkeypatch.setattr(signing_reads, "_PREFETCHES_A_SECOND", 10_000)
    keys = {f"c{number}": new_secret() for number in range(30)}
    store, clock = Secrets(dict(keys)), ManualClock()
    store.listed = [*keys, "deleted"]
    secrets = Signing(store, clock=clock)
    for number in range(READS_A_SECOND):
        assert not await secrets.verify(f"x{number}", b"{}", {})
    with pytest.raises(VaultUnavailable, match="Too many"):
        await secrets.verify("x", b"{}", {})
    task = secrets._prefetch._task
    assert task is not None
    await task

    assert READS_A_SECOND + len(keys) + 1 == store.reads
    for customer, key in keys.items():
        assert await secrets.verify(customer, b"{}", signed(key, b"{}"))
    assert READS_A_SECOND + len(keys) + 1 == store.reads
    for seconds, is_same in ((1, True), (PREFETCH_S, False)):
        clock.advance(seconds)
        await flood(secrets, clock, 1)
        assert is_same == (secrets._prefetch._task is task)


@pytest.mark.parametrize("count", ["all", "2"])
async def test_a_vault_that_fails_stops_no_webhook(
    count: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """
    If the vault lists no secrets, or does not return those that it lists, senders get the same answers as without
    reading in advance, and one line says so.
    """
    monkeypatch.setattr(signing_reads, "_PREFETCHES_A_SECOND", 10_000)
    store, clock = Secrets({}), ManualClock()
    secrets = Signing(store, clock=clock)
    store.listed = ["a", "b"]

    read = store.signing_secret

    async def fail() -> list[str]:
        raise VaultUnavailable("The vault is down.")

    async def fail_if_listed(customer: str) -> StoredCredential | None:
        if customer in store.listed:
            await fail()
        return await read(customer)

    if count == "all":
        store.signing_customers = fail  # type: ignore[method-assign]
    else:
        store.signing_secret = fail_if_listed  # type: ignore[method-assign]
    await flood(secrets, clock, 1)
    task = secrets._prefetch._task
    assert task is not None
    await task

    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert [f"signing_secrets_unread count={count}: The vault is down."] == lines
    clock.advance(2)
    assert not await secrets.verify("nobody", b"{}", {})


@every_row("count", [0, 1, 2, MAX_KEYS, MAX_KEYS + 1])
async def test_as_many_secrets_are_tried_for_every_customer(count: int, monkeypatch: pytest.MonkeyPatch):
    """A webhook costs the same number of HMACs whether its customer has no, one or three; a fourth is not used."""
    keys = [new_secret() for _ in range(count)]
    store = Secrets({"acme": " ".join(keys)} if keys else {})
    secrets, tried = Signing(store, clock=ManualClock()), list[Webhook]()
    sign = Webhook.sign

    def observe(self: Webhook, *arguments: Any, **options: Any) -> str:
        tried.append(self)
        return sign(self, *arguments, **options)

    for key in [*keys, new_secret()]:
        headers = signed(key, b"{}")
        with monkeypatch.context() as patch:
            patch.setattr(Webhook, "sign", observe)
            is_valid = await secrets.verify("acme", b"{}", headers)
        assert (key in keys[:MAX_KEYS]) == is_valid
        assert 0 == len(tried) % MAX_KEYS
    tried.clear()
    headers = signed(new_secret(), b"{}")
    monkeypatch.setattr(Webhook, "sign", observe)

    assert not await secrets.verify("acme", b"{}", headers)
    assert MAX_KEYS == len(tried)


async def test_a_callback_is_signed_with_each_secret():
    """During a rotation, the receiver's library accepts the signature with either secret."""
    old, new = new_secret(), new_secret()
    headers = await Signing(Secrets({"acme": f"{new} {old}"})).sign("acme", "msg_1", b'{"a":1}')

    assert {"a": 1} == Webhook(old).verify(b'{"a":1}', headers) == Webhook(new).verify(b'{"a":1}', headers)
    assert 2 == len(headers["webhook-signature"].split(" "))


@every_row("webhook_id", ["{id}", " {id}", "{id}.{time}", "{id}.{time}.{body}"])
async def test_what_the_app_has_signed_is_no_webhook(webhook_id: str):
    """
    Everything that `sign` signs has an id that begins `callback_`, and does not verify, however its parts are divided.

    Neither does what the customer signs under such an id. Nothing is read for it.
    """
    key, body = new_secret(), b"1700000000.{}"
    store = Secrets({"acme": key})
    signing = Signing(store)
    headers = await signing.sign("acme", "1", body)
    parts = {"id": headers["webhook-id"], "time": headers["webhook-timestamp"], "body": body.decode()}
    changed = headers | {"webhook-id": webhook_id.format(**parts)}

    assert "callback_1" == headers["webhook-id"]
    for text in (body, b"{}"):
        assert not await signing.verify("acme", text, changed)
        assert not await signing.verify("acme", text, signed(key, text, webhook_id=changed["webhook-id"].strip()))
    assert 1 == store.reads
    assert await signing.verify("acme", body, signed(key, body, webhook_id="recall_callback_1"))


@every_row("customer", ["", "No Name", "acme--spare", "../acme"])
async def test_an_invalid_name_is_never_read(customer: str):
    """No secret of another name, such as a connection's, verifies a webhook: False, without a read."""
    key = new_secret()
    store = Secrets({customer: key})

    assert (await Signing(store).verify(customer, b"{}", signed(key, b"{}")), store.reads) == (False, 0)


KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("value", [KEY, f"whsec_{'A' * 85}w=="])
async def test_secrets_have_the_specifications_length(value: str):
    """24 to 64 bytes, with or without padding, are a key."""
    for text in (value, value.rstrip("=")):
        assert await Signing(Secrets({"acme": text})).verify("acme", b"{}", signed(value, b"{}"))


@every_row("form", ["\ufeff{}\r\n", '"{}"', "'{}' '{}'", "\xef\xbb\xbf\u201c{} {}\u201d"], ids=ascii)
async def test_a_byte_order_mark_and_quotes_are_no_part_of_a_secret(form: str, caplog: pytest.LogCaptureFixture):
    """What an editor or a shell wrote around secrets does not make them invalid."""
    assert await Signing(Secrets({"acme": form.replace("{}", KEY)})).verify("acme", b"{}", signed(KEY, b"{}"))
    assert "signing_secret_invalid" not in caplog.text


@every_row(
    "value",
    [
        *("", "x", "whsec_MfKQ", f"whsec_{'A' * 40}-_AA", f"whsec_{'A' * 120}", "whsec_MfKQ x"),
        *(f"whsec_{base64.b64encode(bytes(length)).decode()}" for length in (23, 65)),
        base64.b64encode(bytes(32)).decode(),
    ],
)
async def test_an_invalid_secret_is_logged(value: str, caplog: pytest.LogCaptureFixture):
    """The log line names the customer, without the value."""
    with pytest.raises(NoSigningSecret, match="is not `whsec_` and base64 of 24 to 64 bytes"):
        await Signing(Secrets({"acme": value})).sign("acme", "msg_1", b"{}")

    assert "signing_secret_invalid customer=acme" in caplog.text
    assert not value or value not in caplog.text.replace("customer=acme", "")


@pytest.mark.parametrize("value", ["{good} whsec_MARKED", "MARKED {good}", "whsec_ {good} MARKED=="])
async def test_a_malformed_secret_does_not_disable_the_valid_one(value: str, caplog: pytest.LogCaptureFixture):
    """A mistake during a rotation leaves the other secret in use; the log line has no value."""
    good = new_secret()
    secrets = Signing(Secrets({"acme": value.format(good=good)}))

    assert await secrets.verify("acme", b"{}", signed(good, b"{}"))
    assert Webhook(good).verify(b"{}", await secrets.sign("acme", "msg_1", b"{}")) == {}
    assert "signing_secret_invalid customer=acme" in caplog.text
    assert "MARKED" not in caplog.text
    assert good not in caplog.text


async def test_the_specifications_example_verifies():
    """The library's test vector has the same signature. It is too old; its body is accepted if signed now."""
    store = Secrets({"acme": KEY})
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed(KEY, b'{"test": 2432232314}', webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=at)

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == headers["webhook-signature"]
    assert not await Signing(store).verify("acme", b'{"test": 2432232314}', headers)  # it is of 2021
    assert await Signing(store).verify("acme", b'{"test": 2432232314}', signed(KEY, b'{"test": 2432232314}'))

"""Signing secrets: reading, caching, dates and signatures. The routes are in `test_webhooks` and `test_delivery`."""

from __future__ import annotations

import base64
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from shared.connections import secret_cache
from shared.connections.secret_cache import REREAD_S
from shared.connections.store import StoredCredential
from shared.errors import VaultUnavailable
from shared.secret import Secret
from shared.webhooks import signing as signing_module
from shared.webhooks.signing import READS_A_SECOND, NoSigningSecret, Signing
from tests.support.signatures import new_secret, signed

ENDS = datetime(2026, 11, 20, tzinfo=UTC)


class Store:
    """A store with one signing secret; counts reads, and can be down."""

    def __init__(self) -> None:
        self.reads = 0
        self.down = False
        self.put("1", ENDS)

    def put(self, version: str, expires_on: datetime) -> None:
        """A new version."""
        key = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.secret = StoredCredential(Secret(key), version, expires_on=expires_on)

    async def signing_secret(self, _: str) -> StoredCredential | None:
        """See SigningStore."""
        self.reads += 1
        if self.down:
            raise VaultUnavailable("Key Vault answered 503.")
        return self.secret


def set_time(monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    """The time by which the dates of secrets are checked."""
    for module in (signing_module, secret_cache):
        monkeypatch.setattr(module, "now", lambda: at)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose secret expires at ENDS, a minute from now."""
    set_time(monkeypatch, ENDS - timedelta(minutes=1))
    return Store()


async def test_a_new_version_is_used_when_the_old_one_expires(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A secret that expires is read again at once, although it was just read."""
    signing = Signing(store, clock=lambda: 1000.0)
    await signing.sign("contoso", "msg_1", b"{}")
    store.put("2", ENDS + timedelta(days=30))

    set_time(monkeypatch, ENDS)

    assert await signing.sign("contoso", "msg_2", b"{}")
    assert 2 == store.reads


async def test_an_expired_secret_is_not_read_for_every_callback(store: Store, monkeypatch: pytest.MonkeyPatch):
    """It is read once in REREAD_S, also while the vault is down, when a new version may exist."""
    clock = [1000.0]
    signing = Signing(store, clock=lambda: clock[0])
    await signing.sign("contoso", "msg_1", b"{}")
    set_time(monkeypatch, ENDS)
    store.down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            await signing.sign("contoso", "msg_2", b"{}")
    assert 2 == store.reads
    store.down = False
    clock[0] += REREAD_S

    for reads in (3, 4):
        for _ in range(3):
            with pytest.raises(NoSigningSecret, match="has expired"):
                await signing.sign("contoso", "msg_3", b"{}")
        assert reads == store.reads
        clock[0] += REREAD_S


class Secrets:
    """Signing secrets by customer; counts reads, and can be down."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values
        self.reads = 0
        self.down = False

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See SigningStore."""
        self.reads += 1
        if self.down:
            raise VaultUnavailable("The vault is down.")
        value = self.values.get(customer)
        return None if value is None else StoredCredential(Secret(value), "1")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


async def test_a_secret_is_read_every_few_minutes():
    """A usable secret is read once in five minutes; an outage is bridged until an hour after the last read."""
    key = new_secret()
    store, clock = Secrets({"acme": key}), Clock()
    secrets = Signing(store, clock=clock)
    for seconds, reads in ((0, 1), (299.5, 1), (0.5, 2)):
        clock.now += seconds
        assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
        assert reads == store.reads
    store.down = True
    clock.now += 3600
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    clock.now += 0.5
    with pytest.raises(VaultUnavailable):
        await secrets.verify("acme", b"{}", signed(key, b"{}"))


async def test_a_flood_of_names_is_limited():
    """A worker reads a limited number of secrets per second; known customers are not affected."""
    key = new_secret()
    store, clock = Secrets({"acme": key}), Clock()
    secrets = Signing(store, clock=clock)
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    clock.now += 2
    for number in range(READS_A_SECOND):
        assert not await secrets.verify(f"c{number}", b"{}", signed(key, b"{}"))
    with pytest.raises(VaultUnavailable, match="Too many"):
        await secrets.verify("one-more", b"{}", signed(key, b"{}"))

    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    clock.now += 1.1
    assert not await secrets.verify("one-more", b"{}", signed(key, b"{}"))


async def flood(secrets: Signing, clock: Clock, seconds: int) -> None:
    """Send webhooks for two hundred made-up names per second."""
    for number in range(200 * seconds):
        clock.now += 0.005
        with suppress(VaultUnavailable):
            await secrets.verify(f"x{clock.now:.3f}-{number}".replace(".", "-"), b"{}", {})


async def test_a_flood_does_not_evict_known_customers(monkeypatch: pytest.MonkeyPatch):
    """During a flood, a known customer's secret stays in memory, and is read again when it is due."""
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 20)
    key = new_secret()
    store, clock = Secrets({"acme": key}), Clock()
    secrets = Signing(store, clock=clock)
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    for _ in range(3):
        clock.now += 299
        await flood(secrets, clock, 2)
        assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
        assert await secrets.sign("acme", "msg_1", b"{}")
    store.values["acme"] = new = new_secret()
    clock.now += 299
    await flood(secrets, clock, 2)

    assert await secrets.verify("acme", b"{}", signed(new, b"{}"))


async def test_a_flood_does_not_delay_callbacks():
    """A callback can be signed for a customer that is not in memory while all reads for senders are used up."""
    store, clock = Secrets({"acme": new_secret()}), Clock()
    secrets = Signing(store, clock=clock)
    await flood(secrets, clock, 2)
    with pytest.raises(VaultUnavailable, match="Too many"):
        await secrets.verify("one-more", b"{}", {})

    assert await secrets.sign("acme", "msg_1", b"{}")


async def test_a_flood_does_not_reveal_who_is_known():
    """During a flood, a wrong signature has the same outcome for a known customer as for any other name."""
    key = new_secret()
    store, clock = Secrets({"acme": key}), Clock()
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
        clock.now += quiet_s
        await flood(secrets, clock, 1)
        busy = [await outcome(name) for name in ("acme", "without", "nobody")]
        clock.now += 2
        reads = store.reads
        calm = []
        for name in ("acme", "without", "nobody"):
            calm += [await outcome(name), await outcome(name)]
            assert reads + 1 == store.reads, name
            reads = store.reads
        assert (1, {"False"}) == (len(set(busy)), set(calm))
        assert busy[0].startswith("Too many")
    for name in ("acme", "without", "nobody"):  # what was known is old by now: it is read once all the same
        clock.now += 400
        reads = store.reads
        assert ("False", reads + 1) == (await outcome(name), store.reads), name


async def test_a_callback_is_signed_with_each_secret():
    """During a rotation, the receiver's library accepts the signature with either secret."""
    old, new = new_secret(), new_secret()
    headers = await Signing(Secrets({"acme": f"{new} {old}"})).sign("acme", "msg_1", b'{"a":1}')

    assert {"a": 1} == Webhook(old).verify(b'{"a":1}', headers) == Webhook(new).verify(b'{"a":1}', headers)
    assert 2 == len(headers["webhook-signature"].split(" "))


@pytest.mark.parametrize("customer", ["", "No Name", "acme--spare", "../acme"])
async def test_an_invalid_name_is_never_read(customer: str):
    """No secret of another name, such as a connection's, verifies a webhook: False, without a read."""
    key = new_secret()
    store = Secrets({customer: key})

    assert (await Signing(store).verify(customer, b"{}", signed(key, b"{}")), store.reads) == (False, 0)


async def test_a_customer_without_a_secret_can_not_sign():
    """The error says so; a secret that is stored meanwhile is used seconds later."""
    store, clock = Secrets({}), Clock()
    secrets = Signing(store, clock=clock)
    with pytest.raises(NoSigningSecret, match="The customer has no signing secret"):
        await secrets.sign("acme", "msg_1", b"{}")
    store.values["acme"] = new_secret()
    clock.now += 5

    assert await secrets.sign("acme", "msg_1", b"{}")


@pytest.mark.parametrize("value", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", f"whsec_{'A' * 85}w=="])
async def test_secrets_have_the_specifications_length(value: str):
    """24 to 64 bytes, with or without padding, are a key."""
    for text in (value, value.rstrip("=")):
        assert await Signing(Secrets({"acme": text})).verify("acme", b"{}", signed(value, b"{}"))


@pytest.mark.parametrize(
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
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    store = Secrets({"acme": key})
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed(key, b'{"test": 2432232314}', webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=at)

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == headers["webhook-signature"]
    assert not await Signing(store).verify("acme", b'{"test": 2432232314}', headers)  # it is of 2021
    assert await Signing(store).verify("acme", b'{"test": 2432232314}', signed(key, b'{"test": 2432232314}'))

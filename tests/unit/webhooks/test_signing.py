"""Signing secrets: read, kept, ended, and what they sign. The routes are in `test_http_webhooks`, `test_callbacks`."""

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


def set_time(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """The time by which the dates of secrets are checked."""
    for module in (signing_module, secret_cache):
        monkeypatch.setattr(module, "now", lambda: moment)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose secret ends at ENDS, a minute before that."""
    set_time(monkeypatch, ENDS - timedelta(minutes=1))
    return Store()


async def test_a_new_version_takes_over_when_the_old_one_ends(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A secret that ends right after it was read is read again, and the version that is there by then signs."""
    signing = Signing(store, clock=lambda: 1000.0)
    await signing.sign("contoso", "msg_1", b"{}")
    store.put("2", ENDS + timedelta(days=30))

    set_time(monkeypatch, ENDS)

    assert await signing.sign("contoso", "msg_2", b"{}")
    assert 2 == store.asked


async def test_an_ended_secret_is_not_read_for_every_callback(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Outside its dates it is read once in REREAD_S, and so while the vault is down, when nobody knows its dates."""
    clock = [1000.0]
    signing = Signing(store, clock=lambda: clock[0])
    await signing.sign("contoso", "msg_1", b"{}")
    set_time(monkeypatch, ENDS)
    store.down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable):
            await signing.sign("contoso", "msg_2", b"{}")
    assert 2 == store.asked
    store.down = False
    clock[0] += REREAD_S

    for asked in (3, 4):
        for _ in range(3):
            with pytest.raises(NoSigningSecret, match="has expired"):
                await signing.sign("contoso", "msg_3", b"{}")
        assert asked == store.asked
        clock[0] += REREAD_S


class Secrets:
    """Signing secrets in memory; counts how often it is asked, and is down when told so."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values
        self.asked = 0
        self.down = False

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See `signing.SigningStore`."""
        self.asked += 1
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
    """While it verifies, it is read once in five minutes; an hour of outage is bridged."""
    key = new_secret()
    store, clock = Secrets({"acme": key}), Clock()
    secrets = Signing(store, clock=clock)
    for seconds, asked in ((0, 1), (299, 1), (2, 2)):
        clock.now += seconds
        assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
        assert asked == store.asked
    store.down = True
    clock.now += 3500
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    clock.now += 200
    with pytest.raises(VaultUnavailable):
        await secrets.verify("acme", b"{}", signed(key, b"{}"))


async def test_a_flood_of_names_does_not_use_up_the_vault():
    """A worker asks for so many secrets a second and no more; who is known is not held up."""
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
    """Two hundred made-up names a second."""
    for number in range(200 * seconds):
        clock.now += 0.005
        with suppress(VaultUnavailable):
            await secrets.verify(f"x{clock.now:.3f}-{number}".replace(".", "-"), b"{}", {})


async def test_made_up_names_hold_up_nobody_who_is_known(monkeypatch: pytest.MonkeyPatch):
    """Through a flood that lasts, a known customer's secret stays in memory, and is read anew when it is time."""
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


async def test_made_up_names_hold_up_no_callback():
    """A customer that nobody has asked for yet can be signed for while all reads for strangers are used up."""
    store, clock = Secrets({"acme": new_secret()}), Clock()
    secrets = Signing(store, clock=clock)
    await flood(secrets, clock, 2)
    with pytest.raises(VaultUnavailable, match="Too many"):
        await secrets.verify("one-more", b"{}", {})

    assert await secrets.sign("acme", "msg_1", b"{}")


async def test_a_flood_does_not_tell_who_is_known():
    """While no more reads are to be had, a wrong signature of a known customer's is told the same as any name."""
    key = new_secret()
    store, clock = Secrets({"acme": key}), Clock()
    secrets = Signing(store, clock=clock)
    assert await secrets.verify("acme", b"{}", signed(key, b"{}"))
    with pytest.raises(NoSigningSecret):
        await secrets.sign("without", "msg_1", b"{}")

    async def told(name: str) -> str:
        try:
            return str(await secrets.verify(name, b"{}", signed(new_secret(), b"{}")))
        except VaultUnavailable as exc:
            return str(exc)

    for quiet_s in (10, 400):
        clock.now += quiet_s
        await flood(secrets, clock, 1)
        busy = [await told(name) for name in ("acme", "without", "nobody")]
        clock.now += 2
        asked = store.asked
        calm = []
        for name in ("acme", "without", "nobody"):
            calm += [await told(name), await told(name)]
            assert asked + 1 == store.asked, name
            asked = store.asked
        assert (1, {"False"}) == (len(set(busy)), set(calm))
        assert busy[0].startswith("Too many")
    for name in ("acme", "without", "nobody"):  # what was known is old by now: it is read once all the same
        clock.now += 400
        asked = store.asked
        assert ("False", asked + 1) == (await told(name), store.asked), name


async def test_what_is_signed_verifies_with_each_secret():
    """While a secret is being rotated, what goes out is signed with both; the receiver's library takes either."""
    old, new = new_secret(), new_secret()
    headers = await Signing(Secrets({"acme": f"{new} {old}"})).sign("acme", "msg_1", b'{"a":1}')

    assert {"a": 1} == Webhook(old).verify(b'{"a":1}', headers) == Webhook(new).verify(b'{"a":1}', headers)
    assert 2 == len(headers["webhook-signature"].split(" "))


async def test_who_has_no_secret_can_not_sign():
    """The sentence says so; a secret that was put there meanwhile serves after seconds."""
    store, clock = Secrets({}), Clock()
    secrets = Signing(store, clock=clock)
    with pytest.raises(NoSigningSecret, match="The customer has no signing secret"):
        await secrets.sign("acme", "msg_1", b"{}")
    store.values["acme"] = new_secret()
    clock.now += 5

    assert await secrets.sign("acme", "msg_1", b"{}")


@pytest.mark.parametrize("value", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", f"whsec_{'A' * 85}w=="])
async def test_secrets_of_the_specifications_length_are_keys(value: str):
    """From 24 to 64 bytes, with or without the padding."""
    for text in (value, value.rstrip("=")):
        assert await Signing(Secrets({"acme": text})).verify("acme", b"{}", signed(value, b"{}"))


@pytest.mark.parametrize(
    "value", ["", "x", "whsec_MfKQ", f"whsec_{'A' * 40}-_AA", f"whsec_{'A' * 120}", "whsec_MfKQ x"]
)
async def test_what_is_no_secret_is_said_to_be_none(value: str, caplog: pytest.LogCaptureFixture):
    """The operator reads of it in the log, without the value."""
    with pytest.raises(NoSigningSecret, match="is not `whsec_` and base64 of 24 to 64 bytes"):
        await Signing(Secrets({"acme": value})).sign("acme", "msg_1", b"{}")

    assert "signing_secret_invalid customer=acme" in caplog.text
    assert not value or value not in caplog.text.replace("customer=acme", "")


@pytest.mark.parametrize("value", ["{good} whsec_MARKED", "MARKED {good}", "whsec_ {good} MARKED=="])
async def test_a_malformed_secret_switches_off_no_good_one(value: str, caplog: pytest.LogCaptureFixture):
    """A slip while rotating leaves the other secret in force; the log tells of it, without a value."""
    good = new_secret()
    secrets = Signing(Secrets({"acme": value.format(good=good)}))

    assert await secrets.verify("acme", b"{}", signed(good, b"{}"))
    assert Webhook(good).verify(b"{}", await secrets.sign("acme", "msg_1", b"{}")) == {}
    assert "signing_secret_invalid customer=acme" in caplog.text
    assert "MARKED" not in caplog.text
    assert good not in caplog.text


async def test_the_specifications_own_example_verifies():
    """The vector of the library's tests is signed as there. It is too old; its body, signed now, is let in."""
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    store = Secrets({"acme": key})
    moment = datetime.fromtimestamp(1614265330, UTC)
    headers = signed(key, b'{"test": 2432232314}', webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=moment)

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == headers["webhook-signature"]
    assert not await Signing(store).verify("acme", b'{"test": 2432232314}', headers)  # it is of 2021
    assert await Signing(store).verify("acme", b'{"test": 2432232314}', signed(key, b'{"test": 2432232314}'))

"""Webhooks: which signatures are accepted, and what the others learn."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.vault.server import Vault
from local.vault.server import start as start_vault
from shared.connections import secret_cache
from tests.support.harness import Harness, open_harness
from tests.support.signatures import new_secret, signed
from tests.support.webhook_sender import Sender, post_webhook

ROOT = Path(__file__).parents[3]
REFUSED = "The webhook's signature is missing, invalid or more than five minutes off."


@pytest.fixture
def reread_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the secret read again for each signature that does not verify, however soon."""
    monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)


def without(name: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """Removes a header."""
    return lambda headers: {other: text for other, text in headers.items() if other != name}


def changed(name: str, text: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """Changes a header."""
    return lambda headers: {**headers, name: text}


MALFORMED = {
    "no id": without("webhook-id"),
    "no timestamp": without("webhook-timestamp"),
    "no signature": without("webhook-signature"),
    "another id": changed("webhook-id", "msg_2"),
    "an empty id": changed("webhook-id", ""),
    "a timestamp of words": changed("webhook-timestamp", "hello"),
    "a timestamp that is not a number": changed("webhook-timestamp", "nan"),
    "an infinite timestamp": changed("webhook-timestamp", "inf"),
    "a far timestamp": changed("webhook-timestamp", "1e300"),
    "a wrong signature": changed("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="),
    "no version": changed("webhook-signature", "g0hM9SsE"),
    "too many commas": changed("webhook-signature", "v1,g0hM,9SsE"),
    "no base64": changed("webhook-signature", "v1,g0hM9"),
    "no ASCII": changed("webhook-signature", "v1,é"),
    "an empty signature": changed("webhook-signature", "v1,"),
    "a blank": changed("webhook-signature", " "),
    "another version": lambda headers: {
        **headers,
        "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,"),
    },
}


@asynccontextmanager
async def own_harness(tmp_path: Path, harness: Harness, azurite: Any) -> AsyncIterator[tuple[Harness, Vault]]:
    """A harness with a vault that the test may break."""
    async with start_vault(tmp_path) as vault:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IDENTITY_ENDPOINT", vault.identity_endpoint)
            patch.setenv("IDENTITY_HEADER", vault.identity_header)
            async with open_harness(azurite, vault, harness.endpoint) as opened:
                yield opened, vault


@pytest.mark.parametrize("malform", MALFORMED.values(), ids=MALFORMED.keys())
async def test_invalid_signatures_are_unauthorized(sender: Sender, malform: Callable[[dict[str, str]], dict[str, str]]):
    """Headers that are missing, malformed or wrong are all 401 with the same message; nothing is recorded."""
    body = json.dumps(sender.job()).encode()
    refused = await post_webhook(
        sender.customer.harness, sender.customer.name, body, malform(signed(sender.secret, body))
    )

    assert (401, "unauthorized", REFUSED) == (refused.status, refused.json["code"], refused.json["detail"])
    assert [] == await sender.customer.rows()


async def test_a_changed_body_is_unauthorized(sender: Sender):
    """One more space, or bytes that are not text, and the signature is not the body's."""
    body = json.dumps(sender.job()).encode()
    for other in (body + b" ", b"\xff"):
        refused = await post_webhook(sender.customer.harness, sender.customer.name, other, signed(sender.secret, body))
        assert 401 == refused.status


@pytest.mark.parametrize(("skew_s", "status"), [(-310, 401), (-290, 202), (290, 202), (310, 401)])
async def test_clocks_may_differ_by_five_minutes(sender: Sender, skew_s: int, status: int):
    """A timestamp within five minutes is valid, one beyond is not, in both directions."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body, at=datetime.now(UTC) + timedelta(seconds=skew_s))

    assert status == (await post_webhook(sender.customer.harness, sender.customer.name, body, headers)).status


async def test_one_valid_signature_of_several_is_enough(sender: Sender):
    """A sender that rotates its secret sends several."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body)
    others = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v1a,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    headers["webhook-signature"] = f"{others} {headers['webhook-signature']}"

    assert 202 == (await post_webhook(sender.customer.harness, sender.customer.name, body, headers)).status


@pytest.mark.parametrize("other", ["v1,AAA ", "v1,AAA= ", "v2 ", "v1 ", " ", "v1,a,b ", "v1a,x  ", "v1,é ", "\t"])
async def test_a_malformed_signature_does_not_hide_a_valid_one(sender: Sender, other: str):
    """What is not a `v1` signature is ignored, before or after a valid one."""
    body = json.dumps(sender.job()).encode()
    signature = signed(sender.secret, body)
    good = signature["webhook-signature"]
    for text in (f"{other}{good}", f"{good} {other}"):
        headers = {**signature, "webhook-signature": text}
        assert 202 == (await post_webhook(sender.customer.harness, sender.customer.name, body, headers)).status


async def test_an_empty_body_is_not_a_wrong_signature(harness: Harness, sender: Sender):
    """An empty body gets the same response for every customer: Azure's host drops a body in chunks."""
    headers = signed(sender.secret, json.dumps(sender.job()).encode())
    responses = [
        await post_webhook(harness, name, b"", headers) for name in (sender.customer.name, "nobody", "No Name")
    ]

    assert [400] * 3 == [response.status for response in responses]
    assert 1 == len({response.body for response in responses})
    assert "Content-Length" in responses[0].json["detail"]


async def test_each_of_several_secrets_verifies(sender: Sender):
    """While a secret is rotated, both are in the vault, and either signs."""
    old, new = sender.secret, new_secret()
    sender.customer.harness.put_secret(f"webhook--{sender.customer.name}", f"{new} {old}")

    for secret in (old, new):
        assert 202 == (await Sender(sender.customer, secret).send(sender.job())).status
    assert 401 == (await Sender(sender.customer, new_secret()).send(sender.job())).status


@pytest.mark.usefixtures("reread_at_once")
async def test_a_rotated_secret_works_at_once(sender: Sender):
    """A signature with a secret that is newer than the cached one has it read again; the old one is no longer valid."""
    assert 202 == (await sender.send(sender.job())).status
    new = Sender(sender.customer, new_secret())
    sender.customer.harness.put_secret(f"webhook--{sender.customer.name}", new.secret)

    assert 202 == (await new.send(sender.job())).status
    assert 401 == (await sender.send(sender.job())).status


async def test_responses_do_not_reveal_which_customers_exist(sender: Sender):
    """
    Unknown customers, invalid names, secrets that are disabled, expired, not yet valid or malformed: all get the
    response for a wrong signature, byte for byte.
    """
    harness, body = sender.customer.harness, json.dumps(sender.job()).encode()
    names = {"no-such-customer": None, "No Customer": None, "x" * 60: None, "..": None}
    week = 7 * 24 * 3600
    for attributes in ({"enabled": False}, {"exp": int(time.time()) - week}, {"nbf": int(time.time()) + week}):
        name = harness.customer().name
        harness.put_secret(f"webhook--{name}", sender.secret, attributes=attributes)
        names[name] = None
    for value in ("", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!", sender.secret.removeprefix("whsec_")):
        name = harness.customer().name
        harness.put_secret(f"webhook--{name}", value)
        names[name] = None
    wrong = await Sender(sender.customer, new_secret()).send(body)

    for name in names:
        refused = await post_webhook(harness, name, body, signed(sender.secret, body))
        assert (401, wrong.body, wrong.headers) == (refused.status, refused.body, refused.headers), name


async def test_the_vault_is_read_equally_for_every_customer(harness: Harness, sender: Sender):
    """How often the vault is read does not depend on whether there is a secret."""
    wrong, unknown = Sender(sender.customer, new_secret()), Sender(harness.customer(), new_secret())

    for _ in range(3):
        assert (401, 401) == ((await wrong.send(b"{}")).status, (await unknown.send(b"{}")).status)

    assert 1 == harness.vault.reads[f"webhook--{sender.customer.name}"]
    assert 1 == harness.vault.reads[f"webhook--{unknown.customer.name}"]


async def test_invalid_names_do_not_reach_the_vault(harness: Harness):
    """A path gives no access to the vault's other secrets."""
    reads = harness.vault.reads.total()
    for name in ("contoso--x", "a/../b", "UPPER", ""):
        assert not await harness.services.signing.verify(name, b"{}", signed(new_secret(), b"{}"))

    assert reads == harness.vault.reads.total()


async def test_another_customers_secret_is_not_accepted(harness: Harness, sender: Sender):
    """A webhook that one customer's sender signs is not accepted for another customer."""
    other = harness.customer()
    harness.put_secret(f"webhook--{other.name}", new_secret())

    assert 401 == (await Sender(other, sender.secret).send(sender.job())).status


async def test_a_vault_that_is_down_is_503(tmp_path: Path, harness: Harness, azurite: Any, monkeypatch):
    """Known and unknown customers get 503 with `Retry-After`; a cached secret still verifies."""
    async with own_harness(tmp_path, harness, azurite) as (opened, vault):
        customer, secret = opened.customer(), new_secret()
        opened.put_secret(f"webhook--{customer.name}", secret)
        sender = Sender(customer, secret)
        assert 202 == (await sender.send(sender.job())).status
        monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)
        vault.outage = True

        unknown = await Sender(opened.customer(), secret).send(sender.job())
        wrong = await Sender(customer, new_secret()).send(sender.job())
        right = await sender.send(sender.job())

    assert (503, "unavailable") == (unknown.status, unknown.json["code"])
    assert 0 < int(unknown.headers["Retry-After"])
    assert (503, unknown.body) == (wrong.status, wrong.body)
    assert 202 == right.status


async def test_the_script_of_the_docs_signs(sender: Sender):
    """The function that the page signs with makes headers that are accepted."""
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    body = json.dumps(sender.job()).encode()
    headers = names["signed"](sender.secret, "msg_1", body)

    assert 202 == (await post_webhook(sender.customer.harness, sender.customer.name, body, headers)).status


def blocks(language: str) -> list[str]:
    """The fenced blocks of the page in one language."""
    text = (ROOT / "docs/webhooks.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

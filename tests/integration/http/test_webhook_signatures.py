"""Webhooks: which signatures are accepted, and what the others learn."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.connections import secret_cache
from tests.support.doc_samples import blocks
from tests.support.harness import Harness
from tests.support.http_client import HttpResponse
from tests.support.rows import every_row
from tests.support.signatures import new_secret, signed
from tests.support.webhook_sender import Sender, post_webhook

REFUSED = "The webhook's signature is missing, invalid or more than five minutes off."
MALFORMED: dict[str, dict[str, str | None]] = {
    "no id": {"webhook-id": None},
    "no timestamp": {"webhook-timestamp": None},
    "no signature": {"webhook-signature": None},
    "another id": {"webhook-id": "msg_2"},
    "an empty id": {"webhook-id": ""},
    "a timestamp of words": {"webhook-timestamp": "hello"},
    "a timestamp that is not a number": {"webhook-timestamp": "nan"},
    "an infinite timestamp": {"webhook-timestamp": "inf"},
    "a far timestamp": {"webhook-timestamp": "1e300"},
    "a wrong signature": {"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="},
    "no version": {"webhook-signature": "g0hM9SsE"},
    "too many commas": {"webhook-signature": "v1,g0hM,9SsE"},
    "no base64": {"webhook-signature": "v1,g0hM9"},
    "no ASCII": {"webhook-signature": "v1,é"},
    "an empty signature": {"webhook-signature": "v1,"},
    "a blank": {"webhook-signature": " "},
    "another version": {"webhook-signature": "v2,{signature}"},
}


@pytest.fixture
def reread_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the secret read again for each signature that does not verify, however soon."""
    monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)


async def post(sender: Sender, body: bytes, headers: dict[str, str]) -> HttpResponse:
    """The response to the customer's webhook with these headers."""
    return await post_webhook(sender.customer.harness, sender.customer.name, body, headers)


def renamed(headers: dict[str, str], prefix: str) -> dict[str, str]:
    """The headers of a signature, with names that begin with this prefix."""
    return {name.replace("webhook", prefix, 1): text for name, text in headers.items()}


@every_row("prefix", ["webhook", "svix"])
@every_row("changes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_invalid_signatures_are_unauthorized(sender: Sender, changes: dict[str, str | None], prefix: str):
    """Headers that are missing, malformed or wrong are all 401 with the same message; nothing is recorded."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body)
    _, _, signature = headers["webhook-signature"].partition(",")
    changed = {**headers, **{name: text and text.format(signature=signature) for name, text in changes.items()}}
    sent = {name: text for name, text in changed.items() if text is not None}
    refused = await post(sender, body, renamed(sent, prefix))

    refused.assert_problem(401, "unauthorized", REFUSED)
    assert [] == await sender.customer.rows()


async def test_svix_headers_are_standard_ones(sender: Sender):
    """A webhook with Svix's headers is accepted, its id is the job's, and either set of headers replays it."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body, webhook_id="msg_svix")
    accepted = [await post(sender, body, renamed(headers, prefix)) for prefix in ("svix", "svix", "webhook")]

    assert [(202, "msg_svix")] * 3 == [(response.status, response.json["job_id"]) for response in accepted]
    assert ["j_msg_svix"] == [row["RowKey"] for row in await sender.customer.rows() if row["RowKey"].startswith("j_")]


async def test_what_the_app_signs_is_no_webhook_under_svix_names_either(sender: Sender):
    """A callback that is sent back with Svix's headers is refused like a wrong signature."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body, webhook_id="callback_1")

    (await post(sender, body, renamed(headers, "svix"))).assert_problem(401, "unauthorized", REFUSED)


@pytest.mark.parametrize("taken", [("id",), ("timestamp",), ("signature",), ("id", "timestamp", "signature")])
async def test_two_sets_of_headers_are_never_mixed(sender: Sender, taken: tuple[str, ...]):
    """
    One Standard Webhooks header, and Svix's count for nothing: a valid set of them neither completes the others nor
    replaces a wrong one, and a wrong one does no harm.
    """
    body = json.dumps(sender.job()).encode()
    standard, other = (signed(sender.secret, body, webhook_id=f"msg_{name}") for name in ("standard", "svix"))
    svix = renamed(other, "svix")
    some = {name: text for name, text in standard.items() if name.removeprefix("webhook-") in taken}
    mixed = await post(sender, body, some | svix)
    beside = await post(sender, body, standard | svix | {"svix-signature": "v1,wrong"})
    wrong = await post(sender, body, standard | {"webhook-id": "msg_else"} | svix)

    assert (202, "msg_standard") == (beside.status, beside.json["job_id"])
    assert 401 == wrong.status
    assert (202 if some == standard else 401) == mixed.status
    assert "msg_svix" not in str(await sender.customer.rows())


@pytest.mark.parametrize(("skew_s", "status"), [(-310, 401), (-290, 202), (290, 202), (310, 401)])
async def test_clocks_may_differ_by_five_minutes(sender: Sender, skew_s: int, status: int):
    """A timestamp within five minutes is valid, one beyond is not, in both directions."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body, at=datetime.now(UTC) + timedelta(seconds=skew_s))

    assert status == (await post(sender, body, headers)).status


OTHERS = ["v1,AAA ", "v1,AAA= ", "v2 ", "v1 ", " ", "v1,a,b ", "v1a,x  ", "v1,é ", "\t"]


@pytest.mark.parametrize("other", [*OTHERS, "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= "])
async def test_one_valid_signature_of_several_is_enough(sender: Sender, other: str):
    """A sender that rotates its secret sends several. What is not a `v1` signature is ignored."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body)
    good = headers["webhook-signature"]
    for text in (f"{other}{good}", f"{good} {other}"):
        assert 202 == (await post(sender, body, {**headers, "webhook-signature": text})).status


async def test_an_empty_body_is_not_a_wrong_signature(harness: Harness, sender: Sender):
    """An empty body gets the same response for every customer: Azure's host drops a body in chunks."""
    headers = signed(sender.secret, json.dumps(sender.job()).encode())
    responses = [
        await post_webhook(harness, name, b"", headers) for name in (sender.customer.name, "nobody", "No Name")
    ]

    assert [400] * 3 == [response.status for response in responses]
    assert 1 == len({response.body for response in responses})
    assert "Content-Length" in responses[0].json["detail"]


@pytest.mark.usefixtures("reread_at_once")
async def test_a_secret_can_be_rotated(sender: Sender):
    """
    A signature with a secret that is newer than the cached one has it read again; the old one is no longer valid. While
    both are in the vault, either signs.
    """
    old, new = sender, Sender(sender.customer, new_secret())
    statuses = []
    for value in (old.secret, new.secret, f"{new.secret} {old.secret}"):
        sender.customer.harness.put_secret(f"webhook--{sender.customer.name}", value)
        statuses.append([(await each.send(sender.job())).status for each in (new, old)])

    assert [[401, 202], [202, 401], [202, 202]] == statuses


async def test_responses_do_not_reveal_which_customers_exist(sender: Sender):
    """
    A changed body, unknown customers, invalid names, secrets that are another customer's, disabled, expired, not yet
    valid or malformed: all get the response for a wrong signature, byte for byte.
    """
    harness, body = sender.customer.harness, json.dumps(sender.job()).encode()
    names = ["no-such-customer", "No Customer", "x" * 60, ".."]
    week = 7 * 24 * 3600
    dates = [{"enabled": False}, {"exp": int(time.time()) - week}, {"nbf": int(time.time()) + week}]
    values = ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!", sender.secret.removeprefix("whsec_"), new_secret()]
    for value, attributes in [(sender.secret, each) for each in dates] + [(value, {}) for value in values]:
        names.append(harness.customer().name)
        harness.put_secret(f"webhook--{names[-1]}", value, attributes=attributes)
    headers = signed(sender.secret, body)
    wrong = await Sender(sender.customer, new_secret()).send(body)
    refused = {name: await post_webhook(harness, name, body, headers) for name in names}
    refused |= {f"{other!r}": await post(sender, other, headers) for other in (body + b" ", b"\xff")}

    assert 401 == wrong.status
    assert {} == {name: response for name, response in refused.items() if response != wrong}


@pytest.mark.usefixtures("reread_at_once")
async def test_a_vault_that_is_down_is_503(harness: Harness, sender: Sender):
    """Known and unknown customers get 503 with `Retry-After`; a cached secret still verifies."""
    assert 202 == (await sender.send(sender.job())).status
    harness.vault.outage = True
    try:
        unknown = await Sender(harness.customer(connection=None), sender.secret).send(sender.job())
        wrong = await Sender(sender.customer, new_secret()).send(sender.job())
        right = await sender.send(sender.job())
    finally:
        harness.vault.outage = False

    unknown.assert_problem(503, "unavailable")
    assert 0 < int(unknown.headers["Retry-After"])
    assert (503, unknown.body) == (wrong.status, wrong.body)
    assert 202 == right.status


async def test_the_script_of_the_docs_signs(sender: Sender):
    """The function that the page signs with makes headers that are accepted."""
    names: dict[str, Any] = {}
    (script,) = [block for block in blocks("docs/webhooks.md", "python") if "def signed(" in block]
    exec(script, names)
    body = json.dumps(sender.job()).encode()

    assert 202 == (await post(sender, body, names["signed"](sender.secret, "msg_1", body))).status

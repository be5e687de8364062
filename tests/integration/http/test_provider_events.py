"""Events of providers' own webhooks: whose are accepted, and what the others learn. What they do is a unit test's."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from shared.http.provider_events import MAX_EVENT_BYTES
from shared.webhooks.signing_reads import READS_A_SECOND
from tests.support.harness import Harness
from tests.support.http_client import HttpResponse, send
from tests.support.signatures import new_secret, signed

BODY = json.dumps({"id": "evt_1", "type": "batch.completed", "data": {"id": "batch_1"}}).encode()
REFUSED = "The event's signature is missing, invalid or more than five minutes off."


@pytest.fixture(autouse=True)
def unhurried(harness: Harness) -> None:
    """Many quick tests look like a flood of invented names."""
    limits = harness.services.signing.limits
    for limit in (limits.owners, limits.senders):
        limit._read_at.clear()


async def post(
    harness: Harness, customer: str, secret: str, body: bytes = BODY, connection: str = "default", **changes: str
) -> HttpResponse:
    """The response to an event that is signed with a secret."""
    headers = signed(secret, body, webhook_id="evt_1") | changes
    return await send(harness, "POST", f"provider-events/{customer}/{connection}", body=body, headers=headers)


async def test_a_signed_event_is_taken_whatever_it_says(harness: Harness) -> None:
    """204 without a body for a batch that nobody knows, for another kind, and for what is no event."""
    customer, secret = harness.customer().name, new_secret()
    harness.put_secret(f"events--{customer}--default", secret)
    for body in (BODY, b'{"type": "response.completed", "data": {"id": "resp_1"}}', b"[1]", b"{"):
        response = await post(harness, customer, secret, body)
        assert (204, b"") == (response.status, response.body)


async def test_either_of_two_secrets_signs_while_it_is_rotated(harness: Harness) -> None:
    """Two secrets, separated by a space; another connection's is not among them."""
    customer, old, new, other = harness.customer().name, new_secret(), new_secret(), new_secret()
    harness.put_secret(f"events--{customer}--default", f"{new} {old}")
    harness.put_secret(f"events--{customer}--eu", other)
    assert [204, 204, 401] == [(await post(harness, customer, each)).status for each in (old, new, other)]
    assert 204 == (await post(harness, customer, other, connection="eu")).status


async def test_responses_do_not_reveal_which_connections_have_secrets(harness: Harness) -> None:
    """A wrong signature, an unknown customer or connection, no name and a disabled secret: the same 401."""
    customer, secret = harness.customer().name, new_secret()
    harness.put_secret(f"events--{customer}--default", secret)
    harness.put_secret(f"events--{customer}--off", secret, attributes={"enabled": False})
    harness.put_secret(f"webhook--{customer}", secret)
    paths = [(customer, "spare"), (customer, "off"), ("nobody", "default"), ("No Name", "x"), (f"{customer}--a", "b")]
    wrong = await post(harness, customer, new_secret())
    wrong.assert_problem(401, "unauthorized", REFUSED)
    refused = [await post(harness, owner, secret, connection=connection) for owner, connection in paths]
    assert [wrong.body] * len(paths) == [each.body for each in refused]
    assert wrong.body == (await post(harness, customer, secret, BODY, **{"webhook-id": "evt_2"})).body


@pytest.mark.parametrize(("skew_s", "status"), [(-310, 401), (-290, 204), (290, 204), (310, 401)])
async def test_clocks_may_differ_by_five_minutes(harness: Harness, skew_s: int, status: int) -> None:
    """A timestamp within five minutes is valid, one beyond is not, in both directions."""
    customer, secret = harness.customer().name, new_secret()
    harness.put_secret(f"events--{customer}--default", secret)
    headers = signed(secret, BODY, at=datetime.now(UTC) + timedelta(seconds=skew_s))
    assert status == (await post(harness, customer, secret, **headers)).status


async def test_an_event_is_small(harness: Harness) -> None:
    """A larger body is a 413 and no body a 400, whatever the signature."""
    customer = harness.customer().name
    large = await post(harness, customer, new_secret(), b" " * (MAX_EVENT_BYTES + 1))
    large.assert_problem(413, "too_large", str(MAX_EVENT_BYTES))
    assert 400 == (await post(harness, customer, new_secret(), b"")).status


async def test_names_that_senders_make_up_share_the_reads_of_webhooks(harness: Harness) -> None:
    """Both routes together read READS_A_SECOND secrets for senders: then 503. A secret in memory still verifies."""
    customer, secret = harness.customer().name, new_secret()
    harness.put_secret(f"events--{customer}--default", secret)
    assert 204 == (await post(harness, customer, secret)).status
    senders, unread = harness.services.signing.limits.senders, harness.customer().name
    senders._read_at.extend([senders._clock()] * READS_A_SECOND)
    (await post(harness, unread, secret)).assert_problem(503, "unavailable")
    assert 204 == (await post(harness, customer, secret)).status

"""Webhooks: which jobs they submit, as jobs or as CloudEvents."""

from __future__ import annotations

import re

import pytest

from shared.http.request_parsing import MAX_BODY_BYTES
from tests.support.http_client import run_queue
from tests.support.rows import every_row
from tests.support.webhook_sender import Sender, cloud_event


async def test_a_signed_job_is_accepted_under_the_webhooks_id(sender: Sender):
    """202 as for `POST /jobs`; the customer is the path's, the id the webhook's; its result can be waited for."""
    accepted = await sender.send(sender.job(), webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek")

    assert (202, "queued", "msg_p5jXN8AQM9LWM0D4loKWxJek", sender.customer.name) == (
        accepted.status,
        *(accepted.json[name] for name in ("status", "job_id", "customer")),
    )
    assert accepted.headers["Location"].endswith("/msg_p5jXN8AQM9LWM0D4loKWxJek")
    (result,) = await run_queue(sender.customer)
    assert "succeeded" == result["status"]
    response = await sender.send(sender.job(), webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek", headers={"prefer": "wait=5"})
    assert (200, "Hello.") == (response.status, response.json["output"]["text"])


async def test_a_replay_returns_the_same_job(sender: Sender):
    """The same webhook again is the same job and one call, before and after it ran; other content is a conflict."""
    first = await sender.send(sender.job())
    again = await sender.send(sender.job())
    await run_queue(sender.customer)
    after = await sender.send(sender.job())
    other = await sender.send(sender.job(input={"prompt": "Something else?"}))

    assert [202, 202, 202, 409] == [response.status for response in (first, again, after, other)]
    assert first.json["submitted_at"] == again.json["submitted_at"] == after.json["submitted_at"]
    assert "succeeded" == after.json["status"]
    assert 1 == len(sender.customer.account.received)


async def test_members_of_the_body_take_precedence(sender: Sender):
    """A `job_id` in the body is the job's id. A job with its customer, as in the queue, can be sent as it is."""
    accepted = await sender.send(sender.customer.job(job_id="order-1"))

    assert (202, "order-1") == (accepted.status, accepted.json["job_id"])


@pytest.mark.parametrize("webhook_id", ["a/b", "..", "x" * 101, "urn:uuid:1", "ü", "statement-1"])
async def test_a_webhook_id_that_is_not_a_job_id_is_hashed(sender: Sender, webhook_id: str):
    """The id is the same for the same webhook, and another for another webhook."""
    first = await sender.send(sender.job(), webhook_id=webhook_id)
    again = await sender.send(sender.job(), webhook_id=webhook_id)
    other = await sender.send(sender.job(), webhook_id=f"{webhook_id}/2")

    assert (202, 202, 202) == (first.status, again.status, other.status)
    assert re.fullmatch(r"webhook-[0-9a-f]{32}", first.json["job_id"])
    assert first.json["job_id"] == again.json["job_id"] != other.json["job_id"]


@every_row(
    ("body", "headers", "status", "message"),
    [
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b"{}", {"content-encoding": "gzip"}, 415, "compressed"),
        (b" " * (MAX_BODY_BYTES + 1), {}, 413, str(MAX_BODY_BYTES)),
        (b"", {}, 400, "The body is empty: send it with Content-Length, not in chunks."),
        (b"[]", {}, 400, "must be an object"),
        (b'{"input":' * 50_000, {}, 400, "nested too deeply"),
        (b'{"input":[' + b"{}," * 200_000 + b"{}]}", {}, 400, "more than 200,000 lists and objects"),
        (b'{"customer": "somebody-else"}', {}, 400, "`customer` must be the customer in the path"),
        (b'{"customer": null}', {}, 400, "`customer` must be the customer in the path"),
        (b'{"action": "chat"}', {}, 400, "`input` is missing"),
        (b'{"type": "order.paid", "data": {}}', {}, 400, "is not a known member"),
        (b'{"specversion": "0.3", "id": "1", "source": "s", "type": "t"}', {}, 400, "`specversion` must be 1.0"),
        (b'{"specversion": "1.0", "source": "s", "type": "t"}', {}, 400, "`id` is missing"),
        (b'{"specversion": "1.0", "id": "", "source": "s", "type": "t"}', {}, 400, "`id`"),
        (b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}', {}, 400, "`data` is missing"),
        (b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "x"}', {}, 400, "`data`"),
    ],
)
async def test_an_invalid_body_is_refused(
    sender: Sender, body: bytes, headers: dict[str, str], status: int, message: str
):
    """A signed body that is not a valid job is refused with a sentence that names the member."""
    refused = await sender.send(body, headers=headers)

    code = {400: "invalid_job", 413: "too_large", 415: "unsupported_media_type"}[status]
    refused.assert_problem(status, code, message)


async def test_a_cloud_event_contains_a_job(sender: Sender):
    """The `data` of a CloudEvent in structured mode is the job; in binary mode the body is."""
    structured = cloud_event(sender.job(), time="2026-11-20T13:12:00Z", comexampleextension="x")
    kind = {"content-type": "application/cloudevents+json; charset=utf-8"}
    binary = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "4711", "ce-source": "/shop"}

    first = await sender.send(structured, webhook_id="structured", headers=kind)
    second = await sender.send(sender.job(), webhook_id="binary", headers=binary)

    assert [(202, "structured"), (202, "binary")] == [
        (response.status, response.json["job_id"]) for response in (first, second)
    ]
    await run_queue(sender.customer)
    assert ["Hello?", "Hello?"] == [
        request.json["messages"][0]["content"] for request in sender.customer.account.received
    ]

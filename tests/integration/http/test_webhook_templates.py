"""Webhooks: the templates that make jobs of other systems' events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.job import decode_job
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.webhooks.templates import fill
from tests.support.doc_samples import WEBHOOK_EVENT, WEBHOOK_JOB, WEBHOOK_TEMPLATE
from tests.support.http_client import run_queue
from tests.support.signatures import signed
from tests.support.webhook_sender import Sender, cloud_event, post_webhook

ORDER = {
    "event": "order.paid",
    "order": {"id": 4711, "lines": [{"sku": "a-1", "count": 2}, {"sku": "b-2", "count": 1}], "note": None},
    "customer": {"name": 'Ann "the {{nice}}" Lee\n'},
}


TEMPLATE = {
    "job_id": "order-{{order.id}}",
    "action": "chat",
    "input": {"prompt": "Thank {{customer.name}} for {{order.lines.1.sku}} and {{order.lines.0}}."},
    "metadata": {"event": "{{event}}", "by": "{{$headers.webhook-id}}", "braces": "{{{{x}}"},
}


async def test_a_foreign_event_becomes_a_job(sender: Sender):
    """The customer's template makes a job of an event from a system that does not know the app."""
    await sender.save_template(TEMPLATE)
    accepted = await sender.send(ORDER)
    (result,) = await run_queue(sender.customer)

    assert (202, "order-4711") == (accepted.status, accepted.json["job_id"])
    assert {"event": "order.paid", "by": "msg_1", "braces": "{{x}}"} == result["metadata"]
    (received,) = sender.customer.account.received
    assert (
        'Thank Ann "the {{nice}}" Lee\n for b-2 and {"sku":"a-1","count":2}.' == received.json["messages"][0]["content"]
    )


async def test_a_template_can_use_the_whole_cloud_event(sender: Sender):
    """A template can use the attributes of a CloudEvent as well as its data."""
    await sender.save_template(
        {"action": "chat", "input": {"prompt": "{{data.text}}"}, "metadata": {"type": "{{type}}", "id": "{{id}}"}}
    )
    accepted = await sender.send(cloud_event({"text": "Hi."}), webhook_id="evt")
    (result,) = await run_queue(sender.customer)

    assert (202, "evt") == (accepted.status, accepted.json["job_id"])
    assert {"type": "com.example.order", "id": "4711"} == result["metadata"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"action": "chat", "input": {"prompt": "{{order.number}}"}}, "no `order.number`, which `input.prompt`"),
        ({"action": "chat", "input": {"prompt": ["{{order.lines.2}}"]}}, "no `order.lines.2`, which `input.prompt[0]`"),
        ({"action": "chat", "input": {"prompt": "{{order.id.x}}"}}, "no `order.id.x`"),
        ({"action": "{{$headers.authorization}}"}, "no `$headers.authorization`, which `action`"),
        ({"action": "{{$headers.content-type}}"}, "no `$headers.content-type`"),
        ({"action": "{{}}"}, "`action` of the customer's template has an invalid placeholder"),
        ({"action": "a {{event"}, "`action` of the customer's template has an invalid placeholder"),
        ({"action": "{{event}}", "input": {}}, "`action` must be one of"),
        ({"action": "chat", "input": {"prompt": "{{order.id}}"}}, "`input.prompt`"),
        (TEMPLATE | {"customer": "{{event}}"}, "`customer` must be the customer in the path"),
        (TEMPLATE | {"_envelope": {"submitted_at": "2030-01-01T00:00:00Z"}}, "`_envelope"),
        (b"{", "`template` is not valid JSON"),
        (b"[]", "`template`"),
    ],
)
async def test_the_job_of_a_template_is_checked_like_any_other(sender: Sender, template: Any, message: str):
    """400 with the member that is invalid, or that the event does not have; nothing is recorded."""
    await sender.save_template(template)
    refused = await sender.send(ORDER)

    refused.assert_problem(400, "invalid_job", message)
    assert [] == await sender.customer.rows()


async def test_with_a_template_the_event_itself_is_no_job(sender: Sender):
    """The template alone decides what the job is, also if an event looks like a job."""
    await sender.save_template({"action": "chat", "input": {"prompt": "Always this."}})
    await sender.send(sender.job(input={"prompt": "Something else."}, options={"max_retries": 20}))
    await run_queue(sender.customer)

    (received,) = sender.customer.account.received
    assert "Always this." == received.json["messages"][0]["content"]


async def test_a_template_reads_svix_headers_by_their_standard_names(sender: Sender):
    """`$headers.webhook-id` is the id of a webhook from Svix, too."""
    await sender.save_template({"action": "chat", "job_id": "of-{{$headers.webhook-id}}", "input": {"prompt": "Hi"}})
    headers = {name.replace("webhook", "svix"): text for name, text in signed(sender.secret, b"{}").items()}
    accepted = await post_webhook(sender.customer.harness, sender.customer.name, b"{}", headers)

    assert (202, "of-msg_1") == (accepted.status, accepted.json["job_id"])


async def test_the_template_of_the_docs_makes_the_job_of_the_docs(sender: Sender):
    """Template and event, copied from the page, make the job on the page."""
    event, template, job = map(json.loads, (WEBHOOK_EVENT, WEBHOOK_TEMPLATE, WEBHOOK_JOB))
    await sender.save_template(template)
    headers = {"webhook-id": "msg_example"}
    filled = fill(json.dumps(template).encode(), json.dumps(event).encode(), headers, limit=MAX_BODY_BYTES)
    accepted = await sender.send(event, webhook_id=headers["webhook-id"])

    assert job == json.loads(filled) | {"customer": "contoso"}
    assert (202, job["job_id"]) == (accepted.status, accepted.json["job_id"])
    assert decode_job(json.dumps(job).encode(), default_id="x").id == job["job_id"]

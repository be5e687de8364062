"""Callbacks of real jobs: what is posted to whom, and what leaks nowhere."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from standardwebhooks import Webhook, WebhookVerificationError

from shared.errors import StorageUnavailable
from tests.support.callback_receiver import BODY, Receiver, abort, answers_with, open_receiver
from tests.support.harness import Customer, Harness
from tests.support.http_client import send
from tests.support.signatures import new_secret


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    async with open_receiver() as opened:
        yield opened


async def take(harness: Harness) -> list[bytes]:
    """Take the messages of the callbacks queue."""
    return await harness.messages(harness.environment["CALLBACKS_QUEUE"])


@pytest.fixture
def customer(memory_harness: Harness) -> Customer:
    """A customer with a signing secret."""
    customer = memory_harness.customer()
    memory_harness.put_secret(f"webhook--{customer.name}", new_secret())
    return customer


async def status_of(customer: Customer, job_id: str) -> dict[str, Any] | None:
    """Return the callback in the job's status document."""
    response = await send(customer.harness, "GET", f"jobs/{customer.name}/{job_id}")
    return response.json.get("callback")


async def test_the_result_is_posted_and_signed(customer: Customer, receiver: Receiver):
    """The receiver gets the bytes of the results queue, signed with the customer's secret."""
    secret = new_secret()
    customer.harness.put_secret(f"webhook--{customer.name}", secret)
    result = await customer.deliver(job_id="order.1", output={"callback": receiver.url})
    assert await status_of(customer, "order.1") is None
    (message,) = await take(customer.harness)
    await customer.harness.services.callbacks.deliver(message)

    ((headers, body),) = receiver.received
    assert result == body
    assert json.loads(body) == Webhook(secret).verify(body, headers)
    assert re.fullmatch(r"callback_[0-9a-f]{32}", headers["webhook-id"])
    assert ("application/json", "customer-ai-jobs") == (headers["content-type"], headers["user-agent"])
    assert {"status": "delivered", "attempts": 1, "last_status": 204} == await status_of(customer, "order.1")
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


async def test_a_callback_is_never_a_webhook(customer: Customer, receiver: Receiver):
    """
    A callback that is sent back as a webhook, whatever the customer's template makes of results, is a wrong signature:
    no job, so no further call.
    """
    harness = customer.harness
    template = {"action": "chat", "model": "m", "input": {"prompt": "{{output.text}}"}}
    container, name = harness.environment["TEMPLATES_CONTAINER"], f"{customer.name}/webhook.json"
    await harness.services.blobs.write(container, name, json.dumps(template).encode(), "application/json")
    await customer.deliver(job_id="echo", output={"callback": receiver.url})
    (message,) = await take(harness)
    await harness.services.callbacks.deliver(message)
    ((headers, body),) = receiver.received
    lower_case = {name.lower(): value for name, value in headers.items()}
    response = await send(harness, "POST", f"webhooks/{customer.name}", body=body, headers=lower_case)

    response.assert_problem(401, "unauthorized")
    assert ([], 1) == (await customer.queued(), len(customer.account.received))


async def test_a_failed_and_a_cancelled_job_call_back(customer: Customer, receiver: Receiver):
    """A job that failed or was cancelled calls back too, also if it publishes its result nowhere else."""
    output = {"callback": receiver.url, "queue": False}
    assert await customer.deliver(job_id="failed", model="m", connection="none", output=output) is None
    job = customer.job(job_id="off", output={"callback": receiver.url})
    assert 202 == (await send(customer.harness, "POST", "jobs", json_body=job)).status
    await send(customer.harness, "DELETE", f"jobs/{customer.name}/off")
    for body in await customer.queued():
        await customer.harness.deliver(body)
    for message in await take(customer.harness):
        await customer.harness.services.callbacks.deliver(message)

    assert ["connection_not_found", "cancelled"] == [json.loads(body)["error"]["code"] for _, body in receiver.received]


async def test_a_callbacks_queue_that_is_down_loses_nothing(customer: Customer, receiver: Receiver, monkeypatch):
    """If the message could not be sent, the job is requeued, calls no model again, and calls back then."""
    queues = customer.harness.services.queues
    send = type(queues).send

    async def fail(self: Any, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        if queue == customer.harness.environment["CALLBACKS_QUEUE"]:
            raise StorageUnavailable("The queue is down.", 0)
        await send(self, queue, body, delay_s=delay_s)

    monkeypatch.setattr(type(queues), "send", fail)
    assert await customer.deliver(job_id="later", output={"callback": receiver.url}) is None
    monkeypatch.setattr(type(queues), "send", send)
    (again,) = await customer.queued()
    assert await customer.harness.deliver(again) is not None
    (message,) = await take(customer.harness)
    await customer.harness.services.callbacks.deliver(message)

    assert (1, 1) == (len(receiver.received), len(customer.account.received))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/callback", "`output.callback` must begin with https://"),
        ("https://user:pass@example.com/", "`output.callback` must be an https URL"),
    ],
)
async def test_urls_that_are_not_allowed_are_refused_on_submission(customer: Customer, url: str, says: str):
    """Over HTTP and by queue, before any call, with the member's name and nothing of the URL."""
    refused = await send(customer.harness, "POST", "jobs", json_body=customer.job(output={"callback": url}))
    result = await customer.run(output={"callback": url})

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert says in refused.json["detail"]
    assert ("invalid_job", refused.json["detail"]) == (result["error"]["code"], result["error"]["message"])
    assert [] == await customer.rows() == customer.account.received


async def test_nothing_of_the_response_or_the_url_leaks(customer: Customer, receiver: Receiver, caplog, capfd):
    """The receiver's text, the URL's query and the secret are in no log or status; the job's row alone has the URL."""
    caplog.set_level(logging.DEBUG)
    secret = new_secret()
    customer.harness.put_secret(f"webhook--{customer.name}", secret)
    url = receiver.url
    answers = [
        answers_with(200),
        answers_with(400),
        answers_with(410),
        answers_with(500, x_text=BODY.decode()),
        answers_with(302, location=BODY.decode()),
        abort,
    ]
    for number, answer in enumerate(answers):
        receiver.answers.append(answer)
        await customer.deliver(job_id=f"j{number}", output={"callback": url})
        for message in await take(customer.harness):
            await customer.harness.services.callbacks.deliver(message)
    assert len(answers) == len(receiver.received)

    documents = [str(await status_of(customer, f"j{number}")) for number in range(len(answers))]
    rows = [str({name: text for name, text in row.items() if name != "callback_url"}) for row in await customer.rows()]
    messages = [record.getMessage() for record in caplog.records if record.name == "customer_ai_jobs"]
    everything = "\n".join([*documents, *rows, *messages, *capfd.readouterr()])
    assert "callback_delivered" in everything
    assert [] == [mark for mark in (BODY.decode(), "MARKED-TOKEN", secret, secret[6:]) if mark in everything]

"""`poison`: what is in the poison queue and why, and what happens when it is retried."""

from __future__ import annotations

import base64
import json

import pytest

from shared.clock import now
from shared.contract.job import decode_job
from shared.jobs.fingerprint import fingerprint
from shared.storage.base import Row
from tests.support.cli_runner import CliRunner
from tests.support.endpoint import completion
from tests.support.harness import Customer


@pytest.fixture
def poison(cli: CliRunner) -> str:
    """The name of the poison queue."""
    return f"{cli.harness.environment['JOBS_QUEUE']}-poison"


async def poison_job(customer: Customer, **members: object) -> None:
    """Put a job whose attempts failed into the poison queue, as the host moves it: its body under a new message id."""
    harness = customer.harness
    body = json.dumps(customer.job(**members)).encode()
    job = decode_job(body, default_id="message-1")
    ledger = harness.services.ledger
    await ledger.claim(customer.name, job.id, fingerprint=fingerprint(job), submitted_at=now(), action="chat")
    row = await harness.services.table.read(customer.name, f"j_{job.id}")
    assert row is not None
    values = {"failed_attempts": 5, "reason": "The endpoint broke off.", "state": "waiting"}
    await harness.services.table.merge(Row(customer.name, row.key, values, row.etag))
    await harness.services.queues.send(f"{harness.environment['JOBS_QUEUE']}-poison", body)


async def test_list_shows_the_reasons(cli: CliRunner, customer: Customer, poison: str):
    """Each message, base64 or plain, has its customer, its job and the last error, and stays in the queue."""
    await poison_job(customer, job_id="one")
    await poison_job(customer, input={"prompt": "Without an id."})
    await cli.harness.services.queues.send(poison, b"[]")
    queue = cli.harness.queues.get_queue_client(poison)
    await queue.send_message(json.dumps(customer.job(job_id="plain")))
    await queue.send_message("not a job!")

    result = await cli.run("poison list")
    again = await cli.run("poison list")

    assert (0, result.out) == (again.code, again.out)
    assert f"{customer.name} one chat waiting The endpoint broke off." in result.text
    assert f"{customer.name} message-1 chat waiting" in result.text
    assert "The job must be an object" in result.text
    assert f"{customer.name} plain chat No attempt was recorded." in result.text
    assert "The job is not valid JSON" in result.text


async def test_nothing_to_retry_is_one_sentence(cli: CliRunner, poison: str):
    """An empty queue is reported. A message that no attempt could run stays in it, and is reported, too."""
    assert f"{poison} is empty.\n" == (await cli.expect("poison list")).out
    await cli.expect("poison retry --all", 1, err="holds no such message")
    await cli.harness.services.queues.send(poison, b"[]")
    await cli.expect("poison retry --all", 1, err="is not a valid job and stays")

    assert [b"[]"] == await cli.harness.messages(poison)


async def test_retried_job_runs(cli: CliRunner, customer: Customer, poison: str):
    """A retried job runs under its original id with its failure count reset, and the poison queue is empty."""
    await poison_job(customer, input={"prompt": "Once more?"})
    customer.account.will_answer(completion("At last."))

    retried = await cli.run(f"poison retry --customer {customer.name}")
    (body,) = await cli.queued()
    result = json.loads(await cli.harness.deliver(body) or b"")

    assert (0, "") == (retried.code, retried.err)
    assert ("message-1", "succeeded", "At last.") == (result["job_id"], result["status"], result["output"]["text"])
    assert [] == await cli.harness.messages(poison)


async def test_only_selected_jobs_are_retried(cli: CliRunner, customer: Customer, poison: str):
    """Jobs are selected by customer or by message; the others are visible again at once."""
    other = cli.harness.customer()
    await poison_job(customer, job_id="one")
    await poison_job(other, job_id="two")
    await poison_job(other, job_id="three")
    peeked = await cli.harness.queues.get_queue_client(poison).peek_messages(max_messages=32)
    two = next(message.id for message in peeked if b'"two"' in base64.b64decode(message.content))

    await cli.expect(f"poison retry --customer {customer.name}")
    await cli.expect(f"poison retry --message {two}")

    assert ["three"] == [json.loads(body)["job_id"] for body in await cli.harness.messages(poison)]
    assert ["one", "two"] == [json.loads(body)["job_id"] for body in await cli.queued()]


async def test_ended_job_is_not_called_again(cli: CliRunner, customer: Customer, poison: str):
    """A job that has ended publishes its stored result again, without a call."""
    await customer.run(job_id="done")
    await cli.harness.services.queues.send(poison, json.dumps(customer.job(job_id="done")).encode())

    await cli.expect("poison list", out="The job has ended")
    await cli.expect("poison retry --all")
    (body,) = await cli.queued()
    result = json.loads(await cli.harness.deliver(body) or b"")

    assert ("succeeded", 1) == (result["status"], len(customer.account.received))

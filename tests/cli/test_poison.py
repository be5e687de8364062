"""`poison`: what is in the poison queues and why, and what happens when it is retried or removed."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest

from shared.batches.records import new_batch_id
from shared.clock import now, rfc3339
from shared.contract.callback import CallbackMessage, encode_callback
from shared.contract.documents import CallbackState
from shared.contract.job import decode_job
from shared.jobs.batch_message import encode_batch_message
from shared.jobs.fingerprint import fingerprint
from shared.storage.base import Row
from tests.support.batch_rows import put_batch
from tests.support.cli_runner import TRIGGER_QUEUES, CliRunner
from tests.support.endpoint import completion
from tests.support.harness import Customer

LOOKS_AT_QUEUES = TRIGGER_QUEUES


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

    lines, others = (
        [" ".join(re.sub(r"\b\d+s\b|[0-9a-f-]{36}", "", line).split()) for line in each.out.splitlines()]
        for each in (result, again)
    )
    assert (0, lines) == (again.code, others)
    assert "customer job or batch kind status time message reason" == lines[0]
    assert f"{customer.name} one job waiting The endpoint broke off." in lines
    assert f"{customer.name} message-1 job waiting The endpoint broke off." in lines
    assert f"{customer.name} plain job No attempt was recorded." in lines
    assert "The job must be an object" in result.text
    assert "The job is not valid JSON" in result.text


async def test_nothing_to_retry_is_one_sentence(cli: CliRunner, poison: str):
    """
    If there is nothing to do, that is said, and is no error; a message that is named has to exist.

    A message that no attempt could run stays in its queue, and is reported, too.
    """
    others = [cli.harness.environment[f"{name}_QUEUE"] for name in ("CALLBACKS", "BATCHES")]
    empty = "".join(f"{name} is empty.\n" for name in (poison, *(f"{each}-poison" for each in others)))
    assert empty == (await cli.expect("poison list")).out
    await cli.expect("poison retry --all", out="The poison queues are empty.")
    await cli.expect("poison retry --customer nobody", out="The poison queues hold nothing of nobody.")
    await cli.expect("poison remove --unreadable", out="The poison queues hold no message that the app can't read.")
    await cli.expect("poison show", 1, err="The poison queues are empty.")
    for line in ("show x", "retry --message x", "remove --message x --yes"):
        await cli.expect(f"poison {line}", 1, err="no such message. `aijobs poison list` shows the ids.")
    await cli.harness.services.queues.send(poison, b"[]")
    await cli.expect("poison retry --all", 1, err="is not one of the app's and stays")

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


async def test_retried_message_is_processed_whatever_its_generation(cli: CliRunner, customer: Customer, poison: str):
    """Workers that stopped have sent later ones, and have ended the job: whoever retries this one wants its result."""
    await customer.run(job_id="done")
    table = cli.harness.services.table
    row = await table.read(customer.name, "j_done")
    assert row is not None
    await table.merge(replace(row, values={"generation": 2}))
    envelope = {"submitted_at": rfc3339(row.values["submitted_at"]), "generation": 1}
    earlier = json.dumps(customer.job(job_id="done", _envelope=envelope)).encode()
    await cli.harness.services.queues.send(poison, earlier)

    await cli.expect("poison retry --all")
    (body,) = await cli.queued()

    assert None is await cli.harness.deliver(earlier)
    assert "succeeded" == json.loads(await cli.harness.deliver(body) or b"")["status"]


@pytest.fixture
def poisoned_callbacks(cli: CliRunner) -> str:
    """The name of the callbacks' poison queue."""
    return f"{cli.harness.environment['CALLBACKS_QUEUE']}-poison"


async def test_callback_is_listed_and_retried(cli: CliRunner, customer: Customer, poisoned_callbacks: str):
    """A callback has its job and its last error; a retry puts its own message back, so that its tries go on."""
    await customer.run(job_id="called", output={"callback": f"{cli.harness.endpoint.url}/callback"})
    state = CallbackState(status="waiting", attempts=2, error="The receiver answered 500.")
    await cli.harness.services.updates.save_callback_state(customer.name, "called", state)
    await cli.harness.messages(cli.harness.environment["CALLBACKS_QUEUE"])
    message = encode_callback(CallbackMessage(customer=customer.name, job_id="called", attempt=2, first_at=now()))
    await cli.harness.services.queues.send(poisoned_callbacks, message)
    await cli.harness.services.queues.send(poisoned_callbacks, b"{}")

    (listed, unreadable) = json.loads((await cli.expect("poison list --json")).out)["messages"]
    await cli.expect(f"poison retry --customer {customer.name}", out="Requeued 1 message.")

    assert ("callback", "called", "The receiver answered 500.") == (
        listed["kind"],
        listed["job_id"],
        listed["reason"],
    )
    assert ("unreadable", poisoned_callbacks) == (unreadable["kind"], unreadable["queue"])
    assert [message] == await cli.harness.messages(cli.harness.environment["CALLBACKS_QUEUE"])
    assert [b"{}"] == await cli.harness.messages(poisoned_callbacks)


async def test_batch_is_listed_and_retried(cli: CliRunner, newcomer: Customer):
    """A batch has its state and its last error; a retry puts its own message back, so that its turns go on."""
    services, name = cli.harness.services, newcomer.name
    batches = services.settings.batches_queue
    error = "The endpoint broke off."
    waiting = await put_batch(services.table, name, now(), state="waiting", error=error)
    done = await put_batch(services.table, name, now(), state="done")
    for batch in (waiting, done, new_batch_id(now())):
        await services.queues.send(f"{batches}-poison", encode_batch_message(name, batch))
    await services.queues.send(f"{batches}-poison", b"{}")

    listed = json.loads((await cli.expect("poison list --json")).out)["messages"]
    assert [
        ("batch", waiting, "waiting", error),
        ("batch", done, "done", "The batch is done. The app drops the message."),
    ] == [tuple(each.get(member) for member in ("kind", "batch", "status", "reason")) for each in listed[:2]]
    assert ["batch", "unreadable"] == [each["kind"] for each in listed[2:]]
    assert "not on record any more" in listed[2]["reason"]
    await cli.expect("poison list", out=waiting)
    await cli.expect(f"poison retry --message {listed[0]['message']}", out="Requeued 1 message.")
    await cli.expect("poison remove --unreadable --yes", out="Removed 1 message.")

    assert [encode_batch_message(name, waiting)] == await cli.harness.messages(batches)
    assert 2 == len(await cli.harness.messages(f"{batches}-poison"))


async def test_message_is_shown(cli: CliRunner, poison: str):
    """A message is printed as it is, without what a terminal obeys, or in base64 if it is no text."""
    await cli.harness.services.queues.send(poison, b"[\x1b[31m,\n2]")
    await cli.harness.services.queues.send(poison, b"{\xff")
    first, second = json.loads((await cli.expect("poison list --json")).out)["messages"]

    shown = await cli.expect(f"poison show {first['message']}")
    document = json.loads((await cli.expect(f"poison show {second['message']} --json")).out)
    await cli.expect("poison show 1234", 1, err="hold no such message")

    assert "[\ufffd[31m,\n2]\n" == shown.out
    assert b"{\xff" == base64.b64decode(document["base64"])
    assert 2 == len(await cli.harness.messages(poison))


async def test_only_what_is_unreadable_is_removed(
    cli: CliRunner, customer: Customer, poison: str, poisoned_callbacks: str
):
    """Messages that are no job and no callback are removed once their number is typed; all others stay."""
    await poison_job(customer, job_id="one")
    for queue in (poison, poisoned_callbacks):
        await cli.harness.services.queues.send(queue, b"nothing")
    listed = json.loads((await cli.expect("poison list --json")).out)["messages"]
    job = next(each["message"] for each in listed if each["kind"] == "job")
    nothing = next(each["message"] for each in listed if each["kind"] == "unreadable")

    await cli.expect(f"poison remove --message {job} --yes", 1, err=f"use `aijobs poison retry --message {job}`")
    await cli.expect("poison remove --unreadable", 1, err="This removes 2 messages", stdin="yes\n")
    await cli.expect(f"poison remove --message {nothing}", out="Removed 1 message.", stdin="1\n")
    await cli.expect("poison remove --unreadable --yes", out="Removed 1 message.")
    await cli.expect("poison remove --unreadable --yes", out="no message that the app can't read")

    assert ["one"] == [json.loads(body)["job_id"] for body in await cli.harness.messages(poison)]
    assert [] == await cli.harness.messages(poisoned_callbacks)

"""`callbacks`: what became of them, and how they are sent again to a receiver that has missed them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.callback_receiver import Receiver, answers_with, open_receiver
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer
from tests.support.signatures import new_secret

LOOKS_AT_QUEUES = ("CALLBACKS_QUEUE",)


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    async with open_receiver() as opened:
        yield opened


@pytest.fixture
def customer(customer: Customer) -> Customer:
    """A customer with a signing secret."""
    customer.harness.put_secret(f"webhook--{customer.name}", new_secret())
    return customer


async def deliver(cli: CliRunner) -> int:
    """Make the tries in the callbacks queue, and return how many there were."""
    messages = await cli.harness.messages(cli.harness.environment["CALLBACKS_QUEUE"])
    for message in messages:
        await cli.harness.services.callbacks.deliver(message)
    return len(messages)


async def status(cli: CliRunner, customer: Customer) -> dict[str, str]:
    """The states of the customer's callbacks by job."""
    document = json.loads((await cli.expect(f"callbacks list --customer {customer.name} --json")).out)
    return {each["job_id"]: each["callback"]["status"] for each in document["callbacks"]}


async def test_callbacks_are_listed(cli: CliRunner, customer: Customer, receiver: Receiver):
    """Each has its state, its tries, the receiver's answer and the error; jobs without a callback are left out."""
    await customer.run(job_id="plain")
    for job_id, answer in (("taken", 204), ("gone", 410), ("broken", 500)):
        await customer.run(job_id=job_id, output={"callback": receiver.url})
        receiver.answers.append(answers_with(answer))
        await deliver(cli)
    await customer.run(job_id="new", output={"callback": receiver.url})

    result = await cli.expect(f"callbacks list --customer {customer.name}")

    assert [
        f"{customer.name} new waiting 0",
        f"{customer.name} broken waiting 1 500 The receiver answered 500.",
        f"{customer.name} gone failed 1 410 The receiver wants no more callbacks (410).",
        f"{customer.name} taken delivered 1 204",
    ] == [" ".join(line.split()) for line in result.out.splitlines()[1:]]


@pytest.mark.parametrize("answer", [pytest.param(410, marks=pytest.mark.long), 500])
async def test_callback_is_sent_again_under_its_own_id(
    cli: CliRunner, customer: Customer, receiver: Receiver, answer: int
):
    """What has failed, even for good, or waits for a try is sent at once, with the same `webhook-id`."""
    await customer.run(job_id="one", output={"callback": receiver.url})
    receiver.answers.append(answers_with(answer))
    await deliver(cli)
    assert 0 == await deliver(cli)

    await cli.expect(f"callbacks resend --customer {customer.name}", out="Sent 1 callback.")
    assert 1 == await deliver(cli)

    first, second = receiver.received
    assert (first[0]["webhook-id"], first[1]) == (second[0]["webhook-id"], second[1])
    assert {"one": "delivered"} == await status(cli, customer)


async def test_delivered_callback_is_sent_again_only_on_demand(cli: CliRunner, customer: Customer, receiver: Receiver):
    """A receiver that has lost what it had taken gets it with `--delivered`; other jobs are left alone."""
    for job_id in ("one", "two"):
        await customer.run(job_id=job_id, output={"callback": receiver.url})
    await deliver(cli)

    line = f"callbacks resend --customer {customer.name} --job one"
    await cli.expect(line, out="Sent 0 callbacks. Delivered before: 1")
    assert 0 == await deliver(cli)
    await cli.expect(f"{line} --delivered", out="Sent 1 callback.")
    assert 1 == await deliver(cli)

    assert ["one", "one", "two"] == sorted(json.loads(body)["job_id"] for _, body in receiver.received)


async def test_job_that_does_not_exist_is_an_error(cli: CliRunner, customer: Customer, receiver: Receiver):
    """A named job that does not exist is reported with exit code 1, beside what others had; nothing at all is 0."""
    await customer.run(job_id="one", output={"callback": receiver.url})
    await deliver(cli)
    missing = f"--customer {customer.name} --job one --job none"

    listed = await cli.expect(f"callbacks list {missing}", 1, out="delivered", err="Not found: 1 job, never submitted")
    await cli.expect(
        f"callbacks resend {missing}", 1, out="Sent 0 callbacks. Delivered before: 1", err="Not found: 1 job"
    )
    await cli.expect("callbacks list --customer nobody", out="No selected job has ended with a callback.")
    await cli.expect("callbacks resend --customer nobody", out="Sent 0 callbacks.")

    assert "one" in listed.out
    for command in ("list", "resend"):
        assert 1 == json.loads((await cli.run(f"callbacks {command} {missing} --json")).out)["not_found"]


async def test_resent_callback_does_not_add_tries(cli: CliRunner, customer: Customer, receiver: Receiver):
    """Two messages for the same try are one try more, whatever the receiver answers: no second chain of tries."""
    await customer.run(job_id="one", output={"callback": receiver.url})
    receiver.answers += [answers_with(500)] * 3
    await deliver(cli)
    for _ in range(2):
        await cli.expect(f"callbacks resend --customer {customer.name}", out="Sent 1 callback.")

    assert 2 == await deliver(cli)

    record = await cli.harness.services.queries.get(customer.name, "one")
    assert record is not None
    assert (2, 2) == (len(receiver.received), record.callback_attempts)

"""Poison on the command line: what stands there, why, and what becomes of it when it is put back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from shared.clock import now
from shared.contract.job import decode_job, request_hash
from shared.storage.base import Row
from tests.support.cli_runner import Operator
from tests.support.endpoint import completion
from tests.support.harness import Customer, World


@pytest.fixture(name="world")
def _world(own_world: World) -> World:
    return own_world


@pytest.fixture
async def operator(world: World, tmp_path: Path) -> Operator:
    jobs = world.environment["JOBS_QUEUE"]
    await world.messages(jobs)
    await world.queues.get_queue_client(f"{jobs}-poison").clear_messages()
    return Operator(world, tmp_path)


async def poisoned(operator: Operator, customer: Customer, *, failures: int = 5, **members: str) -> dict[str, object]:
    """A job whose runs came to nothing, as the host moves it: its body alone, under a new message id."""
    job = customer.job(**members)
    body = json.dumps(job).encode()
    known = decode_job(body, default_id="message-1")
    ledger = operator.world.services.ledger
    claim = await ledger.claim(
        customer.name, known.id, request_hash=request_hash(known), submitted_at=now(), action="chat"
    )
    row = await operator.world.services.table.read(customer.name, f"j_{known.id}")  # type: ignore[union-attr]
    assert row is not None
    values = {"failures": failures, "reason": "The endpoint broke off.", "state": "waiting"}
    await operator.world.services.table.merge(Row(customer.name, row.key, values, row.etag))
    assert claim is not None
    await operator.world.services.queues.send(_poison(operator), body)
    return job


def _poison(operator: Operator) -> str:
    return f"{operator.world.environment['JOBS_QUEUE']}-poison"


async def test_poison_is_shown_with_its_reason(operator: Operator):
    """Each message with its customer, its job, and why its runs came to nothing; it stays where it is."""
    customer = operator.world.customer()
    await poisoned(operator, customer, job_id="one")
    await poisoned(operator, customer, input={"prompt": "Without an id."})  # type: ignore[arg-type]
    await operator.world.services.queues.send(_poison(operator), b"[]")
    client = operator.world.queues.get_queue_client(_poison(operator))
    await client.send_message("not base64!")

    ended = await operator.types("poison list")
    again = await operator.types("poison list")

    assert (0, ended.out) == (again.code, again.out)
    assert f"{customer.name} one chat waiting The endpoint broke off." in ended.said
    assert f"{customer.name} message-1 chat waiting" in ended.said
    assert "The job must be an object" in ended.said
    assert "not base64" in ended.said


async def test_nothing_is_told(operator: Operator):
    """An empty queue is a sentence, and there is nothing to put back."""
    ended = await operator.types("poison list")
    retried = await operator.types("poison retry --all")

    assert (0, f"Nothing stands in {_poison(operator)}.\n") == (ended.code, ended.out)
    assert (1, True) == (retried.code, "No such message" in retried.err)


async def test_job_that_is_put_back_runs(operator: Operator):
    """Under its own id, with its failed runs forgiven, it is run, and the poison queue is empty."""
    customer = operator.world.customer()
    await poisoned(operator, customer, input={"prompt": "Once more?"})  # type: ignore[arg-type]
    customer.account.will_answer(completion("At last."))

    ended = await operator.types(f"poison retry --customer {customer.name}")
    (body,) = await operator.world.messages(operator.world.environment["JOBS_QUEUE"])
    result = json.loads(await operator.world.deliver(body) or b"")

    assert (0, "") == (ended.code, ended.err)
    assert ("message-1", "succeeded", "At last.") == (result["job_id"], result["status"], result["output"]["text"])
    assert [] == await operator.world.messages(_poison(operator))


async def test_only_what_is_wanted_is_put_back(operator: Operator):
    """By customer or by message; the others can be seen again at once."""
    customer, other = operator.world.customer(), operator.world.customer()
    await poisoned(operator, customer, job_id="one")
    await poisoned(operator, other, job_id="two")
    await poisoned(operator, other, job_id="three")
    client = operator.world.queues.get_queue_client(_poison(operator))
    peeked = await client.peek_messages(max_messages=32)
    two = next(one.id for one in peeked if b'"two"' in base64.b64decode(one.content))

    first = await operator.types(f"poison retry --customer {customer.name}")
    second = await operator.types(f"poison retry --message {two}")

    assert [0, 0] == [first.code, second.code]
    left = await operator.world.messages(_poison(operator))
    back = await operator.world.messages(operator.world.environment["JOBS_QUEUE"])
    assert ["three"] == [json.loads(body)["job_id"] for body in left]
    assert ["one", "two"] == [json.loads(body)["job_id"] for body in back]


async def test_what_is_no_job_stays(operator: Operator):
    """A message that no run could take is not put back, and is told."""
    await operator.world.services.queues.send(_poison(operator), b"[]")

    ended = await operator.types("poison retry --all")

    assert (1, True) == (ended.code, "It is no job, and stays" in ended.err)
    assert [b"[]"] == await operator.world.messages(_poison(operator))


async def test_job_that_has_ended_is_told_again(operator: Operator):
    """One that is done buys nothing more."""
    customer = operator.world.customer()
    await customer.run(job_id="done")
    body = json.dumps(customer.job(job_id="done")).encode()
    await operator.world.services.queues.send(_poison(operator), body)

    shown = await operator.types("poison list")
    await operator.types("poison retry --all")
    (back,) = await operator.world.messages(operator.world.environment["JOBS_QUEUE"])
    told = json.loads(await operator.world.deliver(back) or b"")

    assert "It has ended" in shown.out
    assert ("succeeded", 1) == (told["status"], len(customer.account.received))

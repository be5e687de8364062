"""The jobs that close months run like any other, need no connection, and are nobody's but the app's own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from shared.billing.closed_records import blob_name
from shared.billing.customer_records import CustomerRecords
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.contract.customer import CustomerProfile
from shared.errors import InvalidJob, JobConflict
from shared.jobs.envelope import decode_queued_job
from shared.jobs.ledger import Ledger
from shared.jobs.records import time_row
from shared.storage.base import Row
from tests.support.closable import (
    CLOSABLE_AT,
    CORRECTION,
    DOCUMENT,
    JOB_ID,
    MONTH,
    add_credit,
    add_usage,
    publish_prices,
    put_profile,
)
from tests.support.crashing_storage import Fate, Mortal, WorkerDied
from tests.support.customers import Customer
from tests.support.sampled import Sampled, few_by_default
from tests.support.workers import Worker

REFUSED = "Months are closed by the app itself and by `aijobs close-month`"


@pytest.fixture
async def customer(worker: Worker) -> Customer:
    """A customer without a connection, whose last month has usage, and a price book."""
    customer = worker.customer(connection=None)
    await publish_prices(worker.table, worker.memory.blobs)
    await add_usage(worker.table, customer.name)
    return customer


async def submit(worker: Worker, customer: Customer, document: Any = DOCUMENT, **options: Any) -> bytes:
    """Submit the job of a document; return its message."""
    assert "queued" == await worker.services.statement_jobs.submit(customer.name, document, **options)
    ((body, _),) = worker.requeued()
    return body


def documents(worker: Worker) -> dict[str, bytes]:
    """Return all files of documents by their names."""
    blobs = worker.memory.blobs.blobs.items()
    return {name: data for (_, name), (data, _) in blobs if not name.startswith("prices/")}


async def test_a_month_is_closed_by_a_job(worker: Worker, customer: Customer):
    """
    Its result has number, total and the hash of each file that the customer gets, and goes into the results queue: the
    customer may read it. No call is recorded.
    """
    body = await submit(worker, customer)
    usage = worker.usage(customer)

    result = await worker.run(customer, body)

    files = {name: documents(worker)[blob_name(customer.name, DOCUMENT, name)] for name in result["output"]["files"]}
    assert ("succeeded", JOB_ID, "statement") == (result["status"], result["job_id"], result["action"])
    assert (MONTH, f"{customer.name}-0001", "3.00", "USD") == tuple(
        result["output"][name] for name in ("month", "number", "total", "currency")
    )
    assert {"json", "csv", "html"} == set(files)
    assert {name: len(data) for name, data in files.items()} == {
        name: file["size"] for name, file in result["output"]["files"].items()
    }
    assert usage == worker.usage(customer)
    assert ("connection" in result, result["usage"]["calls"]) == (False, 0)
    assert result == await worker.run(customer, body)  # the stored result


@pytest.mark.parametrize("second", [DOCUMENT, CORRECTION])
async def test_a_document_is_made_once(worker: Worker, customer: Customer, second: Any):
    """A month that is closed has no second job, and a correction without anything to correct no document."""
    await worker.run(customer, await submit(worker, customer))
    before = documents(worker)

    if second == DOCUMENT:
        assert "closed" == await worker.services.statement_jobs.submit(customer.name, second, again=True)
        assert [] == worker.requeued()
    else:
        result = await worker.run(customer, await submit(worker, customer, second))
        assert {"month": MONTH, "correction": 1, "nothing_to_correct": True} == result["output"]
    assert before == documents(worker)


async def test_a_stopping_worker_hands_the_job_over(
    worker: Worker, customer: Customer, monkeypatch: pytest.MonkeyPatch
):
    """In the middle of its work: nobody waits for its lease to expire, and it has not failed."""
    body, begun = await submit(worker, customer), asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(worker.memory.blobs, "write", hang)
        job = asyncio.create_task(worker.deliver(customer, body))
        await begun.wait()
        await worker.services.drain.stop()
        assert await job is None

    ((body, delay_s),) = worker.requeued()
    assert (0, True) == (worker.row(customer, JOB_ID)["failed_attempts"], delay_s < 1.2)
    assert "succeeded" == (await worker.another().run(customer, body))["status"]


async def test_an_attempt_that_died_has_made_no_call(worker: Worker, customer: Customer):
    """So there is no record of calls that may have been billed."""
    body, usage = await submit(worker, customer), worker.usage(customer)
    await worker.crash(customer, JOB_ID, body)

    result = await worker.run(customer, body)

    assert ("succeeded", 2, usage) == (result["status"], result["attempts"], worker.usage(customer))


async def test_a_correction_that_had_nothing_to_do_runs_again(worker: Worker, customer: Customer):
    """Once there is something: under the same id, since it made no document."""
    await worker.run(customer, await submit(worker, customer))
    await worker.run(customer, await submit(worker, customer, CORRECTION))
    await add_credit(worker.table, customer.name)

    result = await worker.run(customer, await submit(worker, customer, CORRECTION, again=True))

    assert (f"{JOB_ID}-1", f"{customer.name}-0002", "-1.00") == (
        result["job_id"],
        result["output"]["number"],
        result["output"]["total"],
    )


async def test_a_job_that_failed_is_started_again_on_demand_alone(worker: Worker, customer: Customer):
    """
    A missing price fails one customer's month, and another's is closed. The timer leaves what has failed; the operator
    has it run once more, with the prices of then.
    """
    other = worker.customer(connection=None)
    await add_usage(worker.table, customer.name, job="b", model="gpt-new")
    await add_usage(worker.table, other.name)
    failed = await worker.run(customer, await submit(worker, customer))
    closed = await worker.run(other, await submit(worker, other))

    assert ("failed", "invalid_job", "succeeded") == (failed["status"], failed["error"]["code"], closed["status"])
    assert f"Billed calls of {MONTH} have no price: 1 of gpt-new." in failed["error"]["message"]
    assert "failed" == await worker.services.statement_jobs.submit(customer.name, DOCUMENT)
    await publish_prices(worker.table, worker.memory.blobs, "2", model="gpt-*")
    result = await worker.run(customer, await submit(worker, customer, again=True))
    assert ("succeeded", "4.00") == (result["status"], result["output"]["total"])
    times = [key for partition, key in worker.table.rows if partition == customer.name and key.startswith("t_")]
    assert 1 == len(times)


async def test_a_month_is_closed_without_what_has_no_price_if_told(worker: Worker, customer: Customer):
    """The same job, once more."""
    await add_usage(worker.table, customer.name, job="b", model="gpt-new")
    await worker.run(customer, await submit(worker, customer))

    result = await worker.run(customer, await submit(worker, customer, again=True, allow_unpriced=True))

    assert ("succeeded", "3.00") == (result["status"], result["output"]["total"])


async def test_a_message_that_was_never_sent_is_sent_again(worker: Worker, customer: Customer):
    """The row is written first. Both messages are the same job, also if the profile has changed in between."""
    first = await submit(worker, customer)
    await put_profile(worker.table, customer.name, CustomerProfile(notify="https://example.com/closed"))
    second = await submit(worker, customer)

    assert first == second
    first_result, second_result = await worker.run(customer, first), await worker.run(customer, second)
    assert first_result == second_result


@pytest.mark.parametrize("again", [False, True])
async def test_a_job_under_way_is_left_alone(worker: Worker, customer: Customer, again: bool):
    """It has its message."""
    body = await submit(worker, customer)
    await worker.claim(customer, JOB_ID, body)

    assert "running" == await worker.services.statement_jobs.submit(customer.name, DOCUMENT, again=again)
    assert [] == worker.requeued()


@pytest.mark.parametrize("state", ["released", "dead"])
async def test_a_job_whose_message_was_lost_is_sent_again_on_demand(worker: Worker, customer: Customer, state: str):
    """As when an operator has cleared a queue: else nothing could close that month any more."""
    body = await submit(worker, customer)
    if state == "dead":
        await worker.crash(customer, JOB_ID, body)
    else:
        worker.memory.blobs.down = True
        assert None is await worker.deliver(customer, body)
        worker.memory.blobs.down = False
        worker.requeued()
    await worker.change_row(customer, JOB_ID, generation=1)  # of a worker that stopped

    assert "running" == await worker.services.statement_jobs.submit(customer.name, DOCUMENT)
    result = await worker.run(customer, await submit(worker, customer, again=True))

    assert ("succeeded", f"{customer.name}-0001") == (result["status"], result["output"]["number"])


async def test_a_worker_whose_clock_is_behind_waits(worker: Worker, customer: Customer):
    """A month that it takes to be open for a few more minutes is closed then, and the job does not fail."""
    late = [CLOSABLE_AT - timedelta(seconds=2)]
    slow = worker.another()
    vars(slow.services)["closing"] = replace(slow.services.closing, clock=lambda: late[0])
    assert None is await slow.deliver(customer, await submit(worker, customer))
    ((body, delay_s),) = worker.requeued()
    late[0] += timedelta(seconds=delay_s)

    result = await slow.run(customer, body)

    assert ("succeeded", True) == (result["status"], 3 <= delay_s < 5)


def forged(body: bytes, **members: Any) -> bytes:
    """Return a message as a caller can write one that has seen one of ours, without its marker."""
    message = json.loads(body) | members
    envelope = message.pop("_envelope", None)
    if envelope:
        message["_envelope"] = {name: text for name, text in envelope.items() if name != "marker"}
    return json.dumps(message).encode()


FORGED: list[dict[str, Any]] = [
    {},
    {"_envelope": None},
    {"job_id": "mine"},
    {"job_id": "statements", "action": "chat", "input": {"prompt": "Hello?"}},
    {"action": "chat", "input": {"prompt": "Hello?"}},
    {"options": {"run_at": "2026-12-01T00:00:00Z"}},
    {"_envelope": {"submitted_at": "2026-11-01T00:30:00Z", "marker": "0" * 32}},
    {"_envelope": {"submitted_at": "2026-11-01T00:30:00Z", "marker": "\u00e4"}},
    {"_envelope": {"submitted_at": "2026-11-01T00:30:00Z", "marker": ""}},
]


@pytest.mark.parametrize(
    ("members", "when", "poison"),
    few_by_default(itertools.product(FORGED, ("first", "queued", "done"), (False, True)), 5),
)
async def test_no_callers_message_closes_a_month(
    worker: Worker, customer: Customer, members: dict[str, Any], when: str, poison: bool
):
    """
    Not before ours, not beside it and not after it, from neither queue, and whichever of action and id it has: it is
    refused, leaves no row, and what the app itself sends does what it would have done.
    """
    template = json.dumps(
        {"customer": customer.name, "action": "statement", "job_id": JOB_ID, "input": {"month": MONTH}}
    ).encode()
    process = worker.dead_letter if poison else lambda body: worker.run(customer, body)
    ours = None if when == "first" else await submit(worker, customer)
    if when == "done" and ours is not None:
        await worker.run(customer, ours)
    rows, files = dict(worker.table.rows), documents(worker)

    body = forged(template if ours is None else ours, **members)
    if "marker" in (members.get("_envelope") or {}):
        body = json.dumps(json.loads(body) | members).encode()
    result = await process(body)

    assert result is not None
    assert ("failed", "invalid_job") == (result["status"], result["error"]["code"])
    assert REFUSED in result["error"]["message"]
    assert (rows, files, []) == (worker.table.rows, documents(worker), worker.requeued())
    closed = await worker.run(customer, ours or await submit(worker, customer))
    assert ("succeeded", "3.00") == (closed["status"], closed["output"]["total"])


async def test_our_message_with_other_content_is_refused(worker: Worker, customer: Customer):
    """Whoever reads the queue has the marker, too, but the row knows what the job is."""
    body = json.loads(await submit(worker, customer))

    result = await worker.run(customer, json.dumps(body | {"input": {"month": "2020-01"}}).encode())

    assert ("failed", "conflict", {}) == (result["status"], result["error"]["code"], documents(worker))


async def test_a_job_with_the_id_from_before_is_an_error(worker: Worker, customer: Customer):
    """A row without a marker is a caller's, and is not replaced."""
    values = {"state": "done", "attempt": 1, "fingerprint": "x", "submitted_at": now()}
    await worker.table.insert(Row(customer.name, f"j_{JOB_ID}", values))

    with pytest.raises(JobConflict, match=f"The id {JOB_ID} belongs to a job of customer {customer.name}"):
        await worker.services.statement_jobs.submit(customer.name, DOCUMENT, again=True)


async def test_a_suspended_customers_month_is_closed(worker: Worker, customer: Customer):
    """Its callers' jobs are not run, and what they used before is billed."""
    await CustomerRecords(worker.table).change(
        customer.name, lambda record: record.with_state("suspended"), by="ann", subject="state"
    )

    assert "succeeded" == (await worker.run(customer, await submit(worker, customer)))["status"]


async def test_storage_that_fails_has_the_month_closed_later(worker: Worker, customer: Customer):
    """The job is released and requeued with its marker, and the next attempt closes the month."""
    body = await submit(worker, customer)
    worker.memory.blobs.down = True
    assert None is await worker.deliver(customer, body)
    ((again, delay_s),) = worker.requeued()
    worker.memory.blobs.down = False

    result = await worker.run(customer, again)

    assert delay_s > 0
    assert decode_queued_job(body, default_id="").envelope == decode_queued_job(again, default_id="").envelope
    assert ("succeeded", 2) == (result["status"], result["attempts"])


async def test_a_message_before_storage_answers_is_requeued(worker: Worker, customer: Customer):
    """Whether it is the app's own is not known yet."""
    body = await submit(worker, customer)
    worker.table.down = True
    assert None is await worker.deliver(customer, body)
    worker.table.down = False

    ((again, _),) = worker.requeued()
    assert "succeeded" == (await worker.run(customer, again))["status"]


async def test_a_worker_that_dies_leaves_the_month_to_the_next(worker: Worker, customer: Customer):
    """With the same number, whether the message comes from the queue or from the poison queue."""
    body = await submit(worker, customer)
    await worker.crash(customer, JOB_ID, body)
    assert None is await worker.dead_letter(body)
    ((again, _),) = worker.requeued()

    result = await worker.run(customer, again)

    assert ("succeeded", f"{customer.name}-0001") == (result["status"], result["output"]["number"])


@pytest.mark.parametrize("after", [False, True])
async def test_a_worker_that_dies_at_any_operation_leaves_one_document(
    worker: Worker, customer: Customer, sampled: Sampled, after: bool
):
    """
    From the message to the result, whichever operation on table or blobs is its last: the next worker ends with number
    one, and with files that are those of the result.
    """
    body = await submit(worker, customer)
    rows, blobs = dict(worker.table.rows), dict(worker.memory.blobs.blobs)
    for operation in sampled(itertools.count(1)):
        worker.table.rows, worker.memory.blobs.blobs = dict(rows), dict(blobs)
        fate = Fate(operation, after)
        table, stored = (cast(Any, Mortal(store, fate)) for store in (worker.table, worker.memory.blobs))
        mortal = worker.another(table=table, blobs=stored, ledger=Ledger(table))
        with contextlib.suppress(WorkerDied):  # unless it was a read ahead, for which nobody waits
            await mortal.deliver(customer, body)
        if fate.operations < operation:
            break
        if worker.row(customer, JOB_ID)["state"] == "running":
            await worker.expire_lease(customer, JOB_ID)

        result = await worker.another().run(customer, body)

        assert ("succeeded", f"{customer.name}-0001") == (result["status"], result["output"]["number"])
        for name, file in result["output"]["files"].items():
            data = documents(worker)[blob_name(customer.name, DOCUMENT, name)]
            assert file == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert ["n_00000001"] == [key for _, key in worker.table.rows if key.startswith("n_")]
    assert operation > 15


async def test_two_workers_get_one_job(worker: Worker, customer: Customer):
    """The same message, delivered twice, closes one month; the other worker leaves it or gets the result."""
    body = await submit(worker, customer)
    another = worker.another()

    results = await asyncio.gather(worker.deliver(customer, body), another.deliver(customer, body))

    assert 1 <= len([result for result in results if result]) <= 2
    assert {f"{customer.name}-0001"} == {result["output"]["number"] for result in results if result}
    assert 4 == len(documents(worker))


@pytest.mark.parametrize(
    ("notify", "callbacks"), [("https://example.com/closed", 1), ("https://10.0.0.1/closed", 0), (None, 0)]
)
async def test_notify_gets_a_callback(worker: Worker, customer: Customer, notify: str | None, callbacks: int):
    """If the profile has an address that callbacks may have; the month is closed all the same."""
    await put_profile(worker.table, customer.name, CustomerProfile(notify=notify))

    result = await worker.run(customer, await submit(worker, customer))

    sent = worker.queues.sent.get("callbacks", [])
    assert ("succeeded", callbacks) == (result["status"], len(sent))
    assert [JOB_ID] * callbacks == [json.loads(body)["job_id"] for body, _ in sent]


@pytest.mark.parametrize(("days", "status"), [(6, "succeeded"), (8, "failed")])
async def test_a_deadline_ends_the_job(worker: Worker, customer: Customer, days: int, status: str):
    """If the app is stopped, or Storage fails, for a week; then the operator can start it again."""
    body = await submit(worker, customer)
    submitted_at = worker.row(customer, JOB_ID)["submitted_at"]
    del worker.table.rows[customer.name, time_row(customer.name, JOB_ID, submitted_at).key]  # it is older now
    await worker.change_row(customer, JOB_ID, submitted_at=submitted_at - timedelta(days=days))

    result = await worker.run(customer, body)

    assert status == result["status"]
    if status == "succeeded":
        return
    assert "timeout" == result["error"]["code"]
    assert "succeeded" == (await worker.run(customer, await submit(worker, customer, again=True)))["status"]


async def test_a_month_that_is_not_over_is_not_closed(worker: Worker, customer: Customer):
    """The job ends with an error that says from when on."""
    result = await worker.run(customer, await submit(worker, customer, DocumentId("2999-01")))

    assert "2999-01 can be closed from 2999-02-01T00:30:00.000Z on." == result["error"]["message"]
    assert InvalidJob.code == result["error"]["code"]

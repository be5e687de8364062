"""Jobs that wait for more than two minutes, on Storage: no message of them is hidden."""

from __future__ import annotations

from datetime import timedelta

from shared.clock import now, rfc3339
from shared.jobs.schedule_entries import PARTITIONS
from shared.retention.customer_data import CustomerData
from shared.retention.sweep import Sweep
from tests.support.endpoint import error
from tests.support.harness import Harness
from tests.support.http_client import post, run_queue, send

HOUR = timedelta(hours=1)


async def entries(harness: Harness) -> list[tuple[str, str]]:
    """Customer and job of each row of the schedule."""
    rows = [row for partition in PARTITIONS async for row in harness.services.table.scan(partition, "", "~")]
    assert all({"customer", "job_id"} == set(row.values) for row in rows)
    return sorted((row.values["customer"], row.values["job_id"]) for row in rows)


async def hidden(harness: Harness) -> int:
    """How many messages the jobs queue holds, hidden ones included: what the host scales by."""
    queue = harness.queues.get_queue_client(harness.environment["JOBS_QUEUE"])
    return int((await queue.get_queue_properties()).approximate_message_count or 0)


async def test_waiting_jobs_are_rows_and_go_on_when_they_are_due(own_harness: Harness):
    """The large one's message, whose input has a blob of its own, is kept as well."""
    customer, schedule = own_harness.customer(), own_harness.services.schedule
    jobs = {"small": "Hello?", "large": "x" * 100_000, "widest": "x" * 48_500}
    customer.account.will_answer(*[error(429, retry_after="3600")] * len(jobs))
    for job_id, prompt in jobs.items():
        assert await customer.deliver(job_id=job_id, input={"prompt": prompt}) is None

    assert 0 == await hidden(own_harness)
    assert sorted((customer.name, job_id) for job_id in jobs) == await entries(own_harness)
    await schedule.send_due()
    assert 0 == await hidden(own_harness)

    await schedule.send_due(now() + 2 * HOUR)
    results = await run_queue(customer)

    assert [] == await entries(own_harness)
    assert {(job_id, "succeeded", 2) for job_id in jobs} == {
        (result["job_id"], result["status"], result["attempts"]) for result in results
    }
    assert {b""} == {row["wakeup"] for row in await customer.rows() if row["RowKey"].startswith("j_")}


async def test_a_job_is_submitted_to_run_later(own_harness: Harness):
    """Over HTTP: it is on record without a message, and cancelled it ends at once."""
    customer, run_at = own_harness.customer(), rfc3339(now() + HOUR)
    accepted = await post(customer, job_id="later", options={"run_at": run_at})
    again = await post(customer, job_id="later", options={"run_at": run_at})
    messages = await hidden(own_harness)
    cancelled = await send(own_harness, "DELETE", f"jobs/{customer.name}/later")
    (result,) = await run_queue(customer)

    assert (202, "queued", run_at, 0) == (accepted.status, accepted.json["status"], again.json["due_at"], messages)
    assert ("cancelled", None) == (cancelled.json["status"], cancelled.json.get("due_at"))
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])
    await own_harness.services.schedule.send_due(now() + 2 * HOUR)
    assert ([], []) == (await entries(own_harness), await customer.queued())
    refused = await post(customer, options={"run_at": rfc3339(now() + timedelta(days=31))})
    refused.assert_problem(400, "invalid_job", "`options.run_at` is more than 30 days ahead")


async def test_the_sweep_wakes_a_lost_job_and_erasure_leaves_none(own_harness: Harness):
    """Storage finds both by its own filters."""
    services = own_harness.services
    lost, erased = own_harness.customer(), own_harness.customer()
    for customer in (lost, erased):
        customer.account.will_answer(error(429, retry_after="3600"))
        assert await customer.deliver(job_id="waits") is None
    counts = await CustomerData(services.table, services.blobs, services.settings, erased.name).erase()
    assert counts.nothing_left
    assert [(lost.name, "waits")] == await entries(own_harness)

    await own_harness.table.update_entity(
        {"PartitionKey": lost.name, "RowKey": "j_waits", "due_at": now() - 2 * HOUR}, mode="merge"
    )
    await Sweep(services.table, services.blobs, services.settings, services.schedule).run()

    (result,) = await run_queue(lost)
    assert "succeeded" == result["status"]

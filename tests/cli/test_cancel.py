"""`cancel`: what has not started ends, after a question; what runs or has ended stays as it is."""

from __future__ import annotations

import json
from datetime import timedelta

from shared.clock import now, rfc3339
from shared.contract.job import decode_job
from shared.jobs.fingerprint import fingerprint
from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer

LOOKS_AT_QUEUES = ("JOBS_QUEUE",)


async def submit_three(cli: CliRunner, customer: Customer) -> None:
    """Submit three chat jobs in `jobs.csv`."""
    lines = "".join(f"{name},chat,{name}\n" for name in ("one", "two", "three"))
    cli.write("jobs.csv", f"job_id,action,input.prompt\n{lines}")
    await cli.expect(f"submit jobs.csv --customer {customer.name}")


async def states(cli: CliRunner, customer: Customer) -> dict[str, str]:
    """The states of the customer's jobs by id."""
    document = json.loads((await cli.run(f"watch --customer {customer.name} --once --json")).out)
    return {job["job_id"]: job["status"] for job in document["jobs"]}


async def test_jobs_of_a_file_are_cancelled_once_its_name_is_typed(cli: CliRunner, customer: Customer):
    """The question names the number of jobs; anything but the file's name cancels nothing."""
    await submit_three(cli, customer)
    (first, *_) = await cli.queued()
    done = json.loads(first)["job_id"]
    await cli.harness.deliver(first)

    await cli.expect("cancel jobs.csv", 1, out="Nothing was cancelled.", err="This cancels 2 jobs", stdin="yes\n")
    assert ["queued", "queued", "succeeded"] == sorted((await states(cli, customer)).values())
    await cli.expect("cancel jobs.csv", out="Cancelled 2 jobs. 1 job had ended before.", stdin="jobs.csv\n")

    assert {done: "succeeded"} == {
        key: state for key, state in (await states(cli, customer)).items() if state != "cancelled"
    }
    document = json.loads((await cli.expect("cancel jobs.csv --json")).out)
    assert {"cancelled": 0, "other": {"cancelled": 2, "succeeded": 1}} == document


async def test_running_and_unknown_jobs_are_reported(cli: CliRunner, customer: Customer):
    """What runs, and what doesn't exist, can't be cancelled: the exit code says so, and the rest is cancelled."""
    await submit_three(cli, customer)
    job = decode_job(json.dumps(customer.job(job_id="busy")).encode(), default_id="")
    ledger = cli.harness.services.ledger
    await ledger.claim(customer.name, "busy", fingerprint=fingerprint(job), submitted_at=now(), action="chat")

    line = f"cancel --customer {customer.name} --job one --job busy --job gone --yes"
    result = await cli.expect(line, 1, out="Cancelled 1 job.\n")

    assert [
        "Running, too late to cancel: 1 job.",
        "Not found: 1 job, never submitted or past the retention period.",
    ] == (result.err.splitlines())
    assert {"one": "cancelled", "two": "queued", "three": "queued", "busy": "running"} == await states(cli, customer)


async def test_cancelled_job_is_not_among_the_failed(cli: CliRunner, customer: Customer):
    """`results --failed` leaves out what was cancelled, before and after it ends."""
    await submit_three(cli, customer)
    await cli.expect("cancel jobs.csv --yes", out="Cancelled 3 jobs.")

    line = "results jobs.csv --to answers --failed"
    await cli.expect(line, out="Results in answers/failed.jsonl: none.")
    for body in await cli.queued():
        await cli.harness.deliver(body)
    await cli.expect(line, out="Results in answers/failed.jsonl: none.")


async def test_cancelled_job_that_waits_ends_now(cli: CliRunner, customer: Customer):
    """A job that waits for its time has its message sent at once, and ends as cancelled."""
    line = {"action": "chat", "job_id": "later", "options": {"run_at": rfc3339(now() + timedelta(days=1))}}
    cli.write("jobs.jsonl", json.dumps({**line, "input": {"prompt": "Later."}}) + "\n")
    await cli.expect(f"submit jobs.jsonl --customer {customer.name}")
    assert [] == await cli.queued()

    await cli.expect(f"cancel --customer {customer.name}", out="Cancelled 1 job.", stdin=f"{customer.name}\n")

    (body,) = await cli.queued()
    result = json.loads(await cli.harness.deliver(body) or b"")
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])

"""`submit`: each job is queued once, however often the command runs and wherever it was stopped."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from local.stack.azurite import Azurite
from tests.support.cli_runner import CliRunner
from tests.support.faults import (
    BreakConnection,
    FaultProxy,
    Forward,
    Handler,
    ProxiedRequest,
    forwarded,
    proxied_storage,
)
from tests.support.harness import Customer

LOOKS_AT_QUEUES = ("JOBS_QUEUE",)


async def queued_jobs(cli: CliRunner) -> list[dict[str, object]]:
    """The jobs in the queue, taken out of it."""
    return [json.loads(body) for body in await cli.queued()]


async def recorded_jobs(customer: Customer) -> list[str]:
    """The ids of the customer's jobs in the ledger."""
    return sorted(row["RowKey"][2:] for row in await customer.rows() if row["RowKey"].startswith("j_"))


async def test_one_job_runs(cli: CliRunner, customer: Customer):
    """A job from options is recorded and queued, and runs once however often it is submitted."""
    line = f"submit --customer {customer.name} --action chat --prompt Hello? --job-id first"

    first = await cli.run(line)
    await cli.expect(line)
    (result, _) = [await cli.harness.deliver(json.dumps(job).encode()) for job in await queued_jobs(cli)]
    await cli.expect(line, out="was submitted before; its state is done")

    assert (0, f"Submitted job first of {customer.name}.\n", "") == (first.code, first.out, first.err)
    assert "succeeded" == json.loads(result or b"")["status"]
    assert 1 == len(customer.account.received)
    assert [] == await queued_jobs(cli)


async def test_invalid_line_stops_the_whole_file(cli: CliRunner, customer: Customer):
    """All invalid lines are reported by number, also those that only this deployment rejects, and nothing is sent."""
    cli.write(
        "jobs.csv",
        "action,input.prompt,output.queue\nchat,one,\nchat,,\ndance,three,\nchat,four,elsewhere\nchat,five,\n",
    )

    result = await cli.expect(f"submit jobs.csv --customer {customer.name}", 1, err="ALLOWED_RESULT_QUEUES")

    for number, text in {3: "`input` is missing.", 4: "`action`", 5: "`output.queue`"}.items():
        assert f"jobs.csv, line {number}: {text}" in result.err
    assert "Nothing was submitted: 3 invalid lines, 2 valid jobs." in result.err
    assert [] == await recorded_jobs(customer)
    assert [] == await queued_jobs(cli)


async def test_check_submits_nothing(cli: CliRunner, customer: Customer):
    """`--check` only reads and checks the file."""
    cli.write("jobs.csv", f"customer,action,input.prompt\n{customer.name},chat,x\n")

    result = await cli.run("submit jobs.csv --check")

    assert (0, "Checked 1 job: no errors. Nothing was submitted.\n") == (result.code, result.out)
    assert ([], []) == (await recorded_jobs(customer), await queued_jobs(cli))
    assert not (cli.directory / "jobs.csv.submitted").exists()


async def test_second_run_submits_only_new_jobs(cli: CliRunner, customer: Customer):
    """A line that was added is submitted; the others are not, even if the submission log is lost."""
    text = "action,input.prompt\nchat,one\nchat,two\nchat,one\n"
    cli.write("jobs.csv", text)
    line = f"submit jobs.csv --customer {customer.name}"

    await cli.expect(line, out="Submitted 3 jobs.")
    cli.write("jobs.csv", text.replace("chat,one\n", "chat,zero\nchat,one\n", 1))
    await cli.expect(line, out="Submitted 1 job (3 submitted before).")
    jobs = await queued_jobs(cli)
    for job in jobs:
        await cli.harness.deliver(json.dumps(job).encode())
    (cli.directory / "jobs.csv.submitted").unlink()
    await cli.expect(line, out="Submitted 0 jobs (4 submitted before).")

    assert 4 == len(jobs) == len(await recorded_jobs(customer)) == len(customer.account.received)
    assert [] == await queued_jobs(cli)


async def test_id_of_another_job_is_rejected_with_its_line(cli: CliRunner, customer: Customer):
    """A job id that belongs to a job with other content is rejected; the other jobs are submitted."""
    cli.write("jobs.csv", "action,job_id,input.prompt\nchat,a,one\nchat,b,two\n")
    await cli.run(f"submit --customer {customer.name} --action chat --prompt Other --job-id b")

    message = "jobs.csv, line 3: The id b belongs to a job"
    await cli.expect(f"submit jobs.csv --customer {customer.name}", 1, out="Submitted 1 job.", err=message)


async def test_run_continues_after_storage_failed(cli: CliRunner, customer: Customer):
    """If Storage fails, the command reports how far it came; the same command continues later."""
    cli.write("jobs.jsonl", '{"action": "chat", "input": {"prompt": "one"}}\n')
    line = f"submit jobs.jsonl --customer {customer.name}"

    stopped = await cli.with_settings(JOBS_QUEUE="never-made").expect(line, 1, err="Not submitted: 1 job.")
    await cli.expect(line, out="Submitted 1 job.")

    assert "QueueNotFound" in stopped.err
    assert "Check the names of the queues." in stopped.err
    assert 1 == len(await queued_jobs(cli))


@pytest.mark.long
async def test_jobs_of_a_killed_run_are_submitted_once(cli: CliRunner, azurite: Azurite, customer: Customer):
    """After a run that was killed in the middle, the next submits the rest, and each job runs once."""
    count, early = 300, 90
    prompts = [f"Number {number}" for number in range(count)]
    cli.write("jobs.csv", "action,input.prompt\n" + "".join(f"chat,{prompt}\n" for prompt in prompts))
    line = f"submit jobs.csv --customer {customer.name}"
    proxy, death = FaultProxy(), asyncio.Event()

    async def block(_: ProxiedRequest, __: Forward) -> web.StreamResponse:
        await death.wait()
        raise BreakConnection

    def handler(_: ProxiedRequest) -> Handler:
        """Stop Storage's answers after some jobs, so that the run is killed there, however fast it is."""
        sent = sum(request.name == "queue put jobs" for request in proxy.of(customer.name))
        return block if sent > early else forwarded

    proxy.handlers[customer.name] = handler
    async with proxied_storage(azurite, proxy) as storage:
        behind = cli.with_settings(JobStorage=storage)
        process = await behind.start(line)
        await wait_for_lines(cli.directory / "jobs.csv.submitted", early)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        death.set()
        del proxy.handlers[customer.name]
        recorded = len(await recorded_jobs(customer))
        await behind.expect(line)
        await behind.expect(line, out=f"Submitted 0 jobs ({count} submitted before).")

    assert early <= recorded < count
    jobs = await queued_jobs(cli)
    assert count == len(await recorded_jobs(customer))
    messages = Counter(job["input"]["prompt"] for job in jobs)  # type: ignore[index]
    assert set(prompts) == set(messages)
    twice = [prompt for prompt, number in messages.items() if number > 1]
    assert len(twice) <= 16  # those in progress at the kill; the ledger runs them once
    for job in jobs:
        if job["input"]["prompt"] in {*twice, "Number 0"}:  # type: ignore[index]
            await cli.harness.deliver(json.dumps(job).encode())
    assert len({*twice, "Number 0"}) == len(customer.account.received)


@pytest.mark.long
async def test_interrupt_reports_the_progress(cli: CliRunner, customer: Customer):
    """Ctrl-C exits with 130 and says how to continue."""
    cli.write("jobs.csv", "action,input.prompt\n" + "".join(f"chat,{number}\n" for number in range(2000)))

    # A shell's background jobs ignore SIGINT, and their children inherit that: Python then installs no handler.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = await cli.start(f"submit jobs.csv --customer {customer.name} --at-once 2", "-W", "error")
    finally:
        signal.signal(signal.SIGINT, handler)
    await wait_for_lines(cli.directory / "jobs.csv.submitted", 10)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert 130 == process.returncode
    assert b"Run the command again to continue.\naijobs: stopped.\n" in err
    assert b"Traceback" not in err


async def wait_for_lines(file: Path, count: int) -> None:
    """Wait until another process has written more than `count` lines."""
    while count_lines(file) <= count:  # noqa: ASYNC110  # another process writes them
        await asyncio.sleep(0.02)


def count_lines(file: Path) -> int:
    """Return the number of whole lines in a file that may not exist yet."""
    return file.read_bytes().count(b"\n") if file.exists() else 0

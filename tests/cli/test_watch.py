"""`watch`: the states of jobs, until all of them have ended."""

from __future__ import annotations

import asyncio

from tests.support.cli_runner import CliRunner, current_output
from tests.support.endpoint import completion, error
from tests.support.harness import Customer


async def work(cli: CliRunner) -> None:
    """Run the jobs in the queue."""
    for body in await cli.harness.messages(cli.harness.environment["JOBS_QUEUE"]):
        await cli.harness.deliver(body)


async def submit_two(cli: CliRunner, customer: Customer) -> None:
    """Submit two chat jobs in `jobs.csv`."""
    cli.write("jobs.csv", "action,input.prompt\nchat,one\nchat,two\n")
    result = await cli.run(f"submit jobs.csv --customer {customer.name}")
    assert 0 == result.code


async def test_few_jobs_have_a_row_each(cli: CliRunner, customer: Customer):
    """Each job has its state and its error; control characters in an error don't reach the terminal."""
    await submit_two(cli, customer)

    before = await cli.run("watch jobs.csv --once")
    customer.account.will_answer(completion(), error(400, "bad", "No \x1b[31mred\x1b[0m please."))
    await work(cli)
    after = await cli.run("watch jobs.csv --once")

    assert (0, 2) == (before.code, before.out.count("queued"))
    assert (1, 1, 1) == (after.code, after.out.count("succeeded"), after.out.count("failed"))
    assert "request_rejected" in after.out
    assert "\x1b" not in after.out


async def test_many_jobs_are_counted_by_customer(cli: CliRunner, customer: Customer, newcomer: Customer):
    """Many jobs have a row per customer, and the most frequent errors an example."""
    lines = [f"{customer.name},chat,{number}" for number in range(21)] + [f"{newcomer.name},chat,x"]
    cli.write("jobs.csv", "customer,action,input.prompt\n" + "\n".join(lines))
    await cli.run("submit jobs.csv")
    await work(cli)

    result = await cli.run("watch jobs.csv --once")

    assert 1 == result.code
    assert "customer succeeded failed jobs" in result.text
    assert f"{customer.name} 21 0 21" in result.text
    assert f"{newcomer.name} 0 1 1" in result.text
    assert "all 21 1 22" in result.text
    assert "1 connection_not_found, for example" in result.text


async def test_watch_ends_with_the_last_job(cli: CliRunner, customer: Customer):
    """A pipe gets each change once, and the command ends when no job can change any more."""
    await submit_two(cli, customer)

    watching = asyncio.create_task(cli.run("watch jobs.csv --every 0.1"))
    while "2 queued" not in current_output():  # noqa: ASYNC110  # a stream has no event to wait for
        await asyncio.sleep(0.01)
    await work(cli)
    result = await watching

    assert 0 == result.code
    lines = result.out.splitlines()
    assert 1 == lines.count("2 queued")
    assert 2 == len([line for line in lines if customer.name in line and "succeeded" in line])


async def test_jobs_are_selected_without_a_file(cli: CliRunner, customer: Customer):
    """A customer's newest jobs, or those that are named; one that doesn't exist is reported."""
    await customer.run(job_id="first")
    await customer.run(job_id="second")
    line = f"watch --customer {customer.name} --once"

    newest = await cli.run(line)
    named = await cli.run(f"{line} --job first")
    unknown = await cli.run(f"{line} --job first --job third")

    assert [0, 0, 1] == [newest.code, named.code, unknown.code]
    assert newest.out.index("second") < newest.out.index("first")
    assert "second" not in named.out
    assert "third not found" in unknown.text

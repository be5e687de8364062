"""What became of jobs: `watch` shows their states, `results` downloads their results, `usage` is the statement."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from aijobs import job_view
from shared.billing.periods import Days
from shared.billing.rollups import Rollups
from shared.billing.statement_csv import encode_csv
from shared.billing.statements import Statements
from shared.billing.usage import UNANSWERED
from shared.billing.usage_records import RecordLabels, placeholder_suffix, usage_rows
from shared.clock import now
from shared.storage.base import Row
from tests.support.cli_runner import CliRunner, current_errors
from tests.support.endpoint import completion, error, images, pixels
from tests.support.harness import Customer, Harness

LOOKS_AT_QUEUES = ("JOBS_QUEUE",)


async def work(cli: CliRunner) -> None:
    """Run the jobs in the queue."""
    for body in await cli.queued():
        await cli.harness.deliver(body)


async def submit_two(cli: CliRunner, customer: Customer) -> None:
    """Submit two chat jobs in `jobs.csv`."""
    cli.write("jobs.csv", "action,input.prompt\nchat,one\nchat,two\n")
    await cli.expect(f"submit jobs.csv --customer {customer.name}")


async def test_few_jobs_have_a_row_each(cli: CliRunner, customer: Customer):
    """Each job has its state and its error; control characters in an error don't reach the terminal."""
    await submit_two(cli, customer)

    before = await cli.expect("watch jobs.csv --once")
    customer.account.will_answer(completion(), error(400, "bad", "No \x1b[31mred\x1b[0m please."))
    await work(cli)
    after = await cli.expect("watch jobs.csv --once", 1, out="request_rejected")

    assert 2 == before.out.count("  queued  ")
    assert (1, 1) == (after.out.count("  succeeded  "), after.out.count("  failed  "))
    assert "\x1b" not in after.out


async def test_many_jobs_are_counted_by_customer(
    cli: CliRunner, customer: Customer, newcomer: Customer, monkeypatch: pytest.MonkeyPatch
):
    """Many jobs have a row per customer, and the most frequent errors an example."""
    monkeypatch.setattr(job_view, "MAX_ROWS", 3)
    lines = [f"{customer.name},chat,{number}" for number in range(3)] + [f"{newcomer.name},chat,x"]
    cli.write("jobs.csv", "customer,action,input.prompt\n" + "\n".join(lines))
    await cli.run("submit jobs.csv")
    await work(cli)

    result = await cli.expect("watch jobs.csv --once", 1)

    rows = [f"{customer.name} 3 0 3", f"{newcomer.name} 0 1 1", "all 3 1 4", "1 connection_not_found, for example"]
    for row in ["customer succeeded failed jobs", *rows]:
        assert row in result.text


async def test_watch_ends_with_the_last_job(cli: CliRunner, customer: Customer):
    """A pipe gets each change once, and the command ends when no job can change any more."""
    await submit_two(cli, customer)

    watching = asyncio.create_task(cli.run("watch jobs.csv --every 0.1"))
    while "2 queued" not in current_errors():  # noqa: ASYNC110  # a stream has no event to wait for
        await asyncio.sleep(0.01)
    await work(cli)
    result = await watching

    assert 0 == result.code
    lines = result.out.splitlines()
    assert 1 == result.err.splitlines().count("2 queued")
    assert 2 == len([line for line in lines if customer.name in line and "succeeded" in line])


async def test_jobs_are_selected_without_a_file(cli: CliRunner, customer: Customer):
    """A customer's newest jobs, or those that are named; one that doesn't exist is reported."""
    await customer.run(job_id="first")
    await customer.run(job_id="second")
    line = f"watch --customer {customer.name} --once"

    newest = await cli.expect(line)
    named = await cli.expect(f"{line} --job first")
    unknown = await cli.expect(f"{line} --job first --job third", 1)

    assert newest.out.index("second") < newest.out.index("first")
    assert "second" not in named.out
    assert "third not found" in unknown.text


async def test_results_are_downloaded_with_their_blobs(cli: CliRunner, customer: Customer):
    """Results are complete and in the file's order, images are real bytes, and nothing is downloaded twice."""
    cli.write(
        "jobs.jsonl",
        '{"action": "chat", "job_id": "large", "input": {"prompt": "Much."}}\n'
        '{"action": "image", "job_id": "picture", "input": {"prompt": "A cat."}, "output": {"blob": true}}\n'
        '{"action": "chat", "job_id": "later", "input": {"prompt": "Not yet."}}\n',
    )
    await cli.run(f"submit jobs.jsonl --customer {customer.name}")
    picture = pixels(16, 16)
    messages = await cli.queued()
    customer.account.will_answer(completion("x" * 60_000), images(picture))
    by_id = {json.loads(body)["job_id"]: body for body in messages}
    for job_id in ("large", "picture"):
        await cli.harness.deliver(by_id[job_id])

    first = await cli.run("results jobs.jsonl --to answers")
    second = await cli.run("results jobs.jsonl --to answers")

    directory = cli.directory / "answers"
    results = [json.loads(line) for line in (directory / "results.jsonl").read_bytes().splitlines()]
    assert ["large", "picture"] == [result["job_id"] for result in results]
    assert "x" * 60_000 == results[0]["output"]["text"]
    assert picture == (directory / customer.name / "picture" / "image-1.png").read_bytes()
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert {"results.jsonl", f"{customer.name}/picture/image-1.png"} == files
    out = "Results in answers/results.jsonl: 2 succeeded. Downloaded 1 of 1 blobs.\n"
    assert (1, out, True) == (first.code, first.out, "No result yet: 1 job." in first.err)
    assert "Downloaded 0 of 1 blobs." in second.out


@pytest.mark.long
async def test_image_that_is_gone_is_missing(cli: CliRunner, customer: Customer):
    """A blob that a result names and Storage no longer has is reported, unless it was downloaded before."""
    cli.write("jobs.jsonl", '{"action": "image", "job_id": "two", "input": {"prompt": "Cats.", "n": 2}}\n')
    await cli.run(f"submit jobs.jsonl --customer {customer.name}")
    customer.account.will_answer(images(pixels(16, 16), pixels(16, 16)))
    await work(cli)
    container = cli.harness.services.settings.results_container
    await cli.expect("results jobs.jsonl --to before", out="Downloaded 2 of 2 blobs.")
    await cli.harness.services.blobs.delete(container, f"{customer.name}/two/image-1.png")

    await cli.expect("results jobs.jsonl --to before", out="Downloaded 0 of 1 blobs.")
    await cli.expect("results jobs.jsonl --to after", 1, err="Missing: 1 blob that a result names.")
    document = json.loads((await cli.run("results jobs.jsonl --to last --json")).out)
    assert (1, 1) == (document["new_blobs"], document["missing_blobs"])


async def test_job_that_is_named_twice_is_selected_once(cli: CliRunner, customer: Customer):
    """Repeating `--job` with the same id changes nothing."""
    await cli.run(f"submit --customer {customer.name} --action chat --prompt x --job-id twice")
    selection = f"--customer {customer.name} --job twice --job twice"

    assert {"queued": 1} == json.loads((await cli.run(f"watch {selection} --once --json")).out)["counts"]
    await cli.expect(f"cancel {selection} --yes", out="Cancelled 1 job.")


async def test_results_of_a_customer(cli: CliRunner, customer: Customer):
    """All results of a customer, newest first. Blobs whose names are not ours are not downloaded."""
    await customer.run(job_id="first")
    await customer.run(job_id="second")
    container = cli.harness.environment["RESULTS_CONTAINER"]
    for name in ("bad:name.txt", "a/b.txt"):
        await cli.harness.services.blobs.write(container, f"{customer.name}/first/{name}", b"x", "text/plain")

    await cli.expect(f"results --customer {customer.name} --to answers")

    lines = (cli.directory / "answers" / "results.jsonl").read_bytes().splitlines()
    assert ["second", "first"] == [json.loads(line)["job_id"] for line in lines]
    files = {path.name for path in cli.directory.rglob("*") if path.is_file()}
    assert {"results.jsonl", "local.settings.json"} == files


async def test_usage_is_the_statement(cli: CliRunner, customer: Customer):
    """The table has the month's sums, the CSV is the route's, and uncertain records are reported."""
    services = cli.harness.services
    await customer.run()
    await customer.run()
    label = (await services.connections.resolve(customer.name, "default")).label()
    (row,) = usage_rows(RecordLabels(customer.name, "lost", "chat", "gpt-4o", label), [UNANSWERED], now())
    await services.table.insert(Row(row.partition, row.key, row.values))
    month = f"{now():%Y-%m}"
    days = Days.of_month(month)

    table = await cli.run(f"usage {customer.name}")
    csv = await cli.run(f"usage {customer.name} --month {month} --by model,action --csv")
    nothing = await cli.run(f"usage {customer.name} --month 2020-01")

    assert table.out.startswith(
        f"Usage of {customer.name} in {month}. Input, cached, output and reasoning are numbers of"
    )
    assert "gpt-4o azure_openai customer answered 2 22" in table.text
    assert "Not `answered`: 1 record." in table.text
    statement = await Statements(services.table).read(customer.name, days.first, days.last, ("model", "action"))
    assert encode_csv(statement).decode().replace("\r\n", "\n") == csv.out
    assert f"{customer.name} has no usage in 2020-01.\n" == nothing.out


async def test_usage_of_all_customers_has_a_line_for_each(own_table: Harness, tmp_path: Path):
    """Without a customer, each has one line of its answered calls, and the uncertain ones are counted beside it."""
    cli, customer = CliRunner(own_table, tmp_path), own_table.customer()
    await customer.run()
    await own_table.customer().run()
    today = f"{now():%Y-%m-%d}"

    table = await cli.run(f"usage --from {today} --to {today}", columns=200)
    document = json.loads((await cli.run("usage --json")).out)
    csv = await cli.run("usage --csv")
    nothing = await cli.run("usage --month 2020-01")

    assert f"in {today}. Input and output are numbers of tokens." in table.out
    assert 2 == len({line["customer"] for line in document["lines"]})
    (line,) = [line for line in document["lines"] if line["customer"] == customer.name]
    assert (1, 1, 0) == (line["calls"], line["jobs"], line["unanswered"])
    assert csv.out.startswith("customer,records,calls,")
    assert f"\n{customer.name},1,1," in csv.out
    assert "Nobody has used anything in 2020-01.\n" == nothing.out


async def test_usage_is_verified(cli: CliRunner, customer: Customer):
    """Rollups are compared with their records: a difference is named, and the rollup can be rebuilt."""
    table = cli.harness.services.table
    label = (await cli.harness.services.connections.resolve(customer.name, "default")).label()
    at = now() - timedelta(days=3)
    labels = RecordLabels(customer.name, "old", "chat", "gpt-4o", label)
    first, second = usage_rows(labels, [UNANSWERED, UNANSWERED], at)
    await table.insert(first)
    while await Rollups(table).advance(customer.name, ()):
        pass
    days = f"--from {at:%Y-%m-%d} --to {at:%Y-%m-%d}"

    fine = await cli.run(f"usage {customer.name} --verify {days}")
    await table.insert(second)
    wrong = await cli.run(f"usage {customer.name} --verify {days}", columns=200)
    document = json.loads((await cli.run(f"usage {customer.name} --verify {days} --json")).out)
    rebuilt = await cli.run(f"usage {customer.name} --rebuild {days}")

    assert (0, 1, 0) == (fine.code, wrong.code, rebuilt.code)
    assert f"In {at:%Y-%m-%d}, 1 day that is rolled up has what the records have.\n" == fine.out
    assert f"{customer.name} {at:%Y-%m-%d} 2 rows of usage, and 1 when the day was rolled up" in wrong.text
    assert (
        1,
        ["2 rows of usage, and 1 when the day was rolled up", "records of gpt-4o: 2 in the records, 1 in the rollup"],
    ) == (
        document["checked"],
        [each["message"] for each in document["differences"]],
    )
    assert f"Rebuilt in {at:%Y-%m-%d}: 1 day.\n" == rebuilt.out
    assert 0 == (await cli.run(f"usage {customer.name} --verify {days}")).code


@pytest.mark.long
async def test_expired_months_are_not_verified(cli: CliRunner, customer: Customer):
    """Of an expired month, a placeholder can be left for a marker of a later one. It is no usage without a rollup."""
    cli, table = cli.with_settings(RETAIN_USAGE_MONTHS="1"), cli.harness.services.table
    label = (await cli.harness.services.connections.resolve(customer.name, "default")).label()
    labels, expired = RecordLabels(customer.name, "old", "chat", "gpt-4o", label), now() - timedelta(days=3 * 31)
    for at in (expired, now() - timedelta(days=3)):
        await table.insert(usage_rows(labels, [UNANSWERED], at, suffix=placeholder_suffix(1))[0])
    while await Rollups(table).advance(customer.name, ()):
        pass
    await table.delete([Row(customer.name, f"r_{expired:%Y-%m-%d}_000", {})])
    days = f"--from {expired:%Y-%m-%d} --to {now():%Y-%m-%d}"

    verified = await cli.run(f"usage {customer.name} --verify {days}")
    rebuilt = json.loads((await cli.run(f"usage {customer.name} --rebuild {days} --json")).out)
    month = await cli.run(f"usage {customer.name} --verify --month {expired:%Y-%m}")

    assert (0, 0, 1) == (verified.code, month.code, rebuilt["rebuilt"])
    assert await table.read(customer.name, f"r_{expired:%Y-%m-%d}_000") is None


async def test_only_failed_results(cli: CliRunner, customer: Customer):
    """`--failed` writes the results of failed jobs into a file of their own, beside a complete one."""
    await submit_two(cli, customer)
    customer.account.will_answer(completion(), error(400, "bad", "No."))
    await work(cli)
    await cli.expect("results jobs.csv --to answers", out="1 succeeded")

    await cli.expect("results jobs.csv --to answers --failed", out="Results in answers/failed.jsonl: 1 failed.")

    directory = cli.directory / "answers"
    (failed,) = (json.loads(line) for line in (directory / "failed.jsonl").read_bytes().splitlines())
    assert ("failed", "request_rejected") == (failed["status"], failed["error"]["code"])
    assert 2 == len((directory / "results.jsonl").read_bytes().splitlines())

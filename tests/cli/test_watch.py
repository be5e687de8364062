"""What an operator is shown of jobs: how they stand, what they ended with, what they used."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.billing.statement_csv import encode_csv
from shared.billing.statements import Statements
from shared.billing.usage import Call, usage_rows
from shared.clock import now
from shared.storage.base import Row
from tests.support.cli_runner import Operator, said_so_far
from tests.support.endpoint import completion, error, images, pixels
from tests.support.harness import Customer, World


@pytest.fixture(name="world")
def _world(own_world: World) -> World:
    return own_world


async def work(operator: Operator) -> None:
    """Runs what stands in the queue."""
    world = operator.world
    for body in await world.messages(world.environment["JOBS_QUEUE"]):
        await world.deliver(body)


async def submitted(operator: Operator, customer: Customer, *prompts: str) -> None:
    """Submits a file `jobs.csv` of chats."""
    operator.writes("jobs.csv", "action,input.prompt\n" + "".join(f"chat,{prompt}\n" for prompt in prompts))
    ended = await operator.types(f"submit jobs.csv --customer {customer.name}")
    assert 0 == ended.code


async def test_few_jobs_have_a_row_each(operator: Operator):
    """Of a few jobs each is shown with its state, and with why it failed."""
    customer = operator.world.customer()
    await submitted(operator, customer, "one", "two")

    before = await operator.types("watch jobs.csv --once")
    customer.account.will_answer(completion(), error(400, "bad", "No \x1b[31mred\x1b[0m please."))
    await work(operator)
    after = await operator.types("watch jobs.csv --once")

    assert (0, 2) == (before.code, before.out.count("queued"))
    assert (1, 1, 1) == (after.code, after.out.count("succeeded"), after.out.count("failed"))
    assert "request_rejected" in after.out
    assert "\x1b" not in after.out


async def test_many_jobs_are_counted_by_customer(operator: Operator):
    """Of many there is a row a customer, and the commonest faults with an example."""
    customer, other = operator.world.customer(), operator.world.customer(connection=None)
    lines = [f"{customer.name},chat,{number}" for number in range(21)] + [f"{other.name},chat,x"]
    operator.writes("jobs.csv", "customer,action,input.prompt\n" + "\n".join(lines))
    await operator.types("submit jobs.csv")
    await work(operator)

    ended = await operator.types("watch jobs.csv --once")

    assert 1 == ended.code
    assert "customer succeeded failed jobs" in ended.said
    assert f"{customer.name} 21 0 21" in ended.said
    assert f"{other.name} 0 1 1" in ended.said
    assert "all 21 1 22" in ended.said
    assert "1 of connection_not_found, such as" in ended.said


async def test_watching_ends_with_the_last_job(operator: Operator):
    """Into a pipe it says each change once, and ends when no job can change any more."""
    customer = operator.world.customer()
    await submitted(operator, customer, "one", "two")

    watching = asyncio.create_task(operator.types("watch jobs.csv --every 0.1"))
    while "2 queued" not in said_so_far():  # noqa: ASYNC110  # a text cannot tell
        await asyncio.sleep(0.01)
    await work(operator)
    ended = await watching

    assert 0 == ended.code
    lines = ended.out.splitlines()
    assert 1 == lines.count("2 queued")
    assert 2 == len([line for line in lines if customer.name in line and "succeeded" in line])


async def test_newest_jobs_of_a_customer_and_named_ones(operator: Operator):
    """Without a file: a customer's newest jobs, or those that are named; one that is not on record is told."""
    customer = operator.world.customer()
    await customer.run(job_id="first")
    await customer.run(job_id="second")

    newest = await operator.types(f"watch --customer {customer.name} --once")
    named = await operator.types(f"watch --customer {customer.name} --job first --once")
    unknown = await operator.types(f"watch --customer {customer.name} --job first --job third --once")
    none = await operator.types("watch --customer nobody-at-all --once")

    assert [0, 0, 1, 1] == [newest.code, named.code, unknown.code, none.code]
    assert newest.out.index("second") < newest.out.index("first")
    assert "second" not in named.out
    assert "third not on record" in unknown.said
    assert "There are no jobs" in none.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("watch --once", "Name either a file"),
        ("watch jobs.csv --customer a --once", "Name either a file"),
        ("watch jobs.csv --once", "was not submitted from here"),
        ("watch jobs.csv --job a --once", "goes with a --customer"),
        ("watch --customer A_B --once", "lower-case letters"),
        ("watch --customer a --job a/b --once", "a job's id"),
        ("results jobs.csv --to out", "was not submitted from here"),
    ],
)
async def test_what_is_not_to_be_found_is_told(operator: Operator, line: str, told: str):
    """A command about no jobs says which are wanted."""
    ended = await operator.types(line)

    assert (1, True, 1) == (ended.code, told in ended.err, ended.err.count("\n"))


async def test_results_are_downloaded_with_their_blobs(operator: Operator):
    """Whole results, a line each in the order of the file, and pictures as the bytes that they are."""
    customer = operator.world.customer()
    operator.writes(
        "jobs.jsonl",
        '{"action": "chat", "job_id": "large", "input": {"prompt": "Much."}}\n'
        '{"action": "image", "job_id": "picture", "input": {"prompt": "A cat."}, "output": {"blob": true}}\n'
        '{"action": "chat", "job_id": "later", "input": {"prompt": "Not yet."}}\n',
    )
    await operator.types(f"submit jobs.jsonl --customer {customer.name}")
    picture = pixels(16, 16)
    bodies = await operator.world.messages(operator.world.environment["JOBS_QUEUE"])
    customer.account.will_answer(completion("x" * 60_000), images(picture))
    for body in sorted(bodies, key=lambda body: json.loads(body)["job_id"])[::2]:
        await operator.world.deliver(body)

    ended = await operator.types("results jobs.jsonl --to answers")
    again = await operator.types("results jobs.jsonl --to answers")

    folder = operator.folder / "answers"
    results = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    assert ["large", "picture"] == [result["job_id"] for result in results]
    assert "x" * 60_000 == results[0]["output"]["text"]
    assert picture == (folder / customer.name / "picture" / "image-1.png").read_bytes()
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"results.jsonl", f"{customer.name}/picture/image-1.png"} == files
    assert (1, "Results in answers/results.jsonl: 2 succeeded; 1 files of 1 blobs.\n") == (ended.code, ended.out)
    assert "1 jobs have no result yet" in ended.err
    assert "0 files of 1 blobs" in again.out


async def test_results_of_a_customer(operator: Operator):
    """All that a customer has on record, newest first; blobs with names that are none of ours stay where they are."""
    world = operator.world
    customer = world.customer()
    await customer.run(job_id="first")
    await customer.run(job_id="second")
    container = world.environment["RESULTS_CONTAINER"]
    await world.services.blobs.write(container, f"{customer.name}/first/bad:name.txt", b"x", "text/plain")
    await world.services.blobs.write(container, f"{customer.name}/first/a/b.txt", b"x", "text/plain")

    ended = await operator.types(f"results --customer {customer.name} --to answers")

    lines = (operator.folder / "answers" / "results.jsonl").read_bytes().splitlines()
    assert ["second", "first"] == [json.loads(line)["job_id"] for line in lines]
    assert 0 == ended.code
    files = {path.name for path in operator.folder.rglob("*") if path.is_file()}
    assert {"results.jsonl", "local.settings.json"} == files


async def test_usage_is_the_statement(operator: Operator):
    """The table shows the month's sums; the CSV is the route's; what is not beyond doubt is told."""
    customer = operator.world.customer()
    await customer.run()
    await customer.run()
    label = (await operator.world.services.connections.resolve(customer.name, "default")).label()
    (row,) = usage_rows(customer.name, "lost", "chat", "gpt-4o", label, [Call(None, outcome="unanswered")], now())
    await operator.world.services.table.insert(Row(row.partition, row.key, row.values))
    month = f"{now():%Y-%m}"

    shown = await operator.types(f"usage {customer.name}")
    table = await operator.types(f"usage {customer.name} --month {month} --by model,action --csv")
    nothing = await operator.types(f"usage {customer.name} --month 2020-01")

    assert "gpt-4o azure_openai customer answered 2 22" in shown.said
    assert "1 records are not `answered`" in shown.said
    statement = await Statements(operator.world.services.table).of(customer.name, month, ("model", "action"))
    assert encode_csv(statement).decode().replace("\r\n", "\n") == table.out
    assert f"{customer.name} used nothing in 2020-01.\n" == nothing.out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("usage a --month 2026-13", "--month must be"),
        ("usage a --by day,price", "--by must be some of"),
        ("usage A_B", "lower-case letters"),
    ],
)
async def test_usage_of_nothing_is_told(operator: Operator, line: str, told: str):
    """What is no month, column or customer is named."""
    ended = await operator.types(line)

    assert (1, True) == (ended.code, told in ended.err)

"""Jobs submitted from the command line: each once, however often it is run and wherever it was stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from local.stack.azurite import Azurite
from tests.support.cli_runner import Operator
from tests.support.faults import Broken, Deed, Forward, Met, Watch, between, passed
from tests.support.harness import Customer, World

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="world")
def _world(own_world: World) -> World:
    return own_world


async def queued(operator: Operator) -> list[dict[str, object]]:
    """The jobs in the queue, taken out of it."""
    return [json.loads(body) for body in await operator.world.messages(operator.world.environment["JOBS_QUEUE"])]


async def on_record(customer: Customer) -> list[str]:
    """The ids of the customer's jobs."""
    return sorted(row["RowKey"][2:] for row in await customer.rows() if row["RowKey"].startswith("j_"))


async def test_one_job_runs(operator: Operator):
    """A job from arguments is on record and in the queue, and runs."""
    customer = operator.world.customer()

    ended = await operator.types(f"submit --customer {customer.name} --action chat --prompt Hello? --job-id first")
    again = await operator.types(f"submit --customer {customer.name} --action chat --prompt Hello? --job-id first")
    (told, _) = [await operator.world.deliver(json.dumps(job).encode()) for job in await queued(operator)]

    assert (0, f"Submitted job first of {customer.name}.\n", "") == (ended.code, ended.out, ended.err)
    assert 0 == again.code
    assert "succeeded" == json.loads(told or b"")["status"]
    assert 1 == len(customer.account.received)
    done = await operator.types(f"submit --customer {customer.name} --action chat --prompt Hello? --job-id first")
    assert (0, True) == (done.code, "was submitted before: it is done" in done.out)
    assert [] == await queued(operator)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("submit --customer a", "Name a file of jobs"),
        ("submit --customer a --prompt x --input {}", "Name a file of jobs"),
        ("submit --customer a --action chat --input {", "--input is not valid JSON"),
        ("submit --customer a --action chat --input '{}'", "input"),
        ("submit --customer a --action dance --prompt x", "`action` must be one of"),
        ("submit --customer a --action chat --prompt x --check", "are for a file"),
        ("submit jobs.csv --prompt x", "--prompt is for one job"),
        ("submit jobs.csv --batch ../x", "--batch must be"),
        ("submit none.csv", "can't be read"),
    ],
)
async def test_what_is_no_job_is_told(operator: Operator, line: str, told: str):
    """A command that makes no sense, or a job that is none, is a sentence, and nothing is sent."""
    operator.writes("jobs.csv", "customer,action,input.prompt\na,chat,x\n")

    ended = await operator.types(line)

    assert (1, True, 1) == (ended.code, told in ended.err, ended.err.count("\n"))
    assert [] == await queued(operator)


async def test_nothing_is_sent_where_a_line_is_no_job(operator: Operator):
    """All invalid lines are told by number before anything is sent."""
    customer = operator.world.customer()
    operator.writes("jobs.csv", "action,input.prompt\nchat,one\nchat,\ndance,three\nchat,four\n")

    ended = await operator.types(f"submit jobs.csv --customer {customer.name}")

    assert 1 == ended.code
    assert "jobs.csv, line 3: `input` is missing." in ended.err
    assert "jobs.csv, line 4: `action`" in ended.err
    assert "2 lines are no jobs, 2 are. Nothing was sent." in ended.err
    assert [] == await on_record(customer)


async def test_queue_that_is_not_allowed_is_told_before(operator: Operator):
    """What the deployment would refuse is refused here, too."""
    operator.writes("jobs.csv", "customer,action,input.prompt,output.queue\na,chat,x,elsewhere\n")

    ended = await operator.types("submit jobs.csv")

    assert (1, True) == (ended.code, "ALLOWED_RESULT_QUEUES" in ended.err)


async def test_check_sends_nothing(operator: Operator):
    """`--check` reads and checks."""
    operator.writes("jobs.csv", "customer,action,input.prompt\na,chat,x\n")

    ended = await operator.types("submit jobs.csv --check")

    assert (0, "1 jobs, and nothing wrong with them. Nothing was sent.\n") == (ended.code, ended.out)
    assert [] == await queued(operator)
    assert not (operator.folder / "jobs.csv.submitted").exists()


async def test_second_run_submits_only_what_is_new(operator: Operator):
    """A line that was added is submitted; those that were there are not, even where the file beside is lost."""
    customer = operator.world.customer()
    text = "action,input.prompt\nchat,one\nchat,two\nchat,one\n"
    operator.writes("jobs.csv", text)
    line = f"submit jobs.csv --customer {customer.name}"

    first = await operator.types(line)
    operator.writes("jobs.csv", text.replace("chat,one\n", "chat,zero\nchat,one\n", 1))
    second = await operator.types(line)
    jobs = await queued(operator)
    for job in jobs:
        await operator.world.deliver(json.dumps(job).encode())
    (operator.folder / "jobs.csv.submitted").unlink()
    third = await operator.types(line)

    assert "Submitted 3 jobs." in first.out
    assert "Submitted 1 jobs, 3 had been before." in second.out
    assert "Submitted 0 jobs, 4 had been before." in third.out
    assert 4 == len(jobs) == len(await on_record(customer)) == len(customer.account.received)
    assert [] == await queued(operator)


async def test_id_of_another_job_is_told_with_its_line(operator: Operator):
    """A job id that belongs to a job which asked for something else is refused; the others go."""
    customer = operator.world.customer()
    operator.writes("jobs.csv", "action,job_id,input.prompt\nchat,a,one\nchat,b,two\n")
    await operator.types(f"submit --customer {customer.name} --action chat --prompt Other --job-id b")

    ended = await operator.types(f"submit jobs.csv --customer {customer.name}")

    assert 1 == ended.code
    assert "jobs.csv, line 3: The id b belongs to a job" in ended.err
    assert "Submitted 1 jobs." in ended.out


async def test_storage_that_fails_stops_the_run_and_the_next_goes_on(operator: Operator):
    """Where Storage refuses, it is said how far it came; with the queue there, the same command goes on."""
    customer = operator.world.customer()
    operator.writes("jobs.jsonl", '{"action": "chat", "input": {"prompt": "one"}}\n')
    line = f"submit jobs.jsonl --customer {customer.name}"

    stopped = await operator.on(JOBS_QUEUE="never-made").types(line)
    went_on = await operator.types(line)

    assert 1 == stopped.code
    assert "1 jobs were not submitted" in stopped.err
    assert "QueueNotFound" in stopped.err
    assert "Are the names of the queues right?" in stopped.err
    assert (0, True) == (went_on.code, "Submitted 1 jobs." in went_on.out)
    assert 1 == len(await queued(operator))


@pytest.mark.parametrize(("kind", "many"), [("csv", 1000), ("jsonl", 100)])
async def test_thousand_jobs_that_are_broken_off_are_submitted_once(
    operator: Operator, azurite: Azurite, kind: str, many: int
):
    """Killed in the middle and run again, each of 1,000 jobs is submitted, and runs once."""
    world = operator.world
    customer = world.customer()
    prompts = [f"Number {number}" for number in range(many)]
    if kind == "csv":
        text = "action,input.prompt\n" + "".join(f"chat,{prompt}\n" for prompt in prompts)
    else:
        text = "".join(json.dumps({"action": "chat", "input": {"prompt": prompt}}) + "\n" for prompt in prompts)
    operator.writes(f"jobs.{kind}", text)
    acks = operator.folder / f"jobs.{kind}.submitted"
    line = f"submit jobs.{kind} --customer {customer.name} --settings local.settings.json"
    watch, death = Watch(), asyncio.Event()

    async def held(_: Met, __: Forward) -> web.StreamResponse:
        await death.wait()
        raise Broken

    def deed(_: Met) -> Deed:
        """From the middle on Storage answers nothing any more, so that however quick it is, it is killed there."""
        sent = sum(met.name == "queue put jobs" for met in watch.of(customer.name))
        return held if sent > many * 0.3 else passed

    watch.deeds[customer.name] = deed
    async with between(azurite, watch) as storage:
        operator = operator.on(JobStorage=storage)
        operator.settings()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aijobs", *line.split()),
            cwd=operator.folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await _until_submitted(acks, many * 0.3)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        death.set()
        del watch.deeds[customer.name]
        half = len(await on_record(customer))
        went_on = await operator.types(line)
        third = await operator.types(line)

    assert many * 0.3 <= half < many
    assert 0 == went_on.code
    assert f"Submitted 0 jobs, {many} had been before." in third.out
    jobs = await queued(operator)
    assert many == len(await on_record(customer))
    asked = Counter(job["input"]["prompt"] for job in jobs)  # type: ignore[index]
    assert set(prompts) == set(asked)
    twice = [prompt for prompt, count in asked.items() if count > 1]
    assert len(twice) <= 16  # those that were on their way: the ledger sees to it that they run once
    for job in jobs:
        if job["input"]["prompt"] in {*twice, "Number 0"}:  # type: ignore[index]
            await world.deliver(json.dumps(job).encode())
    assert len({*twice, "Number 0"}) == len(customer.account.received)


async def test_interrupt_says_how_far_it_came(operator: Operator):
    """Ctrl-C ends with 130 and a sentence, and the next run goes on."""
    customer = operator.world.customer()
    operator.writes("jobs.csv", "action,input.prompt\n" + "".join(f"chat,{number}\n" for number in range(2000)))
    operator.settings()
    acks = operator.folder / "jobs.csv.submitted"
    line = f"submit jobs.csv --customer {customer.name} --settings local.settings.json --at-once 2"

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "aijobs", *line.split()),
        cwd=operator.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Tests that run in a shell's background have it ignored, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    await _until_submitted(acks, 10)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert 130 == process.returncode
    assert b"jobs were submitted. The same command goes on with the others.\naijobs: stopped.\n" in err
    assert b"Traceback" not in err
    await queued(operator)


async def _until_submitted(acks: Path, many: float) -> None:
    while _lines(acks) < many:  # noqa: ASYNC110  # another process writes it
        await asyncio.sleep(0.02)


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0

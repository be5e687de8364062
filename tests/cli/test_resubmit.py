"""`resubmit`: failed jobs run again under ids of their own, and however often it is repeated, each runs once."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from aijobs.resubmit import next_id
from shared.contract.names import is_job_id
from tests.support.cli_runner import CliRunner
from tests.support.endpoint import Answer, completion, error
from tests.support.harness import Customer

LOOKS_AT_QUEUES = ("JOBS_QUEUE",)


async def work(cli: CliRunner) -> list[str]:
    """Run the jobs in the queue, and return their ids."""
    bodies = await cli.queued()
    for body in bodies:
        await cli.harness.deliver(body)
    return [json.loads(body)["job_id"] for body in bodies]


async def submit(cli: CliRunner, customer: Customer, *answers: Answer) -> None:
    """Submit and run a job with an id and one without, which get these answers."""
    cli.write("jobs.csv", "job_id,action,input.prompt\norder-1,chat,one\n,chat,two\n")
    await cli.expect(f"submit jobs.csv --customer {customer.name}")
    customer.account.will_answer(*answers)
    await work(cli)


async def test_failed_jobs_run_again_under_new_ids(cli: CliRunner, customer: Customer):
    """Each failed job gets its id and `.2`; `watch` and `results` then take the new job, and the old one stays."""
    await submit(cli, customer, completion(), completion())
    await cli.expect(f"resubmit jobs.csv --customer {customer.name}", out="No failed job to submit again.")
    await submit(cli, customer)
    cli.write("jobs.csv", "job_id,action,input.prompt\norder-2,chat,three\n,chat,four\n")
    await cli.expect(f"submit jobs.csv --customer {customer.name}")
    customer.account.will_answer(error(400, "bad", "No."), error(400, "bad", "No."))
    failed = await work(cli)

    line = f"resubmit jobs.csv --customer {customer.name}"
    first = await cli.expect(line, out="Submitted 2 jobs.")
    repeated = await cli.expect(line, out="No failed job to submit again.")
    customer.account.will_answer(completion("At last."), completion("At last."))
    again = await work(cli)
    watched = json.loads((await cli.expect("watch jobs.csv --once --json")).out)

    assert ("", "") == (first.err, repeated.err)
    assert sorted(f"{job_id}.2" for job_id in failed) == sorted(again)
    assert {"succeeded": 4} == watched["counts"]
    assert not {*failed} & {job["job_id"] for job in watched["jobs"]}
    await cli.expect("results jobs.csv --to answers", out="4 succeeded")
    assert "failed" == (await customer_status(cli, customer, failed[0]))


async def customer_status(cli: CliRunner, customer: Customer, job_id: str) -> str:
    """The state of one job."""
    document = json.loads((await cli.run(f"watch --customer {customer.name} --job {job_id} --once --json")).out)
    return str(document["jobs"][0]["status"])


async def test_second_failure_gets_the_next_number(cli: CliRunner, customer: Customer):
    """What fails again gets `.3`, not `.2.2`."""
    await submit(cli, customer, error(400, "bad", "No."), completion())
    ids = []
    for answer in (error(400, "bad", "No."), completion()):
        await cli.expect(f"resubmit jobs.csv --customer {customer.name}", out="Submitted 1 job.")
        customer.account.will_answer(answer)
        ids += await work(cli)

    assert [job_id.rpartition(".")[2] for job_id in ids] == ["2", "3"]
    assert 1 == len({job_id.rpartition(".")[0] for job_id in ids})


async def test_interrupted_run_doubles_nothing(cli: CliRunner, customer: Customer):
    """If the log of a run got lost, the next run finds the same ids on record, and submits nothing twice."""
    await submit(cli, customer, error(400, "bad", "No."), error(400, "bad", "No."))
    log = cli.directory / "jobs.csv.submitted"
    before = log.read_bytes()
    await cli.expect(f"resubmit jobs.csv --customer {customer.name}", out="Submitted 2 jobs.")
    await work(cli)
    log.write_bytes(before)

    await cli.expect(f"resubmit jobs.csv --customer {customer.name}", out="Submitted 0 jobs (2 submitted before).")

    assert [] == await work(cli)
    await cli.expect("watch jobs.csv --once", out="2 succeeded")


async def test_only_certain_failures(cli: CliRunner, customer: Customer):
    """`--code` selects by the error's code; what succeeded or was cancelled is never selected."""
    await submit(cli, customer, error(400, "bad", "No."), completion())

    await cli.expect(f"resubmit jobs.csv --customer {customer.name} --code rate_limited", out="No failed job")
    await cli.expect(
        f"resubmit jobs.csv --customer {customer.name} --code rate_limited --code request_rejected",
        out="Submitted 1 job.",
    )


async def test_unknown_code_is_not_taken_for_no_failure(cli: CliRunner, customer: Customer):
    """A code that no job can fail with is a mistake on the command line."""
    await submit(cli, customer, error(400, "bad", "No."), completion())

    await cli.expect("resubmit jobs.csv --code rate_limitd", 2, err="--code must be one of account_blocked, ")


async def test_line_that_is_invalid_now_says_why(cli: CliRunner, customer: Customer):
    """A failed job whose line is invalid by now is reported with the error of its line."""
    await submit(cli, customer, error(400, "bad", "No."), completion())
    cli.write("jobs.csv", "job_id,action,input.prompt\norder-1,chat,\n,chat,two\n")

    line = f"resubmit jobs.csv --customer {customer.name}"
    result = await cli.expect(line, 1, err="Not in jobs.csv as submitted: 1 failed job.")

    assert "jobs.csv, line 2: `input` is missing." in result.err


async def test_log_of_two_runs_at_once_is_whole(cli: CliRunner, customer: Customer):
    """Two runs that begin at the same time both write a header; the log names all jobs all the same."""
    await submit(cli, customer, error(400, "bad", "No."), error(400, "bad", "No."))
    log = cli.directory / "jobs.csv.submitted"
    header, first, second = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(header + first + header + second)

    await cli.expect(f"resubmit jobs.csv --customer {customer.name}", out="Submitted 2 jobs.")
    assert 4 == len(json.loads((await cli.run(f"watch --customer {customer.name} --once --json")).out)["jobs"])


async def test_job_that_is_not_on_record_any_more_is_an_error(cli: CliRunner, customer: Customer):
    """Submitted jobs without a record are reported with exit code 1."""
    await submit(cli, customer, error(400, "bad", "No."), error(400, "bad", "No."))
    await cli.expect(f"erase {customer.name} --yes")

    line = f"resubmit jobs.csv --customer {customer.name}"
    await cli.expect(line, 1, out="No failed job to submit again.", err="Not found: 2 jobs, never submitted or past")
    assert 2 == json.loads((await cli.run(f"{line} --json")).out)["not_found"]


async def test_corrected_line_is_submitted_as_it_is_now(cli: CliRunner, customer: Customer):
    """A line with a `job_id` can be corrected; one without, and one that is gone, is not the job that has failed."""
    await submit(cli, customer, error(400, "bad", "No."), error(400, "bad", "No."))
    cli.write("jobs.csv", "job_id,action,input.prompt\norder-1,chat,better\n,chat,another\n")

    result = await cli.expect(f"resubmit jobs.csv --customer {customer.name}", 1, out="Submitted 1 job.")

    (body,) = await cli.queued()
    assert ("order-1.2", "better") == (json.loads(body)["job_id"], json.loads(body)["input"]["prompt"])
    assert "Not in jobs.csv as submitted: 1 failed job." in result.err


@given(st.from_regex(r"\A[A-Za-z0-9._-]{0,99}[A-Za-z0-9_-]\Z"), st.integers(2, 999))
def test_next_id_is_an_id_and_differs(job_id: str, number: int):
    """Whatever the id, the next one is valid, and differs from it and from the one after."""
    assert is_job_id(next_id(job_id, number))
    assert 3 == len({job_id, next_id(job_id, number), next_id(job_id, number + 1)})


def test_long_ids_stay_different():
    """Ids that only differ in what has no room have different next ids."""
    assert next_id("x" * 99 + "a", 2) != next_id("x" * 99 + "b", 2)

"""`results`: whole results in one file, and blobs as files beside it."""

from __future__ import annotations

import json

from tests.support.cli_runner import CliRunner
from tests.support.endpoint import completion, images, pixels
from tests.support.harness import Customer


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
    messages = await cli.harness.messages(cli.harness.environment["JOBS_QUEUE"])
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


async def test_results_of_a_customer(cli: CliRunner, customer: Customer):
    """All results of a customer, newest first. Blobs whose names are not ours are not downloaded."""
    await customer.run(job_id="first")
    await customer.run(job_id="second")
    container = cli.harness.environment["RESULTS_CONTAINER"]
    for name in ("bad:name.txt", "a/b.txt"):
        await cli.harness.services.blobs.write(container, f"{customer.name}/first/{name}", b"x", "text/plain")

    result = await cli.run(f"results --customer {customer.name} --to answers")

    lines = (cli.directory / "answers" / "results.jsonl").read_bytes().splitlines()
    assert ["second", "first"] == [json.loads(line)["job_id"] for line in lines]
    assert 0 == result.code
    files = {path.name for path in cli.directory.rglob("*") if path.is_file()}
    assert {"results.jsonl", "local.settings.json"} == files

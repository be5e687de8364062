"""Jobs over HTTP: submitting them once, again, and with `Prefer: wait`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import StorageUnavailable
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries
from tests.support.endpoint import completion
from tests.support.harness import Customer
from tests.support.http_client import post, run_queue, send


async def fail(*_: Any, **__: Any) -> None:
    """Storage that is down."""
    raise StorageUnavailable("Storage is down.")


async def test_the_same_job_again_is_the_existing_job(customer: Customer):
    """
    The same id and content, however it is written, is one job and one call; other content is a conflict. Two jobs
    without an id are two jobs.
    """
    first = await post(customer, job_id="twice", input={"prompt": "Hello?"})
    body = json.dumps(customer.job(job_id="twice"), indent=3).encode()
    again = await send(customer.harness, "POST", "jobs", body=body)
    other = await post(customer, job_id="twice", input={"prompt": "Something else?"})
    results = await run_queue(customer)
    after = await post(customer, job_id="twice")

    assert (202, 202, 202) == (first.status, again.status, after.status)
    assert first.json["submitted_at"] == again.json["submitted_at"]
    other.assert_problem(409, "conflict")
    assert 1 == len({json.dumps(result) for result in results})
    assert 1 == len(customer.account.received)
    assert "succeeded" == after.json["status"]
    assert [] == await customer.queued()
    assert (await post(customer)).json["job_id"] != (await post(customer)).json["job_id"]


async def test_a_crash_before_the_message_loses_nothing(customer: Customer, monkeypatch: pytest.MonkeyPatch):
    """If the queue does not accept the message, the job is not accepted; submitted again, it runs."""
    with monkeypatch.context() as patch:
        patch.setattr(type(customer.harness.services.queues), "send", fail)
        refused = await post(customer, job_id="once")
    accepted = await post(customer, job_id="once")
    (result,) = await run_queue(customer)

    refused.assert_problem(503, "unavailable")
    assert 0 < int(refused.headers["Retry-After"])
    assert (202, "succeeded") == (accepted.status, result["status"])


@pytest.mark.parametrize("size", [40_000, 500_000])
async def test_an_input_that_does_not_fit_a_message_goes_to_a_blob(customer: Customer, size: int):
    """A large input is accepted like any other and runs once; another one under its id is a conflict."""
    text = "x" * size
    accepted = await post(customer, job_id="large", input={"prompt": text})
    again = await post(customer, job_id="large", input={"prompt": text})
    other = await post(customer, job_id="large", input={"prompt": f"{text}y"})
    results = await run_queue(customer)

    assert (202, 202, 409) == (accepted.status, again.status, other.status)
    assert {"succeeded"} == {result["status"] for result in results}
    (received,) = customer.account.received
    assert text == received.json["messages"][0]["content"]


async def test_a_result_is_waited_for(customer: Customer):
    """`Prefer: wait` responds 200 with the result if it is ready in time, else 202."""
    waiting = asyncio.create_task(post(customer, job_id="soon", headers={"prefer": "respond-async, wait=60"}))
    while not (results := await run_queue(customer)):  # noqa: ASYNC110  # it is a queue that is waited for
        await asyncio.sleep(0.02)
    response = await waiting
    late = await post(customer, job_id="late", headers={"prefer": "wait=0"})

    assert (200, results[0]) == (response.status, response.json)
    assert "wait=60" == response.headers["Preference-Applied"]
    assert (202, "queued") == (late.status, late.json["status"])


async def test_a_job_is_accepted_if_storage_fails_during_the_wait(customer: Customer, monkeypatch: pytest.MonkeyPatch):
    """It is in the queue by then: 202 with its last status, because an error would make the caller submit it again."""
    customer.account.will_answer(completion("y" * 60_000))
    await post(customer, job_id="long")
    await run_queue(customer)
    monkeypatch.setattr(JobQueries, "get", fail)
    monkeypatch.setattr(Outputs, "read_result", fail)
    new = await post(customer, headers={"prefer": "wait=1"})
    ended = await post(customer, job_id="long", headers={"prefer": "wait=1"})
    (message,) = await customer.queued()

    assert (202, "queued", json.loads(message)["job_id"]) == (new.status, new.json["status"], new.json["job_id"])
    assert (202, "succeeded") == (ended.status, ended.json["status"])


@pytest.mark.parametrize("indent", [None, 1])
async def test_a_job_in_another_spelling_is_the_same_job(customer: Customer, indent: int | None):
    """Also around the size at which an input goes to a blob, the queue's and HTTP's spellings are one job."""
    job = customer.job(job_id="spelt", input={"prompt": "\u00e9" * 9000, "parameters": {"stop": ["a"] * 6000}})
    await customer.harness.deliver(json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode())

    again = await send(customer.harness, "POST", "jobs", body=json.dumps(job, indent=indent).encode())

    assert (202, "succeeded") == (again.status, again.json["status"])


@pytest.mark.parametrize("pad", [10, 60_000])
async def test_an_input_is_sent_as_it_was_written(customer: Customer, pad: int):
    """Numbers and the order of members stay the same, also if the input goes to a blob."""
    body = '{"z":1e2,"a":12345678901234567890123,"f":0.10,"pad":"%s"}' % ("x" * pad)
    head = f'{{"customer":"{customer.name}","job_id":"raw","action":"raw","input":{{"path":"responses","json":'
    await send(customer.harness, "POST", "jobs", body=f"{head}{body}}}}}".encode())
    await run_queue(customer)

    assert body.encode() == customer.account.received[0].body


async def test_a_finished_job_whose_input_blob_is_deleted_still_exists(customer: Customer):
    """Submitted again after its input was deleted, it is the existing job, and not an invalid one."""
    container = customer.harness.environment["INPUT_CONTAINERS"]
    blobs, name = customer.harness.services.blobs, f"{customer.name}/in.json"
    await blobs.write(container, name, b'{"prompt": "Hello?"}', "application/json")
    job = {"customer": customer.name, "action": "chat", "job_id": "b1"}
    job["input_blob"] = f"{container}/{customer.name}/in.json"
    first = await send(customer.harness, "POST", "jobs", json_body=job)
    await run_queue(customer)
    await blobs.delete(container, name)
    again = await send(customer.harness, "POST", "jobs", json_body=job)
    other = await send(customer.harness, "POST", "jobs", json_body=job | {"job_id": "b2"})

    assert (202, 202, 400) == (first.status, again.status, other.status)
    assert "succeeded" == again.json["status"]

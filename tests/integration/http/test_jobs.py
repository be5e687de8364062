"""Jobs over HTTP: their status and their result."""

from __future__ import annotations

import json
import logging

import pytest

from shared.jobs.outputs import Outputs
from shared.services import build
from shared.settings import read_settings
from tests.support.endpoint import completion, error
from tests.support.harness import Customer, Harness, delivery
from tests.support.http_client import send
from tests.support.http_jobs import post, run_queue


@pytest.fixture(name="harness")
def _harness(own_harness: Harness) -> Harness:
    return own_harness


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer of one test."""
    return harness.customer()


async def test_a_job_is_accepted_and_followed_to_its_result(customer: Customer):
    """202 with the path of its status, which goes from queued to succeeded; then there is a result."""
    accepted = await post(customer, job_id="order-1", metadata={"a": "b"})

    path = f"jobs/{customer.name}/order-1"
    assert (202, f"/api/{path}") == (accepted.status, accepted.headers["Location"])
    assert 0 < int(accepted.headers["Retry-After"])
    assert ("queued", 0, "chat") == tuple(accepted.json[name] for name in ("status", "attempts", "action"))
    assert 404 == (await send(customer.harness, "GET", f"{path}/result")).status

    (published,) = await run_queue(customer)

    status = await send(customer.harness, "GET", path)
    result = await send(customer.harness, "GET", f"{path}/result")
    assert ("succeeded", 1) == (status.json["status"], status.json["attempts"])
    assert f"/api/{path}/result" == status.json["links"]["result"]
    assert published == result.json
    assert ("Hello.", {"a": "b"}) == (result.json["output"]["text"], result.json["metadata"])
    assert accepted.json["submitted_at"] == result.json["submitted_at"]


async def test_a_result_is_complete_over_http(customer: Customer):
    """The output that did not fit the message is there."""
    customer.account.will_answer(completion("y" * 60_000))
    await post(customer, job_id="long")
    (published,) = await run_queue(customer)
    result = await send(customer.harness, "GET", f"jobs/{customer.name}/long/result")

    assert "output" not in published
    assert "y" * 60_000 == result.json["output"]["text"]


async def test_status_and_result_have_etags(customer: Customer):
    """With it, the response is 304 without a body; after a change it is complete again."""
    await post(customer, job_id="tagged")
    path = f"jobs/{customer.name}/tagged"
    tag = (await send(customer.harness, "GET", path)).headers["ETag"]
    same = await send(customer.harness, "GET", path, headers={"if-none-match": f'"other", W/{tag}'})
    await run_queue(customer)
    changed = await send(customer.harness, "GET", path, headers={"if-none-match": tag})
    result_tag = (await send(customer.harness, "GET", f"{path}/result")).headers["ETag"]
    unchanged = await send(customer.harness, "GET", f"{path}/result", headers={"if-none-match": result_tag})

    assert (304, b"", tag) == (same.status, same.body, same.headers["ETag"])
    assert (200, "succeeded") == (changed.status, changed.json["status"])
    assert (304, b"") == (unchanged.status, unchanged.body)


async def test_a_waiting_job_has_its_reason(customer: Customer):
    """The status of a job that waits for its provider has the error."""
    customer.account.will_answer(error(429, retry_after="600"))
    await post(customer, job_id="slow")
    await run_queue(customer)
    status = await send(customer.harness, "GET", f"jobs/{customer.name}/slow")

    assert ("waiting", "rate_limited", 1) == (
        status.json["status"],
        status.json["error"]["code"],
        status.json["attempts"],
    )


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("job_id", ["nothing", "..", "a%2Fb", "x" * 200, "ü"])
async def test_unknown_and_invalid_ids_are_not_found(customer: Customer, method: str, job_id: str):
    """An unknown id and an invalid one get the same response."""
    refused = await send(customer.harness, method, f"jobs/{customer.name}/{job_id}")

    assert (404, "not_found", "There is no such job.") == (refused.status, refused.json["code"], refused.json["detail"])


async def test_a_job_whose_queue_is_no_longer_allowed_ends(customer: Customer):
    """It was accepted: it ends as failed, its result goes to the usual queue, and its status says so."""
    harness = customer.harness
    await post(customer, job_id="moved", output={"queue": harness.environment["ALLOWED_RESULT_QUEUES"]})
    (message,) = await customer.queued()
    changed = build(read_settings({**harness.environment, "ALLOWED_RESULT_QUEUES": ""}))
    result = await changed.worker.process(delivery(message))
    await changed.close()
    status = await send(harness, "GET", f"jobs/{customer.name}/moved")

    assert "invalid_job" == json.loads(result or b"{}")["error"]["code"]
    assert ("failed", "invalid_job") == (status.json["status"], status.json["error"]["code"])


async def test_a_fault_in_the_app_ends_the_job_and_keeps_the_record(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """
    If closing a job crashes, it is closed as internal, the call that was paid for is on record as lost, and the log
    says how the job ended, as for any other.
    """
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    await post(customer, job_id="crash")
    monkeypatch.setattr(Outputs, "inline_body", lambda *_: 1 / 0)
    (result,) = await run_queue(customer)
    status = await send(customer.harness, "GET", f"jobs/{customer.name}/crash")

    assert ("internal", "failed", 1) == (result["error"]["code"], status.json["status"], result["usage"]["calls"])
    assert [("lost", 11)] == [(row["outcome"], row["input_tokens"]) for row in await customer.usage()]
    (line,) = [text for text in caplog.messages if text.startswith("job_finished ")]
    assert f"customer={customer.name} job_id=crash action=chat status=failed code=internal " in line

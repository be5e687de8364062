"""How an attempt ends: the connection and its key, deadlines, failed attempts, results and errors."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.customers import Customer
from tests.support.endpoint import completion, error, reply
from tests.support.fakes import Fault
from tests.support.workers import OpenWorker, Worker

TWO_PROMPTS = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}}


async def waiting(worker: Worker, customer: Customer) -> bytes:
    """Return the message of the job `waits`, whose endpoint has asked for a long wait."""
    customer.account.will_answer(error(429, message="Slow down.", retry_after="600"))
    assert await worker.deliver(customer, job_id="waits") is None
    ((body, _),) = worker.requeued()
    return body


# Connections and keys.


@pytest.mark.parametrize(
    ("secret", "attributes", "code"),
    [
        (None, {}, "connection_not_found"),
        ("", {"enabled": False}, "connection_disabled"),
        ("", {"expires_on": datetime.now(UTC) - timedelta(minutes=1)}, "connection_expired"),
        ("", {"not_before": datetime.now(UTC) + timedelta(hours=1)}, "connection_expired"),
        ('{"endpoint": ', {}, "connection_invalid"),
        ('{"api_key": "k", "end_point": "x"}', {}, "connection_invalid"),
        (
            '{"api_key": "k", "provider": "openai", "endpoint": "https://evil.example/v1"}',
            {},
            "connection_invalid",
        ),
    ],
    ids=["none", "disabled", "expired", "not yet valid", "malformed", "unknown member", "endpoint not allowed"],
)
async def test_a_connection_that_can_not_be_used_fails_the_job(
    worker: Worker, secret: str | None, attributes: dict[str, Any], code: str
):
    """A missing, disabled, expired or malformed secret fails the job with its own code, and nothing is called."""
    customer = worker.customer(connection=None)
    if secret is not None:
        worker.memory.credentials.put(customer.name, value=secret or customer.secret(), **attributes)

    result = await worker.run(customer)

    assert ("failed", code) == (result["status"], result["error"]["code"])
    assert [] == customer.account.received + worker.usage(customer)


async def test_the_named_connection_is_used(worker: Worker):
    """`connection` names one of the customer's connections; another name is not found."""
    customer = worker.customer()
    worker.connect(customer, "eu", default_model="eu-model")

    result = await worker.run(customer, connection="eu")
    missing = await worker.run(customer, connection="us")

    assert ("eu-model", "eu") == (result["model"], result["connection"]["name"])
    assert "connection_not_found" == missing["error"]["code"]


async def test_a_model_must_agree_with_the_endpoint(worker: Worker):
    """If the endpoint names the deployment, a job that names another one is rejected; one that agrees runs."""
    customer = worker.customer()
    worker.connect(customer, endpoint=f"{customer.account.base}/openai/deployments/mine")

    refused = await worker.run(customer, model="other")
    agreed = await worker.run(customer, model="mine")

    assert "invalid_job" == refused["error"]["code"]
    assert ("succeeded", "mine") == (agreed["status"], agreed["model"])
    assert "/openai/deployments/mine/chat/completions" == customer.account.received[0].path
    assert {"api-version": "2024-10-21"} == customer.account.received[0].query


async def test_a_rotated_key_fails_no_job(worker: Worker):
    """If a key is refused and the secret has a new version, the job runs with the new key."""
    customer = worker.customer()
    await worker.run(customer)
    del worker.endpoint.accounts[customer.account.key]
    customer.account = worker.endpoint.account()
    worker.connect(customer)

    result = await worker.run(customer)

    assert ("succeeded", 1) == (result["status"], result["usage"]["calls"])
    assert 1 == len(customer.account.received)
    assert [("answered", 1, 18)] * 2 == worker.outcomes(customer)


async def test_a_refused_key_is_read_again_once(worker: Worker):
    """A key that stays refused fails the job as `credential_rejected`; its secret is read once more."""
    customer = worker.customer(api_key="a-key-of-nobody")

    results = [await worker.run(customer) for _ in range(3)]

    assert [("credential_rejected", 401)] * 3 == [
        (result["error"]["code"], result["error"]["status"]) for result in results
    ]
    assert 2 == worker.memory.credentials.reads[customer.name, "default"]


async def test_a_refused_network_is_no_reason_to_read_the_key_again(worker: Worker):
    """A firewall that blocks the app is named, without its own text; another key would not help."""
    customer = worker.customer()
    customer.account.will_answer(error(403, "AccessDenied", "Access denied due to Virtual Network/Firewall rules."))

    result = await worker.run(customer)

    assert "credential_rejected" == result["error"]["code"]
    assert "network rules block this app (403)" in result["error"]["message"]
    assert "Access denied" not in result["error"]["message"]
    assert 1 == worker.memory.credentials.reads[customer.name, "default"]


async def test_a_key_that_is_refused_while_the_vault_is_down_requeues_the_job(worker: Worker):
    """Whether there is a new key is not known, so the job waits for the vault."""
    customer = worker.customer()
    customer.account.will_answer(error(401))
    await worker.services.connections.resolve(customer.name, "default")
    worker.memory.credentials.down = True

    assert await worker.deliver(customer, job_id="waits") is None
    ((body, delay_s),) = worker.requeued()
    worker.memory.credentials.down = False
    result = await worker.run(customer, body)

    assert 30 <= delay_s <= 33
    assert ("succeeded", 2) == (result["status"], result["attempts"])


async def test_a_vault_that_does_not_answer_uses_up_no_failed_attempt(worker: Worker):
    """A job waits for the vault as often as it must, and ends at its deadline with that reason."""
    customer = worker.customer()
    worker.memory.credentials.down = True
    for _ in range(MAX_FAILED_ATTEMPTS + 1):
        assert await worker.deliver(customer, job_id="waits") is None

    result = await worker.run(customer, job_id="late", options={"deadline_s": 20})

    assert 0 == worker.row(customer, "waits")["failed_attempts"]
    assert "timeout" == result["error"]["code"]
    assert "Key Vault answered 503." in result["error"]["message"]


async def test_the_endpoint_gets_the_customers_key_model_and_messages(worker: Worker):
    """The request has the customer's key, the model, the messages, and every parameter as the job has it."""
    customer = worker.customer()
    parameters = {"temperature": 0.2, "n": 1, "stop": ["\n"], "response_format": {"type": "json_object"}, "x-own": [1]}

    await worker.run(
        customer, input={"prompt": "Hi", "system": "Be brief.", "parameters": parameters}, model="my-deployment"
    )

    (received,) = customer.account.received
    assert ("/openai/v1/chat/completions", customer.account.key) == (received.path, received.headers["api-key"])
    assert {
        "model": "my-deployment",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        **parameters,
    } == received.json


async def test_parameters_change_neither_address_nor_authentication(worker: Worker):
    """Parameters go into the body, whatever their names are."""
    customer, other = worker.customer(), worker.customer()
    parameters = {"api-key": other.account.key, "authorization": other.account.key, "base_url": "http://x"}

    await worker.run(customer, input={"prompt": "x", "parameters": parameters})

    (received,) = customer.account.received
    assert parameters.items() <= received.json.items()
    assert customer.account.key == received.headers["api-key"]
    assert "authorization" not in received.headers
    assert [] == other.account.received


# Deadlines.


async def test_a_job_past_its_deadline_makes_no_call(worker: Worker):
    """A job that comes after its deadline ends as `timeout`."""
    customer = worker.customer()

    result = await worker.run(customer, options={"deadline_s": 5}, submitted_at=now() - timedelta(seconds=6))

    assert ("timeout", "The job's deadline of 5 s passed before an attempt could start.") == (
        result["error"]["code"],
        result["error"]["message"],
    )
    assert [] == customer.account.received


async def test_a_wait_beyond_the_deadline_fails_the_job(worker: Worker):
    """If the deadline comes before the end of the wait that the endpoint asks for, the job fails now."""
    customer = worker.customer()
    customer.account.will_answer(error(429, message="Slow down.", retry_after="30"))

    result = await worker.run(customer, options={"deadline_s": 20})

    assert "rate_limited" == result["error"]["code"]
    assert "Slow down." in result["error"]["message"]


async def test_the_deadline_ends_a_call(worker: Worker):
    """A call that is in flight when the job's deadline comes is cancelled then."""
    customer = worker.customer()
    customer.account.will_answer(completion(after_s=30))
    start = time.monotonic()

    result = await worker.run(customer, options={"deadline_s": 0.5})

    assert "timeout" == result["error"]["code"]
    assert time.monotonic() - start < 20


async def test_the_deadline_counts_from_the_first_submission(worker: Worker):
    """A job that is requeued keeps its first submission time, and ends when that is too long ago."""
    customer, first = worker.customer(), now() - timedelta(seconds=500)
    customer.account.will_answer(*[error(429, retry_after="70")] * 9)
    body = customer.body(job_id="waits", options={"deadline_s": 600})
    assert await worker.deliver(customer, body, submitted_at=first) is None

    ((body, _),) = worker.requeued()
    assert first == worker.row(customer, "waits")["submitted_at"]
    await worker.change_row(customer, "waits", submitted_at=first - timedelta(seconds=40))
    result = await worker.run(customer, body)

    assert rfc3339(first - timedelta(seconds=40)) == result["submitted_at"]
    assert ("rate_limited", 2) == (result["error"]["code"], result["attempts"])
    assert 2 == len(customer.account.received)


# Failed attempts.


async def test_a_job_is_given_up_after_five_crashes(worker: Worker):
    """A job whose workers died five times ends with the last known reason, and makes no further call."""
    customer = worker.customer()
    body = await waiting(worker, customer)
    for _ in range(5):
        await worker.crash(customer, "waits", body)

    result = await worker.run(customer, body)

    assert ("failed", "rate_limited", 7) == (result["status"], result["error"]["code"], result["attempts"])
    assert "given up after 5 failed attempts" in result["error"]["message"]
    assert "Slow down." in result["error"]["message"]
    assert 1 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * 5 == worker.outcomes(customer)


async def test_four_crashes_are_not_too_many(worker: Worker):
    """The job runs once more."""
    customer = worker.customer()
    body = await waiting(worker, customer)
    for _ in range(4):
        await worker.crash(customer, "waits", body)

    assert "succeeded" == (await worker.run(customer, body))["status"]


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_job_that_storage_fails_five_times_is_given_up(worker: Worker):
    """It ends with Storage's reason, and what it had consumed is counted."""
    customer = worker.customer()
    body = customer.body(job_id="unkept", **TWO_PROMPTS)
    for attempt in range(5):
        worker.table.faults.extend([None] * (1 if attempt == 0 else 2) + [Fault.REFUSED] * 2)
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()
        worker.table.faults.clear()
        if "running" == worker.row(customer, "unkept")["state"]:
            await worker.expire_lease(customer, "unkept")
    before = len(customer.account.received)

    result = await worker.run(customer, body)

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert "given up after 5 failed attempts" in result["error"]["message"]
    assert before == len(customer.account.received)


async def test_waits_are_no_failed_attempts(worker: Worker):
    """A job that its endpoint asks to wait any number of times is not given up for that."""
    customer = worker.customer()
    customer.account.will_answer(*[error(429, retry_after="600")] * 8)
    body = customer.body(job_id="patient", options={"max_retries": 1})
    for _ in range(8):
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()

    result = await worker.run(customer, body)

    assert ("succeeded", 9) == (result["status"], result["attempts"])


# Results.


async def test_a_filtered_answer_fails_and_is_billed(worker: Worker):
    """An answer that the content filter stopped fails the job, keeps its details, and is recorded."""
    customer = worker.customer()
    customer.account.will_answer(completion("", finish_reason="content_filter"))

    result = await worker.run(customer)

    assert ("failed", "content_filtered") == (result["status"], result["error"]["code"])
    assert "content_filter" == result["output"]["finish_reason"]
    assert 11 == result["usage"]["input_tokens"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)


async def test_usage_that_the_provider_does_not_report_is_marked(worker: Worker):
    """Without `usage` in the response the record counts the call, and says that tokens were not reported."""
    customer = worker.customer()
    customer.account.will_answer(reply({"choices": [{"index": 0, "message": {"content": "x"}}]}))

    result = await worker.run(customer)

    (record,) = worker.usage(customer)
    assert (False, 1, 0) == (record["reported"], record["calls"], record["input_tokens"])
    assert 1 == result["usage"]["calls"]


async def test_a_large_result_goes_to_a_blob(worker: Worker):
    """A result that does not fit a message is in its blob, and the message names the blob."""
    customer = worker.customer()
    customer.account.will_answer(completion("word " * 20_000))

    result = await worker.run(customer, job_id="large")

    assert len(json.dumps(result)) <= MESSAGE_LIMIT
    assert "output" not in result
    blob = result["output_blob"]
    data, _ = worker.memory.blobs.blobs[blob["container"], blob["name"]]
    assert (f"{customer.name}/large/result.json", len(data)) == (blob["name"], blob["size"])
    assert "word " * 20_000 == json.loads(data)["output"]["text"]


async def test_a_finished_job_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture):
    """One line has its action, status, attempt, calls, tokens and run time."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = worker.customer()

    await worker.run(customer, job_id="logged")

    (line,) = [record.getMessage() for record in caplog.records]
    start, _, run_ms = line.partition(" run_ms=")
    assert (
        f"job_finished customer={customer.name} job_id=logged action=chat status=succeeded code=- attempt=1 calls=1 "
        "input_tokens=11 output_tokens=7" == start
    )
    assert 0 <= int(run_ms) < 60_000


async def test_a_fault_before_the_call_fails_the_job(open_worker: OpenWorker, caplog: pytest.LogCaptureFixture):
    """It ends as `internal`; the log has the fault's kind and place, not its text."""

    class Faulty:
        """Connections that fail."""

        async def resolve(self, customer: str, name: str) -> None:
            """Raise a fault."""
            raise ValueError(f"A text about {customer} and {name}.")

    worker = open_worker(connections=Faulty())
    customer = worker.customer()

    result = await worker.run(customer)

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert "job_error" in caplog.text
    assert "ValueError" in caplog.text
    assert f"A text about {customer.name}" not in caplog.text


async def test_a_fault_while_the_result_is_saved_fails_the_job(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """The result becomes `internal`, and what was billed is recorded as lost."""
    customer = worker.customer()

    def fail(*_: Any) -> None:
        raise ValueError("A fault in this software.")

    monkeypatch.setattr("shared.jobs.outputs.Outputs.inline_body", fail)

    result = await worker.run(customer)

    assert ("failed", "internal", 1) == (result["status"], result["error"]["code"], result["usage"]["calls"])
    assert [("lost", 1, 18)] == worker.outcomes(customer)


async def test_a_fault_while_a_new_key_is_looked_for_fails_the_job(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """It is as any other fault."""
    customer = worker.customer()
    customer.account.will_answer(error(401))

    async def fail(*_: Any) -> None:
        raise ValueError("A fault in this software.")

    monkeypatch.setattr(worker.services.connections, "find_rotated", fail)

    assert "internal" == (await worker.run(customer))["error"]["code"]

"""How a chat job ends for each thing that an endpoint can do: the error table, from the wire to the result."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.upstream.retry import MAX_INLINE_WAIT_S
from tests.support.customers import Customer
from tests.support.endpoint import Answer, completion, endless, error, reply, reset, truncated
from tests.support.workers import Worker

GOLDEN = sorted((Path(__file__).parents[2] / "data" / "errors").glob("*.json"))
QUICK = {"max_retries": 2, "retry_delay_ms": 1, "exponential_backoff": False}

# The status and code of the endpoint, the result's code, and the number of calls with two retries allowed.
STATUSES = [
    (301, "", "request_rejected", 1),
    (400, "", "request_rejected", 1),
    (400, "invalid_value", "request_rejected", 1),
    (400, "context_length_exceeded", "request_rejected", 1),
    (400, "content_filter", "content_filtered", 1),
    (400, "content_policy_violation", "content_filtered", 1),
    (401, "invalid_api_key", "credential_rejected", 1),
    (402, "", "quota_exhausted", 1),
    (403, "PermissionDenied", "credential_rejected", 1),
    (403, "account_deactivated", "account_blocked", 1),
    (404, "", "request_rejected", 1),
    (404, "DeploymentNotFound", "model_not_found", 1),
    (404, "model_not_found", "model_not_found", 1),
    (405, "", "request_rejected", 1),
    (408, "", "timeout", 3),
    (409, "", "request_rejected", 3),
    (413, "", "request_rejected", 1),
    (415, "", "request_rejected", 1),
    (422, "", "request_rejected", 1),
    (424, "", "request_rejected", 1),
    (429, "rate_limit_exceeded", "rate_limited", 3),
    (429, "insufficient_quota", "quota_exhausted", 1),
    (429, "billing_hard_limit_reached", "quota_exhausted", 1),
    (500, "", "provider_unavailable", 3),
    (501, "", "provider_unavailable", 3),
    (502, "", "provider_unavailable", 3),
    (503, "", "provider_unavailable", 3),
    (504, "", "provider_unavailable", 3),
    (529, "", "provider_unavailable", 3),
]


def read(path: Path) -> dict[str, Any]:
    """Return a golden error."""
    return json.loads(path.read_text(encoding="utf-8"))


def always(customer: Customer, answer: Answer) -> Customer:
    """Make the customer's endpoint give this answer to every call."""
    customer.account.answers[:] = [answer] * 30
    return customer


async def failed(worker: Worker, customer: Customer, *, unanswered: int = 0, **options: Any) -> dict[str, Any]:
    """Return the error of a job that fails without billed calls; `unanswered` calls may have been served."""
    result = await worker.run(customer, options=QUICK | options)
    assert "failed" == result["status"]
    records = [(row["outcome"], row["calls"], row["reported"]) for row in worker.usage(customer)]
    assert (0, [("unanswered", 0, False)] * unanswered) == (result["usage"]["calls"], records)
    assert "output" not in result
    assert customer.account.key not in json.dumps(result)
    return result["error"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
async def test_golden_errors_end_the_job(worker: Worker, path: Path):
    """Each golden error is its job's error: code, message, status, id, detail; retried if it is transient."""
    golden = read(path)
    expected, body = golden["expected"], golden["body"]
    answer = reply(body.encode() if isinstance(body, str) else body, status=golden["status"], headers=golden["headers"])
    customer = always(worker.customer(), answer)
    retry_after_s = expected["retry_after_s"] or 0
    retried = expected["transient"] and not retry_after_s
    options = (
        {"deadline_s": 0.9 * retry_after_s}
        if retry_after_s > MAX_INLINE_WAIT_S
        else {"max_retries": int(not retry_after_s)}
    )

    result_error = await failed(worker, customer, **{"max_retries": 1} | options)

    named = {"status": golden["status"], "request_id": expected["request_id"], "detail": expected["detail"] or None}
    assert {"code": expected["code"], "message": expected["message"]} | {
        name: value for name, value in named.items() if value is not None
    } == result_error
    assert 1 + retried == len(customer.account.received)
    assert "MARK" not in json.dumps(result_error)


@pytest.mark.parametrize("retry_on_all_errors", [False, True])
@pytest.mark.parametrize(("status", "endpoint_code", "code", "calls"), STATUSES)
async def test_each_refusal_has_its_code_and_its_tries(
    worker: Worker, status: int, endpoint_code: str, code: str, calls: int, retry_on_all_errors: bool
):
    """
    A refusal's status and code decide the result's code; a transient one is retried, no more than allowed, and with
    `retry_on_all_errors` every one is.
    """
    customer = always(worker.customer(), error(status, endpoint_code))

    result_error = await failed(worker, customer, retry_on_all_errors=retry_on_all_errors)

    assert (code, status, "req-e") == (result_error["code"], result_error["status"], result_error["request_id"])
    assert (3 if retry_on_all_errors else calls) == len(customer.account.received)


@pytest.mark.parametrize("max_retries", [0, 1, 5])
async def test_no_more_retries_than_the_job_allows(worker: Worker, max_retries: int):
    """`max_retries` limits the tries."""
    customer = always(worker.customer(), error(503))

    await failed(worker, customer, max_retries=max_retries)

    assert 1 + max_retries == len(customer.account.received)


@pytest.mark.parametrize(
    "answer", [reset, truncated, reply(b"", status=502), *(error(status) for status in (408, 409, 429, 500, 503, 504))]
)
async def test_a_transient_failure_leaves_no_trace(worker: Worker, answer: Answer):
    """A transient failure that does not recur leaves no trace in the result; both tries have the same headers."""
    customer = worker.customer()
    customer.account.will_answer(answer)

    result = await worker.run(customer, options=QUICK)

    assert ("succeeded", 1, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert "error" not in result
    first, second = customer.account.received
    assert first.headers == second.headers


async def test_several_transient_failures_leave_no_trace(worker: Worker):
    """Nor do several different ones in one call."""
    customer = worker.customer()
    customer.account.will_answer(reset, error(500), error(429, retry_after_ms="50"), completion("Made it."))

    result = await worker.run(customer, options=QUICK | {"max_retries": 4})

    assert "Made it." == result["output"]["text"]
    assert (1, 1) == (result["attempts"], result["usage"]["calls"])


# Waits.


def in_(seconds: float) -> str:
    """Return a time from now in the format of headers, which have whole seconds."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("status", "headers", "min_s"),
    [
        (429, {"retry_after_ms": "150"}, 0.15),
        (503, {"x_ms_retry_after_ms": "150"}, 0.15),
        (429, {"retry_after_ms": "150", "retry_after": "600"}, 0.15),
        (503, {"retry_after": "0.2"}, 0.2),
        (429, {"retry_after": "0"}, 0),
        (429, {"retry_after": "soon"}, 0.001),
        (429, {"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
    ids=str,
)
async def test_a_short_wait_stays_in_the_attempt(worker: Worker, status: int, headers: dict[str, str], min_s: float):
    """The server's wait is honored, in whichever header it is, and the job succeeds in the same attempt."""
    customer = worker.customer()
    times: list[float] = []

    async def slow_down(request: web.Request) -> web.StreamResponse:
        times.append(time.monotonic())
        return await error(status, **headers)(request)

    async def complete(request: web.Request) -> web.StreamResponse:
        times.append(time.monotonic())
        return await completion()(request)

    customer.account.will_answer(slow_down, complete)
    # If the server names a wait, the job's own delay plays no part.
    options = QUICK if headers == {"retry_after": "soon"} else QUICK | {"retry_delay_ms": 250_000}

    result = await worker.run(customer, options=options)

    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert min_s <= times[1] - times[0] < 20


async def test_a_date_is_waited_for(worker: Worker):
    """`retry-after` can be a date: the endpoint is not called before it."""
    customer, called = worker.customer(), []
    date = in_(1.5)

    async def complete(request: web.Request) -> web.StreamResponse:
        called.append(datetime.now(UTC))
        return await completion()(request)

    customer.account.will_answer(error(429, retry_after=date), complete)

    result = await worker.run(customer, options=QUICK)

    assert "succeeded" == result["status"]
    assert parsedate_to_datetime(date) - timedelta(seconds=0.05) < called[0]


@pytest.mark.parametrize(
    ("status", "headers", "delay_s"),
    [
        (429, {"retry_after_ms": "60000"}, 60),
        (429, {"x_ms_retry_after_ms": "60000"}, 60),
        (429, {"retry_after": "60"}, 60),
        (429, {"retry_after": "date"}, 3600),
        (429, {"retry_after_ms": "60000", "retry_after": "1"}, 60),
        *((status, {"retry_after": "60"}, 60) for status in (408, 409, 500, 503)),
    ],
    ids=str,
)
async def test_a_long_wait_requeues_the_job(worker: Worker, status: int, headers: dict[str, str], delay_s: float):
    """The job is requeued for that long after one call; if its deadline comes before that, the refusal ends it."""
    named = {name: in_(3600) if text == "date" else text for name, text in headers.items()}
    customer = always(worker.customer(), error(status, message="Slow down, please.", **named))

    assert await worker.deliver(customer, options=QUICK) is None
    ((_, requeued_s),) = worker.requeued()
    assert 1 == len(customer.account.received)
    result_error = await failed(worker, customer, deadline_s=30)

    assert delay_s - 10 <= requeued_s <= 1.1 * delay_s
    assert (status, 2) == (result_error["status"], len(customer.account.received))
    assert "Slow down, please." in result_error["message"]


@pytest.mark.parametrize(("status", "header", "calls"), [(503, "false", 1), (429, "false", 1), (400, "true", 3)])
async def test_the_endpoint_decides_whether_to_retry(worker: Worker, status: int, header: str, calls: int):
    """`x-should-retry` precedes the status."""
    customer = always(worker.customer(), error(status, x_should_retry=header))

    await failed(worker, customer)

    assert calls == len(customer.account.received)


# Responses that are none.


@pytest.mark.parametrize(
    ("answer", "code", "timeout_s"),
    [
        (reset, "provider_unavailable", 120),
        (truncated, "provider_unavailable", 120),
        (completion(after_s=30), "timeout", 0.3),
    ],
    ids=["reset", "truncated", "slow"],
)
async def test_an_incomplete_response_has_no_status(worker: Worker, answer: Answer, code: str, timeout_s: float):
    """A connection that breaks, or a response that does not come, is retried, and the error has no status."""
    customer = always(worker.customer(), answer)

    result_error = await failed(worker, customer, unanswered=3, timeout_s=timeout_s)

    assert (code, {"code", "message"}) == (result_error["code"], set(result_error))
    assert 3 == len(customer.account.received)


async def test_an_endless_response_is_given_up(worker: Worker):
    """An endless response is cut off at the limit and not retried: it would be as long the next time."""
    customer = always(worker.customer(), endless)

    result_error = await failed(worker, customer, unanswered=1, timeout_s=120)

    assert ("provider_unavailable", 200, 1) == (
        result_error["code"],
        result_error["status"],
        len(customer.account.received),
    )
    assert "64 MiB" in result_error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>OK</html>",
        b'{"choices": [',
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": ["x"]}',
        b'{"error": {"message": "But 200."}}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
async def test_an_unreadable_response_is_a_call(worker: Worker, body: bytes):
    """A 2xx that is no completion fails the job without a retry; its usage record has no reported tokens."""
    customer = always(worker.customer(), reply(body, headers={"x-request-id": "req-n"}))

    result = await worker.run(customer, options=QUICK)

    result_error = result["error"]
    assert ("failed", "provider_unavailable", 200, "req-n") == (
        result["status"],
        *(result_error[name] for name in ("code", "status", "request_id")),
    )
    assert 1 == len(customer.account.received) == result["usage"]["calls"]
    (record,) = worker.usage(customer)
    assert (False, 0, "req-n") == (record["reported"], record["input_tokens"], record["request_id"])


async def test_an_unreachable_endpoint_is_unavailable(worker: Worker):
    """An address where nothing listens fails the job with `provider_unavailable`, without a status."""
    customer = worker.customer(endpoint="http://127.0.0.1:9/openai/v1")

    result_error = await failed(worker, customer)

    assert ("provider_unavailable", {"code", "message"}) == (result_error["code"], set(result_error))

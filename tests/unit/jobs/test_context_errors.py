"""How a chat job ends for each thing that an endpoint can do: the error table, from the wire to the result."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.upstream.retry import MAX_INLINE_WAIT_S
from tests.support.customers import Customer
from tests.support.endpoint import Answer, completion, endless, error, reply, reset, truncated
from tests.support.rows import every_row
from tests.support.workers import Worker

PATHS = sorted((Path(__file__).parents[2] / "data" / "errors").glob("*.json"))
GOLDEN = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PATHS}
QUICK = {"max_retries": 2, "retry_delay_ms": 1, "exponential_backoff": False}


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


@every_row("golden", GOLDEN.values(), ids=GOLDEN)
async def test_golden_errors_end_the_job(worker: Worker, golden: dict[str, Any]):
    """Each golden error is its job's error: code, message, status, id, detail; retried if it is transient."""
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

    tries = 1 + (retried and options.get("max_retries", 1))
    charged = tries if expected.get("unanswered") else 0  # such refusals may be on the provider's bill

    result_error = await failed(worker, customer, unanswered=charged, **{"max_retries": 1} | options)

    named = {"status": golden["status"], "request_id": expected["request_id"], "detail": expected["detail"] or None}
    assert {"code": expected["code"], "message": expected["message"]} | {
        name: value for name, value in named.items() if value is not None
    } == result_error
    assert 1 + retried == len(customer.account.received)
    assert "MARK" not in json.dumps(result_error)


@pytest.mark.parametrize(
    ("status", "headers", "min_s"), [(429, {"retry_after_ms": "150"}, 0.15), (503, {"retry_after": "0.2"}, 0.2)]
)
async def test_a_short_wait_stays_in_the_attempt(worker: Worker, status: int, headers: dict[str, str], min_s: float):
    """The server's wait is honored instead of the job's own delay, and the job succeeds in the same attempt."""
    customer = worker.customer()
    times: list[float] = []

    async def timed(request: web.Request, answer: Answer) -> web.StreamResponse:
        times.append(time.monotonic())
        return await answer(request)

    customer.account.around = timed
    customer.account.will_answer(error(status, **headers))

    result = await worker.run(customer, options=QUICK | {"retry_delay_ms": 250_000})

    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert min_s <= times[1] - times[0] < 20


@pytest.mark.parametrize(
    ("status", "headers"), [(429, {"retry_after_ms": "60000", "retry_after": "1"}), (503, {"retry_after": "60"})]
)
async def test_a_long_wait_requeues_the_job(worker: Worker, status: int, headers: dict[str, str]):
    """The job is requeued for that long after one call; if its deadline comes before that, the refusal ends it."""
    customer = always(worker.customer(), error(status, message="Slow down, please.", **headers))

    assert await worker.deliver(customer, options=QUICK) is None
    ((_, requeued_s),) = worker.requeued()
    assert 1 == len(customer.account.received)
    result_error = await failed(worker, customer, deadline_s=30)

    assert 60 <= requeued_s <= 66
    assert (status, 2) == (result_error["status"], len(customer.account.received))
    assert "Slow down, please." in result_error["message"]


# Responses that can't be read.


TWICE = gzip.compress(gzip.compress(b"{}"))


@pytest.mark.parametrize(
    ("answer", "options", "code", "status", "tries"),
    [
        (reset, {}, "provider_unavailable", None, 3),
        (truncated, {}, "provider_unavailable", None, 3),
        (completion(after_s=30), {"timeout_s": 0.3}, "timeout", None, 3),
        (endless, {}, "provider_unavailable", 200, 1),
        (reply(TWICE, headers={"content-encoding": "gzip, gzip"}), {}, "provider_unavailable", 200, 1),
    ],
    ids=["reset", "truncated", "slow", "endless", "compressed twice"],
)
async def test_a_response_that_is_not_read_to_its_end_may_be_billed(
    worker: Worker, answer: Answer, options: dict[str, Any], code: str, status: int | None, tries: int
):
    """A response that breaks off or does not come is retried; one that is cut off, which has a status, is not."""
    customer = always(worker.customer(), answer)

    result_error = await failed(worker, customer, unanswered=tries, **options)

    assert (code, status, tries) == (result_error["code"], result_error.get("status"), len(customer.account.received))


async def test_an_unreadable_response_may_be_billed(worker: Worker):
    """A 2xx that is no JSON fails the job without a retry; its usage record is unanswered, and names the request."""
    customer = always(worker.customer(), reply(b"[" * 100_000, headers={"x-request-id": "req-n"}))

    result = await worker.run(customer, options=QUICK)

    result_error = result["error"]
    assert ("failed", "provider_unavailable", 200, "req-n") == (
        result["status"],
        *(result_error[name] for name in ("code", "status", "request_id")),
    )
    assert (1, 0) == (len(customer.account.received), result["usage"]["calls"])
    (record,) = worker.usage(customer)
    assert ("unanswered", None, "req-n") == (record["outcome"], record.get("input_tokens"), record["request_id"])


async def test_an_unreachable_endpoint_is_unavailable(worker: Worker):
    """An address where nothing listens fails the job with `provider_unavailable`, without a status."""
    customer = worker.customer(endpoint="http://127.0.0.1:9/openai/v1")

    result_error = await failed(worker, customer)

    assert ("provider_unavailable", {"code", "message"}) == (result_error["code"], set(result_error))

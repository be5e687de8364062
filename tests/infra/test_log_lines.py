"""The queries against real log lines: they select the lines that the app writes, and extract their members."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from shared import errors
from shared.event_names import NAMESPACE
from shared.jobs.admission import Limiter
from tests.support.endpoint import error
from tests.support.harness import Harness, delivery
from tests.support.infra_queries import alert_query, chart_query
from tests.support.kql import extract, prefixes


@pytest.fixture(name="log")
def _log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, NAMESPACE)
    return caplog


def messages(log: pytest.LogCaptureFixture) -> list[str]:
    """The lines that the app has logged: Application Insights has them as `Message`."""
    return [record.getMessage() for record in log.records if record.name == NAMESPACE]


async def test_finished_job_is_extracted(harness: Harness, log: pytest.LogCaptureFixture):
    """The line of a finished job has its customer, status, code, tokens and time."""
    customer = harness.customer()
    await customer.run(job_id="a.job")

    (row,) = extract(alert_query("jobs-failing"), messages(log))

    assert int(row.pop("run_ms")) >= 0
    assert {
        "customer": customer.name,
        "job_id": "a.job",
        "action": "chat",
        "status": "succeeded",
        "code": "-",
        "attempt": "1",
        "calls": "1",
        "input_tokens": "11",
        "output_tokens": "7",
    } == row


async def test_rejected_credential_is_extracted(harness: Harness, log: pytest.LogCaptureFixture):
    """A job whose key is rejected has its customer and code."""
    customer = harness.customer(api_key="wrong")
    await customer.run()

    (row,) = extract(alert_query("connections-refused"), messages(log))

    assert (customer.name, "failed", "credential_rejected") == (row["customer"], row["status"], row["code"])
    assert '"credential_rejected"' in alert_query("connections-refused")


async def test_rate_limited_customer_is_extracted(harness: Harness, log: pytest.LogCaptureFixture):
    """A job that is requeued because its endpoint limits the rate has its customer, reason and delay."""
    customer = harness.customer()
    customer.account.will_answer(error(429, message="Slow down: wait.", retry_after="600"))
    await customer.deliver()

    (row,) = extract(alert_query("customers-rate-limited"), messages(log))

    assert (customer.name, "UpstreamRetryLater") == (row["customer"], row["reason"])
    assert "(429)" in row["error"]
    assert float(row["delay_s"]) >= 600


async def test_open_breaker_is_extracted(harness: Harness, log: pytest.LogCaptureFixture):
    """A breaker that opened has its customer and connection."""
    customer = harness.customer()
    customer.account.will_answer(*[error(503)] * 8)
    for _ in range(8):
        await customer.deliver(options={"max_retries": 0})

    (row,) = extract(alert_query("endpoints-down"), messages(log))

    assert {
        "customer": customer.name,
        "connection": "default",
        "for_s": "10",
        "failures": "8",
        "refusals": "0",
        "code": "provider_unavailable",
    } == row


async def test_throttled_customer_is_extracted(log: pytest.LogCaptureFixture):
    """A customer that uses its share of a worker has its connection; no other line reports it."""
    limiter = Limiter()
    limiter.of("contoso", "default", 1).job_seconds = 60
    with (
        limiter.admit("contoso", "default"),
        pytest.raises(errors.Throttled),
        limiter.admit("contoso", "default"),
    ):
        pass

    (row,) = extract(chart_query("share of a worker"), messages(log))

    assert {"customer": "contoso", "connection": "default", "jobs": "1", "requeued": "1"} == row


async def test_job_error_is_selected(harness: Harness, caplog: pytest.LogCaptureFixture):
    """A fault of the app is selected by how its line begins."""
    customer = harness.customer()
    broken = replace(harness.services, connections=_Broken())
    await broken.worker.process(delivery(json.dumps(customer.job()).encode()))

    assert [True] == [line.startswith(tuple(prefixes(alert_query("app-faults")))) for line in messages(caplog)]


async def test_failed_callback_is_extracted(own_harness: Harness, log: pytest.LogCaptureFixture):
    """A callback that was given up has its customer."""
    harness = own_harness
    customer = harness.customer()
    await customer.run(output={"callback": "https://receiver.example.com/hook"})
    (message,) = await harness.messages(harness.environment["CALLBACKS_QUEUE"])
    await harness.services.callbacks.deliver(message)

    (row,) = extract(alert_query("callbacks-failing"), messages(log))

    assert (customer.name, "1", "-") == (row["customer"], row["attempt"], row["http_status"])


@pytest.mark.parametrize("inserted", ["2026-11-20T03:01:39.000+00:00", "11/20/2026 3:01:39 AM +00:00"])
def test_age_of_a_message_is_extracted(inserted: str):
    """The host's own line about a message has the time at which it was sent to the queue."""
    line = f"Trigger Details: MessageId: b00a86dc-298d, DequeueCount: 2, InsertionTime: {inserted}"

    (row,) = extract(alert_query("queue-age"), [line])

    assert {"message_id": "b00a86dc-298d", "dequeue_count": "2", "inserted": inserted} == row


class _Broken:
    async def resolve(self, customer: str, name: str) -> None:
        raise ValueError(customer + name)

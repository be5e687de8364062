"""The queries against real log lines: they select the lines that the app writes, and extract their members."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from shared import errors
from shared.event_names import NAMESPACE
from shared.jobs.admission import Limiter
from tests.support.endpoint import error
from tests.support.exporting import EXPORTS, ExportHarness
from tests.support.harness import Harness, delivery, with_own_table
from tests.support.infra_queries import alert_query, chart_query
from tests.support.kql import extract, prefixes


@pytest.fixture(name="log")
def _log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, NAMESPACE)
    return caplog


def messages(log: pytest.LogCaptureFixture) -> list[str]:
    """The lines that the app has logged: Application Insights has them as `Message`."""
    return [record.getMessage() for record in log.records if record.name == NAMESPACE]


async def test_lines_of_jobs_are_extracted(harness: Harness, log: pytest.LogCaptureFixture):
    """
    A finished job's line has its customer, status, code, tokens and time; that of a job that is requeued because its
    endpoint limits the rate the reason and delay; that of a breaker that opened its customer and connection.
    """
    customer, refused = harness.customer(), harness.customer(api_key="wrong")
    limited, down = harness.customer(), harness.customer()
    limited.account.will_answer(error(429, message="Slow down: wait.", retry_after="600"))
    down.account.will_answer(*[error(503)] * 8)
    await customer.run(job_id="a.job")
    await refused.run()
    await limited.deliver()
    for _ in range(8):
        await down.deliver(options={"max_retries": 0})

    finished, rejected, requeued, opened = [
        {row["customer"]: row for row in extract(alert_query(name), messages(log))}
        for name in ("jobs-failing", "connections-refused", "customers-rate-limited", "endpoints-down")
    ]
    assert int(finished[customer.name].pop("run_ms")) >= 0
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
    } == finished[customer.name]
    assert ["failed", "credential_rejected"] == [rejected[refused.name][name] for name in ("status", "code")]
    assert '"credential_rejected"' in alert_query("connections-refused")
    row = requeued[limited.name]
    assert ("UpstreamRetryLater", True) == (row["reason"], "(429)" in row["error"])
    assert float(row["delay_s"]) >= 600
    breaker = {"for_s": "10", "failures": "8", "refusals": "0", "code": "provider_unavailable"}
    assert {down.name: {"customer": down.name, "connection": "default"} | breaker} == opened


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


async def test_failed_callback_is_extracted(harness: Harness, log: pytest.LogCaptureFixture):
    """A callback that was given up has its customer."""
    async with with_own_table(harness, "CALLBACKS_QUEUE") as own:
        customer = own.customer()
        await customer.run(output={"callback": "https://receiver.example.com/hook"})
        (message,) = await own.messages(own.environment["CALLBACKS_QUEUE"])
        await own.services.callbacks.deliver(message)

    (row,) = extract(alert_query("callbacks-failing"), messages(log))

    assert (customer.name, "1", "-") == (row["customer"], row["attempt"], row["http_status"])


async def test_exports_are_extracted(monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture):
    """What a receiver refused, what is in doubt, and how old the oldest is that waits, each with the export's name."""
    exports = ExportHarness(monkeypatch, [EXPORTS["stripe"]])
    for customer in ("acme", "unknown"):
        await exports.add_customer(customer)
        await exports.record(customer, 1)
    exports.systems["stripe"].refused.add("ext-unknown")
    exports.lost = 1
    await exports.run()
    exports.time += timedelta(hours=25)
    await exports.run()
    await exports.add_customer("nameless", external_ids={})
    await exports.record("nameless", 1)
    exports.time += timedelta(hours=2)
    await exports.run()

    undecided = extract(alert_query("exports-undecided"), messages(log))
    assert {("export_refused", "stripe", "1"), ("export_in_doubt", "stripe", "1")} == {
        (row["event"], row["export"], row["events"]) for row in undecided
    }
    late = extract(alert_query("exports-late"), messages(log))
    assert ("stripe", "7200") == (late[-1]["export"], late[-1]["lag_s"])


@pytest.mark.parametrize("inserted", ["2026-11-20T03:01:39.000+00:00", "11/20/2026 3:01:39 AM +00:00"])
def test_age_of_a_message_is_extracted(inserted: str):
    """The host's own line about a message has the time at which it was sent to the queue."""
    line = f"Trigger Details: MessageId: b00a86dc-298d, DequeueCount: 2, InsertionTime: {inserted}"

    (row,) = extract(alert_query("queue-age"), [line])

    assert {"message_id": "b00a86dc-298d", "dequeue_count": "2", "inserted": inserted} == row


class _Broken:
    async def resolve(self, customer: str, name: str) -> None:
        raise ValueError(customer + name)

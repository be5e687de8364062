"""What is reported of batches: late ones, those that nobody looks at, and those that have ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest

from local.provider.faults import BatchFault
from shared.event_names import BATCH_ENDED, BATCH_LATE, BATCH_UNATTENDED, NAMESPACE
from shared.telemetry.base import Telemetry
from tests.support.infra_queries import alert_query
from tests.support.kql import extract
from tests.support.patience import MINUTE, PatientApp, patient_app

HOUR = {"deadline_s": 3600}
"""Its batch is cancelled 20 minutes earlier, so after 40."""


@pytest.fixture
async def at(client, monkeypatch, caplog):
    """The app."""
    caplog.set_level(logging.INFO, NAMESPACE)
    async with patient_app(client, monkeypatch) as made:
        yield made


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    """The lines of an event."""
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(f"{event} ")]


async def test_a_batch_whose_time_is_nearly_over_is_late(at: PatientApp, caplog: pytest.LogCaptureFixture) -> None:
    customer = at.customer()
    at.accounts[customer].durations.in_progress_s = 40_000
    job = await at.send(customer, options=HOUR)
    await at.deliver()
    await at.pass_time(30 * MINUTE)
    assert [] == lines(caplog, BATCH_LATE)
    await at.pass_time(6 * MINUTE)
    late = lines(caplog, BATCH_LATE)
    assert 2 <= len(late) <= 6
    (batch,) = {row["batch"] for row in extract(alert_query("batches-late"), late)}
    assert late[0].startswith(
        f"batch_late customer={customer} batch={batch} state=waiting status=in_progress lines=1 left_s="
    )
    assert 0 < int(late[0].rpartition("=")[2]) <= 8 * MINUTE
    await at.finish([job])
    reported = len(lines(caplog, BATCH_LATE))
    await at.pass_time(60 * MINUTE)
    assert reported == len(lines(caplog, BATCH_LATE))


async def test_a_batch_that_ends_in_time_is_not_late(at: PatientApp, caplog: pytest.LogCaptureFixture) -> None:
    customer = at.customer()
    await at.finish([await at.send(customer, options=HOUR)])
    assert [] == lines(caplog, BATCH_LATE)
    (ended,) = lines(caplog, BATCH_ENDED)
    assert " status=completed lines=1 answered=1 failed=0 age_s=" in ended


async def test_a_batch_that_no_worker_looks_at_is_reported(at: PatientApp, caplog: pytest.LogCaptureFixture) -> None:
    customer = at.customer()
    await at.send(customer)
    await at.deliver()

    async def drop() -> None:
        at.memory.queues.sent.pop("batches", None)

    at.deliver = drop  # type: ignore[method-assign]
    await at.pass_time(30 * MINUTE)
    assert [] == lines(caplog, BATCH_UNATTENDED)
    await at.pass_time(20 * MINUTE)
    unattended = lines(caplog, BATCH_UNATTENDED)
    assert unattended
    assert {customer} == {row["customer"] for row in extract(alert_query("batches-late"), unattended)}


async def test_telemetry_counts_batches_and_their_lines(at: PatientApp) -> None:
    reports: list[tuple[object, ...]] = []

    class Recorder(Telemetry):
        def batch_sent(self, customer: str) -> None:
            reports.append(("sent", customer))

        def batch_ended(self, customer: str, status: str, lines: Mapping[str, int], age_s: float) -> None:
            reports.append((status, customer, dict(lines), 300 <= age_s < 3600))

    at.worker.services = replace(at.worker.services, telemetry=Recorder())
    customer = at.customer()
    at.accounts[customer].faults.batches.add(BatchFault(expire_share=0.5))
    await at.finish([await at.send(customer) for _ in range(4)])
    assert [("sent", customer), ("expired", customer, {"answered": 2, "failed": 2}, True)] == reports[:2]
    assert [("sent", customer), ("completed", customer, {"answered": 2, "failed": 0}, True)] == reports[2:]

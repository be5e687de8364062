"""The renewal of an attempt's lease: what ends it, and what doesn't."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from shared.clock import now
from shared.contract.job import Job
from shared.errors import LeaseLost
from shared.jobs.attempt import Attempt
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from tests.support.fakes import MemoryTable

JOB = Job(customer="contoso", action="chat", job_id="job-1")


class Renewals(Ledger):
    """A ledger whose renewals do something first, each the next of a list."""

    def __init__(self, *first: Callable[[], None]) -> None:
        super().__init__(MemoryTable(), lease_s=0.003)
        self.renewed = 0
        self.done = asyncio.Event()
        self._first = list(first)

    async def renew(self, lease: Lease, *, operation_id: str = "") -> Lease:
        """See `Ledger`."""
        self.renewed += 1
        if not self._first:
            self.done.set()
            return await super().renew(lease, operation_id=operation_id)
        self._first.pop(0)()
        return lease


async def started(ledger: Ledger) -> Attempt:
    """An attempt of the job."""
    lease = await ledger.claim("contoso", "job-1", fingerprint="fingerprint", submitted_at=now())
    assert isinstance(lease, Lease)
    return Attempt(JOB, lease, ledger)


def fail() -> None:
    """A fault of ours, whose text quotes something."""
    text = b"terces".decode()[::-1]  # not as in the traceback's lines
    raise ValueError(text)


async def test_a_fault_of_ours_does_not_end_the_renewals(caplog: pytest.LogCaptureFixture) -> None:
    """The lease is renewed again after an exception that nobody expects, which is logged at once, without its text."""
    ledger = Renewals(fail)

    async with await started(ledger) as attempt, asyncio.timeout(5):
        await ledger.done.wait()

    assert attempt.lease_lost is None
    (record,) = caplog.records
    assert (logging.ERROR, "job_error customer=contoso job_id=job-1 ValueError") == (
        record.levelno,
        record.getMessage().partition("\n")[0],
    )
    assert "secret" not in caplog.text


async def test_a_lost_lease_ends_the_renewals() -> None:
    """Once the lease is lost, nothing more is renewed."""

    def take_over() -> None:
        raise LeaseLost("Lost.")

    ledger = Renewals(take_over)

    async with await started(ledger) as attempt, asyncio.timeout(5):
        while attempt.lease_lost is None:  # noqa: ASYNC110  # the attempt has no event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)

    assert 1 == ledger.renewed

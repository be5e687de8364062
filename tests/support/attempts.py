"""Attempts of one job on a table in memory, and what is on record of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from shared.billing.outbox import Outbox
from shared.billing.usage import Call
from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import RetryLater
from shared.jobs.attempt import Attempt
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from tests.support.counted_records import counted
from tests.support.fakes import MemoryTable

JOB = Job(customer="acme", action="multi_chat", job_id="job-1")
ANSWERED = Call(Usage(calls=1, input_tokens=5))
UNANSWERED = Call(None, outcome="unanswered")
LATER = RetryLater("Later.", 1)


async def start(table: MemoryTable, *, lease_s: float = 90, outbox: Outbox | None = None) -> Attempt:
    """Return the next attempt of the job, which has read its stored steps."""
    ledger = Ledger(table, lease_s=lease_s, outbox=outbox)
    lease = await ledger.claim(JOB.customer, JOB.id, fingerprint="f", submitted_at=now())
    assert isinstance(lease, Lease)
    attempt = Attempt(JOB, lease, ledger)
    await attempt.stored_steps()
    return attempt


async def expire(table: MemoryTable) -> None:
    """Let the job's lease expire, unnoticed by its attempt."""
    row = table.rows[JOB.customer, f"j_{JOB.id}"]
    await MemoryTable.merge(table, replace(row, values={"lease_until": now() - timedelta(seconds=1)}))


async def take_over(table: MemoryTable, *, outbox: Outbox | None = None) -> Attempt:
    """Return the attempt that starts once the lease of the one before has expired."""
    await expire(table)
    return await start(table, outbox=outbox)


def outcomes(table: MemoryTable) -> list[str]:
    """Return the outcomes of the usage records that count, sorted."""
    return sorted(row.values["outcome"] for row in counted(table.rows.values()))


def keys(table: MemoryTable, kind: str) -> list[str]:
    """Return the keys of the rows of a kind, after the kind."""
    return [key.removeprefix(f"{kind}_") for _, key in sorted(table.rows) if key.startswith(f"{kind}_")]

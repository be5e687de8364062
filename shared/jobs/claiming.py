"""
The claim of a job. It reserves what the job may use of its customer's budgets in the same transaction, if it can.

It can if the job has no row yet, and customer and budgets are in memory. Else the attempt reserves (`reservation`), and
has a lease with which it can say what is in the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.clock import now
from shared.contract.budget import Budget
from shared.errors import JobError, RetryLater
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.envelope import QueuedJob
from shared.jobs.executor import DecodedJob, Work
from shared.jobs.fingerprint import fingerprint
from shared.jobs.lease import Lease, first_lease
from shared.jobs.ledger import Ledger
from shared.jobs.message import Delivery
from shared.jobs.records import FinishedJob

if TYPE_CHECKING:
    from shared.billing.job_budgets import JobBudgets


async def claim(
    services: JobServices, job: QueuedJob, delivery: Delivery, work: Work
) -> tuple[Lease | FinishedJob, JobBudgets | None]:
    """Return a lease and what its claim has reserved, or the job if it is done. Raises as `Ledger.claim`."""
    members: dict[str, Any] = {
        "fingerprint": fingerprint(job),
        "submitted_at": delivery.submitted_at,
        "action": job.action,
        "callback_url": job.output.callback,
    }
    if isinstance(work, DecodedJob):
        record = services.customer_records.prefetch(job.customer)
        is_new = job.envelope is None  # probably
        if is_new and record is not None and record.budgets_json and record.state == "active":
            from shared.billing.job_budgets import BookingRefused  # noqa: PLC0415  # most customers have no budget

            ledger, own = await _request(services, job, delivery, work, record.budgets)
            with suppress(BookingRefused):
                lease = await ledger.claim(job.customer, job.id, **members)
                return lease, own if own and own.held else None  # a row that existed was claimed without
    return await services.ledger.claim(job.customer, job.id, **members), None


async def _request(
    services: JobServices, job: QueuedJob, delivery: Delivery, work: DecodedJob, budgets: Mapping[str, Budget]
) -> tuple[Ledger, JobBudgets | None]:
    """Return a ledger whose first write reserves something, and what; or the ordinary one if the attempt has to."""
    from shared.jobs.reservation import request_with_claim  # noqa: PLC0415  # see `claim`

    attempt = Attempt(job, first_lease(job.customer, job.id, delivery.submitted_at, now()), services.ledger)
    own = None
    try:
        connection = await services.connections.resolve(job.customer, job.connection)
        attempt.use(connection, needs_model=work.action.NEEDS_MODEL)
        if attempt.time.allows():
            own = await request_with_claim(services, attempt, connection, work.request, budgets)
    except (JobError, RetryLater):
        pass  # the attempt meets it again
    return (services.ledger, None) if own is None else (attempt.ledger, own)

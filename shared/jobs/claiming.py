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
from shared.contract.processing import LINES_ONLY
from shared.errors import JobError, RetryLater
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.envelope import QueuedJob
from shared.jobs.fingerprint import fingerprint
from shared.jobs.lease import Lease, first_lease
from shared.jobs.message import DecodedJob, Delivery, Work
from shared.jobs.records import FinishedJob

if TYPE_CHECKING:
    from shared.billing.job_budgets import JobBudgets


async def claim(
    services: JobServices, job: QueuedJob, delivery: Delivery, work: Work
) -> tuple[Lease | FinishedJob, Attempt | None]:
    """Return a lease, and the attempt if its claim has reserved; or the job if it is done. Raises as `Ledger.claim`."""
    members: dict[str, Any] = {
        "fingerprint": fingerprint(job),
        "submitted_at": delivery.submitted_at,
        "generation": delivery.generation,
        "action": job.action,
        "callback_url": job.output.callback,
    }
    members["exists"] = job.envelope is not None  # probably
    if isinstance(work, DecodedJob):
        record = services.customer_records.prefetch(job.customer)
        is_new = job.envelope is None  # probably
        if is_new and record is not None and record.budgets_json and record.state == "active":
            attempt = Attempt(job, first_lease(job.customer, job.id, delivery.submitted_at, now()), services.ledger)
            if (own := await _requested(services, attempt, work, record.budgets)) is not None:
                from shared.billing.bookings import BookingRefused  # noqa: PLC0415  # most customers have no budget

                with suppress(BookingRefused):
                    lease = await attempt.ledger.claim(job.customer, job.id, **members, first=attempt.lease)
                    if not isinstance(lease, Lease) or not own.held:
                        return lease, None  # a row that existed was claimed without
                    attempt.lease = attempt.usage.lease = lease
                    return lease, attempt
    buys = job.options.processing not in LINES_ONLY or not isinstance(work, DecodedJob)
    buys |= delivery.is_redelivered  # a worker that dies again is then on record
    return await services.ledger.claim(job.customer, job.id, **members, buys=buys), None


async def _requested(
    services: JobServices, attempt: Attempt, work: DecodedJob, budgets: Mapping[str, Budget]
) -> JobBudgets | None:
    """Have the first write by the attempt's ledger reserve, and return what; None if the attempt has to do it."""
    from shared.jobs.reservation import request_with_claim  # noqa: PLC0415  # see `claim`

    try:
        connection = await services.connections.resolve(attempt.job.customer, attempt.job.first_connection)
        attempt.use(connection, needs_model=work.action.NEEDS_MODEL)
        if attempt.time.allows():
            return await request_with_claim(services, attempt, connection, work.request, budgets)
    except (JobError, RetryLater):
        pass  # the attempt meets it again
    return None

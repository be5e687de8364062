"""What becomes of a job for which a budget has too little left. Imported for customers with budgets alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

import msgspec

from shared.billing.bookings import Booking, BookingRefused
from shared.billing.bucket_rows import next_start
from shared.billing.money import amount_text
from shared.clock import rfc3339
from shared.contract.budget import Budget
from shared.contract.processing import PATIENT
from shared.errors import BudgetExceeded, JobError, RetryLater
from shared.event_names import BUDGET_EXHAUSTED, NAMESPACE
from shared.jobs.attempt import Attempt
from shared.lru import LRU

_LOG_EVERY_S = 60.0
_MAX_LOGGED = 1000
_MAX_DELAY_S = 30.0
_MAX_WAIT = timedelta(days=32)
"""Of a job for budgets, in all."""
_logged: LRU[tuple[str, str], float] = LRU(_MAX_LOGGED)

log = logging.getLogger(NAMESPACE)


class BudgetReserved(RetryLater):
    """Other jobs have reserved what a budget has left. They may use less."""


class BudgetWait(RetryLater):
    """A budget has too little left, and the job waits for its next period, as it asked for."""

    def __init__(self, message: str, delay_s: float, *, stops_clock: bool) -> None:
        super().__init__(message, delay_s)
        self.stops_clock_s = delay_s if stops_clock else 0


def budget_error(
    refused: BookingRefused, attempt: Attempt, at: datetime, *, fits: Callable[[Booking], bool]
) -> JobError | RetryLater:
    """
    Return what a refused booking means for its job: it ends, or waits.

    `fits`: whether a period of which nothing is used covers the job.
    """
    name, budget = refused.booking.name, refused.booking.budget
    log_exhausted(attempt.job.customer, name, budget)
    what = f"The budget {name} of {_amount(budget.limit, budget.unit)} a {budget.period}"
    if refused.is_reserved:
        reason = f"{what} has enough left for this job once other jobs have settled what they reserved."
        return BudgetReserved(reason, min(2.0 * attempt.lease.attempt, _MAX_DELAY_S))
    needed, left = (_amount(amount, budget.unit) for amount in (refused.booking.amount, max(refused.left, Decimal(0))))
    starts_at = next_start(budget.period, at)
    message = f"{what} has {left} left, and this job may use up to {needed}. The next {budget.period} starts at"
    message = f"{message} {rfc3339(starts_at)}."
    # A job that the whole limit is too small for would wait for nothing.
    if attempt.job.options.on_budget == "wait" and fits(refused.booking):
        return _wait(message, attempt, (starts_at - at).total_seconds())
    return BudgetExceeded(message)


def _wait(message: str, attempt: Attempt, wait_s: float) -> BudgetWait | BudgetExceeded:
    """Return the wait for a budget's next period, or the error of a job that may not wait for so long."""
    options = attempt.job.options
    if not isinstance(options.deadline_s, msgspec.UnsetType) or options.processing in PATIENT:
        if not attempt.time.allows(wait_s):
            return BudgetExceeded(f"{message} The job's deadline is before that.")
        return BudgetWait(message, wait_s, stops_clock=False)
    if attempt.lease.budget_wait_s + wait_s > _MAX_WAIT.total_seconds():
        return BudgetExceeded(f"{message} The job would have waited for budgets for more than {_MAX_WAIT.days} days.")
    return BudgetWait(message, wait_s, stops_clock=True)


def _amount(amount: Decimal, unit: str) -> str:
    if unit in {"tokens", "jobs"}:
        return f"{int(amount.to_integral_value(ROUND_CEILING)):,} {unit}"
    return f"{amount_text(amount.quantize(Decimal('0.000001')).normalize())} {unit}"


def log_exhausted(customer: str, name: str, budget: Budget) -> None:
    """Log that a budget has too little left for a job, once a minute for each budget."""
    logged_at = _logged.get((customer, name))
    if logged_at is None or time.monotonic() - logged_at >= _LOG_EVERY_S:
        _logged.set((customer, name), time.monotonic())
        log.warning("%s customer=%s budget=%s unit=%s", BUDGET_EXHAUSTED, customer, name, budget.unit)

"""
The reservation of a job: what its calls can cost at most is set aside in each budget that applies, before the first.

Imported for customers with budgets alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from shared.actions.raw import deployment_in, path_below
from shared.billing.bookings import Booking, BookingRefused
from shared.billing.bucket_rows import pool_key
from shared.billing.buckets import ZERO
from shared.billing.budgets import applying, connection_budget
from shared.billing.estimates import MIN_OUTPUT_TOKENS, OUTPUT_TOKENS, Estimate, estimate
from shared.billing.job_budgets import JobBudgets
from shared.billing.measures import Counter, NoPrice, unknown_call
from shared.billing.reserved_amounts import ReservedFor, read_reserved, read_reserved_for
from shared.billing.unseen_inputs import unseen_images
from shared.billing.usage_records import JOBS
from shared.clock import now
from shared.connections.connection import Connection
from shared.contract.budget import Budget
from shared.contract.processing import LINES_ONLY, RESPONSES_ONLY
from shared.contract.raw import RawRequest
from shared.contract.usage import Processing
from shared.documents.pictures import MAX_PICTURES
from shared.errors import BudgetExceeded
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.budget_errors import budget_error, log_exhausted
from shared.jobs.kept_measure import kept_measure
from shared.jobs.ledger import Ledger

if TYPE_CHECKING:
    from shared.billing.pricing import Pricing


async def request_with_claim(
    services: JobServices, attempt: Attempt, connection: Connection, request: Any, budgets: Mapping[str, Budget]
) -> JobBudgets | None:
    """Have the first write by the attempt's ledger reserve. Return None if nothing can be without reading budgets."""
    job = await _request(services, attempt, connection, request, budgets)
    if job is None:
        return None
    own = restore(services, attempt)
    await job.make(own, OUTPUT_TOKENS, now())
    return own if own.fits() else None


def restore(services: JobServices, attempt: Attempt) -> JobBudgets:
    """
    Have an attempt's transactions settle what it reserves, and what an earlier one has reserved.

    A job that has waited for a batch still holds that. If a worker died that may have made calls, it is in doubt.
    """
    lease, reserved = attempt.lease, read_reserved(attempt.lease.reservation)
    own = JobBudgets(services.budgets, attempt.job.customer, keeps=bool(lease.lines))
    is_recorded = attempt.job.options.processing in LINES_ONLY | RESPONSES_ONLY or attempt.job.action == "respond"
    if lease.keeps_reservation or is_recorded:
        own.hold(reserved, partial(kept_measure, attempt))
        reserved_for = read_reserved_for(lease.reserved_for)
        own.output_limit = reserved_for.output_limit if reserved_for else None
    else:
        own.in_doubt = reserved
    attempt.budgets = own
    ledger = services.ledger
    attempt.ledger = Ledger(services.budgets.table, lease_s=ledger.lease_s, outbox=ledger.outbox, write=own.write)
    return own


async def reserve(
    services: JobServices, attempt: Attempt, connection: Connection, request: Any, budgets: Mapping[str, Budget]
) -> None:
    """
    Reserve what a job's calls can cost at most in each budget that applies.

    The attempt's budgets have an `output_limit` then, if one is to be sent. Raises BudgetExceeded, BudgetReserved,
    BudgetWait.
    """
    job = await _request(services, attempt, connection, request, budgets)
    if job is None:
        return
    own = attempt.budgets or restore(services, attempt)
    limit = own.output_limit or OUTPUT_TOKENS
    while True:
        await job.make(own, limit, at := now())
        if not own.requested:
            return
        try:
            await attempt.renew()
        except BookingRefused as refused:
            if attempt.lease.lines:
                # Its calls are bought, and a budget that was made since can't refuse them: it only counts them.
                own.request([replace(booking, amount=ZERO) for booking in own.requested], at)
                await attempt.renew()
                return
            own.requested = []
            lower = None if refused.is_reserved else job.lower_limit(refused.booking.budget, refused.left, limit)
            if lower is None:
                raise budget_error(refused, attempt, at, fits=job.fits) from None
            limit = lower
        else:
            return


async def _request(
    services: JobServices, attempt: Attempt, connection: Connection, request: Any, budgets: Mapping[str, Budget]
) -> _Job | None:
    """Return what an attempt counts for the budgets that apply; None if none does."""
    model = _model(attempt, connection, request)
    pricing = await services.price_books.pricing()
    named = dict(applying(budgets, connection.name, model))
    if connection.monthly_budget is not None:
        currency = pricing.book.currency if pricing else "USD"
        named |= [connection_budget(connection.name, connection.monthly_budget, currency)]
    if not named:
        return None
    done = {step.key for step in await attempt.stored_steps()}
    estimated = estimate(request, strict=attempt.job.options.strict, done=done)
    images = 0 if estimated else unseen_images(request, pages=MAX_PICTURES)
    return _Job(services, attempt, connection, model, pricing, estimated, named, images)


def _model(attempt: Attempt, connection: Connection, request: Any) -> str:
    """Return the model or deployment that a job's calls use. A raw request may name another one than its job."""
    named = ""
    if isinstance(request, RawRequest):
        path = path_below(request.path, connection.endpoint)
        if not connection.endpoint.has_model_in_url(path):
            named = deployment_in(path) or request.model
    return named or attempt.usage.model or connection.default_model or ""


class _Job:
    """What a job counts for budgets."""

    def __init__(
        self,
        services: JobServices,
        attempt: Attempt,
        connection: Connection,
        model: str,
        pricing: Pricing | None,
        estimated: Estimate | None,
        budgets: Mapping[str, Budget],
        images: int,
    ) -> None:
        self.services, self.attempt, self.estimate, self.pricing = services, attempt, estimated, pricing
        self.budgets, self.images = budgets, images
        self.reserved_for = ReservedFor(model, connection.label(), connection.deployment_scope)
        processing, kind = attempt.job.options.processing, f"{attempt.job.action}/{model}"
        # `cheapest` can come to be bought at the list price.
        bought_as: Processing = "batch" if processing == "batch" else "standard"
        if processing == "background":
            from shared.jobs.windows import expected_processing  # noqa: PLC0415  # few jobs can wait

            shown = services.capabilities.of(*connection.identity, model)
            bought_as = expected_processing(attempt.job.options, attempt.time.seconds_left(), shown)
        self.price = "flex" if processing == "flex" else bought_as
        self.labels = {
            "model": model,
            "connection": connection.name,
            "provider": connection.endpoint.provider,
            "processing": bought_as,
            **({"service_tier": "flex"} if processing == "flex" else {}),
            **({"deployment_scope": connection.deployment_scope} if connection.deployment_scope else {}),
        }
        self.kind = kind if processing == "standard" else f"{processing}:{kind}"

    async def make(self, own: JobBudgets, limit: int, at: datetime) -> None:
        """Have the next transaction reserve for answers of `limit` tokens. Raises BudgetExceeded."""
        bookings = []
        for name, budget in self.budgets.items():
            held = own.held_of(name, budget)
            if held is None:
                bookings.append(await self.booking(name, budget, limit, at))
            else:  # what the job has waited with, of the period in which it began
                held.budget, held.is_defined = budget, True
                held.kind = self.kind if self.estimate is None and budget.unit != JOBS else ""
        own.output_limit = limit if self._needs_limit() else None
        own.reserved_for = msgspec.structs.replace(self.reserved_for, output_limit=own.output_limit)
        own.is_restored = False
        own.request(bookings, at)

    async def booking(self, name: str, budget: Budget, limit: int, at: datetime) -> Booking:
        """Return what the job reserves of a budget. Raises BudgetExceeded."""
        counter = self._counter(budget)
        try:
            if self.estimate is not None or budget.unit == JOBS:
                records = self.estimate.records(limit) if self.estimate else []
                amount, of_call = counter.highest(records, at)
                return Booking(name, budget, amount, counter.measure(of_call))
            amount = await self._largest(name, budget) or ZERO
            if self.images or not amount:
                unknown = unknown_call(self.services.settings.budget_default_estimate, self.images)
                amount = max(amount, counter.highest([unknown], at)[0])
        except NoPrice as exc:
            if budget.enforce == "soft":
                return Booking(name, budget, Decimal(0), counter.measure(Decimal(0)))
            log_exhausted(self.attempt.job.customer, name, budget)
            # Not why: the customer may read it, and sees no prices.
            what = "price" if self.price == "standard" else f"price for {self.price}"
            raise BudgetExceeded(
                f"The budget {name} is in {budget.unit}, and the model {exc.model or '(none)'} has no {what} in that."
            ) from None
        return Booking(name, budget, amount, counter.measure(amount), self.kind)

    def fits(self, booking: Booking) -> bool:
        """Return whether a period of which nothing is used covers the job."""
        budget = booking.budget
        return booking.amount <= budget.limit or self.lower_limit(budget, budget.limit, OUTPUT_TOKENS) is not None

    def lower_limit(self, budget: Budget, left: Decimal, limit: int) -> int | None:
        """Return the highest limit of answers that what a budget has left covers; None if there is none."""
        if self.estimate is None or not self.estimate.takes_limit:
            return None
        counter, low, high = self._counter(budget), 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if counter.highest(self.estimate.records(middle), now())[0] <= left:
                low = middle
            else:
                high = middle - 1
        return low if MIN_OUTPUT_TOKENS <= low < limit else None

    def _needs_limit(self) -> bool:
        """Return whether answers need a limit that the job has not set: jobs are counted whatever they use."""
        takes_limit = self.estimate is not None and self.estimate.takes_limit
        return takes_limit and any(each.enforce == "hard" and each.unit != JOBS for each in self.budgets.values())

    def _counter(self, budget: Budget) -> Counter:
        pricing = self.pricing.in_currency(budget.unit) if self.pricing and budget.is_money else None
        return Counter(budget.unit, self.attempt.job.customer, self.labels, pricing)

    async def _largest(self, name: str, budget: Budget) -> Decimal | None:
        """The most that a job of this kind has settled in this period."""
        pool = await self.services.budgets.pool(pool_key(self.attempt.job.customer, name, budget, now())).find()
        return pool.largest(self.kind) if pool else None

"""What one attempt consumes, and its usage records that are not written yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from shared.actions.base import WITHOUT_CONNECTION
from shared.actions.sse import values_of
from shared.billing.usage import UNANSWERED, Call, as_lost, call_of_values, total
from shared.billing.usage_records import (
    RecordLabels,
    call_suffix,
    has_answer,
    marker_row,
    placeholder_suffix,
    usage_rows,
    with_closed_job,
)
from shared.clock import now
from shared.contract.decoding import find_members
from shared.contract.job import Job
from shared.contract.processing import LINES_ONLY, RESPONSES_ONLY
from shared.contract.result import ConnectionLabel
from shared.contract.usage import NO_USAGE, Usage
from shared.errors import UpstreamFacts
from shared.jobs.fallback import unresolved
from shared.jobs.lease import Lease
from shared.jobs.lines import LineRecord, is_line, placeholder_ending
from shared.storage.base import Row
from shared.upstream.messages import Operation, Response, is_large

if TYPE_CHECKING:
    from shared.billing.pricing import Pricing

_COUNTED = frozenset({"succeeded", "partial"})
"""How a job ends that a customer pays for by the job, if it has an answered call."""
RECORDED_OTHERWISE = frozenset({*WITHOUT_CONNECTION, "respond"})
"""The actions whose attempts have made no call when their worker dies, or one that their steps record."""
_CRASHED = replace(UNANSWERED)
"""The call of a placeholder, recognized by its identity."""


@dataclass(slots=True)
class AttemptUsage:
    """The consumption of one attempt, as its job's result and usage records report it."""

    job: Job
    lease: Lease
    label: ConnectionLabel | None = None
    """What they say about the connection, once it is resolved."""
    deployment_scope: str | None = None
    model: str | None = None
    pricing: Pricing | None = None
    """The prices in the currency of the customer's statements, if there is a price book."""
    billed: Usage = field(default_factory=Usage)
    """What the job's stored steps have consumed; their usage records are written."""
    skipped: str = field(init=False)
    """See Lease; with those that this attempt has skipped."""
    unrecoverable: Usage = field(init=False)
    """What all attempts have consumed whose responses could not be kept."""
    served: Mapping[str, ConnectionLabel] = field(default_factory=dict)
    """Which connection has served calls that this attempt does not make itself, by their `metered_as`."""
    answered_lines: tuple[str, Mapping[str, LineRecord]] = ("", {})
    """The job's lines once all have an answer, and the column of its row that names these."""
    responses: list[Response] = field(default_factory=list)
    """Billed responses outside of any step: lost unless the job ends with them."""
    fetched: set[str] = field(default_factory=set)
    """What answers are `metered_as` that whoever takes the job over fetches again from the provider."""
    metered: set[str] = field(default_factory=set)
    """What calls that belong to no step are `metered_as`."""
    _pending: list[tuple[str, Call]] = field(default_factory=list)
    """Calls that belong to no step and have no record yet, each with the suffix of its key."""
    _settlement: list[Row] | None = None
    _number: int = 0

    def __post_init__(self) -> None:
        self.unrecoverable, self.skipped = self.lease.unrecoverable_usage, self.lease.skipped

    def __len__(self) -> int:
        """Return how many calls have no record yet."""
        return len(self._pending)

    def __bool__(self) -> bool:
        return True

    @property
    def has_lost(self) -> bool:
        """Whether this attempt has made calls whose responses the job does not have."""
        return self._number > 0

    def add_unsettled_calls(self, calls: Sequence[Call]) -> None:
        """Add calls whose responses the job does not have."""
        for call in calls:
            self._number += 1
            own = (
                placeholder_ending(call.metered_as)
                if call.provisional
                else call_suffix(self.lease.attempt, self._number)
            )
            self._pending.append((own, call))
            self.metered.add(call.metered_as)
        self.unrecoverable += self.of_calls(calls)

    def add_refusal(self, operation: Operation, facts: UpstreamFacts) -> None:
        """Add a try without a response, if it may have been charged."""
        if facts.unanswered and operation.is_billed:
            self.add_unsettled_calls([replace(UNANSWERED, request_id=facts.request_id)])

    def add_lost_responses(self, responses: list[Response]) -> None:
        """Add billed responses that nothing was made of; `responses` is emptied."""
        calls = [
            call_of_values(_values_of(each.body) or [{}], each.request_id, each.processing, each.metered_as)
            for each in responses
        ]
        self.add_unsettled_calls(as_lost(calls))
        responses.clear()

    def discard_responses(self) -> None:
        """Add what was received outside of any step as lost."""
        if self.responses:
            self.add_lost_responses(self.responses)

    def add_crashed_attempts(self) -> None:
        """Add placeholders for attempts whose worker has died, if they may have made calls."""
        action, processing = self.job.action, self.job.options.processing
        if action in RECORDED_OTHERWISE or processing in LINES_ONLY | RESPONSES_ONLY:
            return  # the calls of the latter are on record as lines of batches, or in steps
        self._pending += [(placeholder_suffix(attempt), _CRASHED) for attempt in self.lease.crashed_attempts]

    def leave_out_crashed_attempts(self) -> None:
        """Take their placeholders back: whatever they have bought is on record otherwise."""
        self._pending = [each for each in self._pending if each[1] is not _CRASHED]

    def settlement(self) -> list[Row]:
        """
        Return the records and the marker of an attempt that has lost its lease: always the same ones.

        Placeholders are not among them, nor answers of lines, nor what is fetched again: whoever has taken the job over
        writes them.
        """
        if self._settlement is None:
            own = [(key, call) for key, call in self._pending if call is not _CRASHED and not is_line(call)]
            self._pending = [(key, call) for key, call in own if call.metered_as not in self.fetched]
            at = now()
            marker = marker_row(self._labels(), self.lease.attempt, at, since=self.lease.started_at)
            self._settlement = [*self.rows(at=at), marker]
            self._pending = []
        return self._settlement

    def remove(self, number: int) -> None:
        """Remove the first calls, whose records are written."""
        del self._pending[:number]

    def of_calls(self, calls: Sequence[Call]) -> Usage:
        """Return what calls have consumed, with what they cost if all of them have a price."""
        usage = total(calls)
        if self.pricing is None or usage == NO_USAGE:
            return usage
        from shared.billing.call_costs import cost_of_calls  # noqa: PLC0415  # only if there is a price book

        return msgspec.structs.replace(usage, cost=cost_of_calls(self.pricing, self._labels(), calls, now()))

    def of_job(self, calls: Sequence[Call], status: str, at: datetime) -> Usage:
        """Return what the job has consumed that ends now, with these calls beside those on record."""
        usage = self.of_calls(calls) + self.billed + self.unrecoverable
        cost = None  # without prices, the fee is not known, and what stored steps cost is not all
        if usage.cost is not None and self.pricing is not None:
            from shared.billing.call_costs import cost_of_job  # noqa: PLC0415

            jobs = int(status in _COUNTED and has_answer(calls, self.billed))
            cost = cost_of_job(self.pricing, self.job.customer, usage.cost, at, jobs=jobs)
        if usage == NO_USAGE:
            return usage
        return msgspec.structs.replace(usage, deployment_scope=self.deployment_scope, cost=cost)

    def rows(self, limit: int | None = None, *, at: datetime | None = None) -> list[Row]:
        """Return the rows of the calls that have no record yet, of the first `limit`; their day is that of `at`."""
        at = at or now()
        return [row for suffix, call in self._pending[:limit] for row in self.rows_of([call], at, suffix=suffix)]

    def rows_of(self, calls: Sequence[Call], at: datetime, *, suffix: str = "") -> list[Row]:
        """Return other calls of the job as rows."""
        return usage_rows(self._labels(), calls, at, suffix=suffix)

    def closing_rows(self, calls: Sequence[Call], status: str, at: datetime) -> list[Row]:
        """Return the calls that the job ends with as rows, of which one counts the job if it has succeeded."""
        rows = self.rows_of(calls, at)
        return with_closed_job(self._labels(), rows, self.billed, at) if status in _COUNTED else rows

    def _labels(self) -> RecordLabels:
        job = self.job
        label = self.label or unresolved(job, self.skipped)
        return RecordLabels(
            job.customer,
            job.id,
            job.action,
            self.model or job.model or "",
            label,
            self.deployment_scope,
            self.lease.incarnation,
            self.served,
        )


def _values_of(body: bytes) -> list[Any]:
    # A large one may be what an attempt has failed with: it is not decoded.
    return [find_members(body, ("usage", "model", "service_tier"))] if is_large(body) else values_of(body)

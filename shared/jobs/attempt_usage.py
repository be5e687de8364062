"""What one attempt consumes, and its usage records that are not written yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.billing.usage import Call, lost_call, total
from shared.billing.usage_records import MARKER, call_suffix, marker_suffix, placeholder_suffix, usage_rows
from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, Usage
from shared.jobs.lease import Lease
from shared.storage.base import Row
from shared.upstream.messages import Response

_CRASHED = Call(None, outcome="unanswered")


@dataclass(slots=True)
class AttemptUsage:
    """The consumption of one attempt, as its job's result and usage records report it."""

    job: Job
    lease: Lease
    label: ConnectionLabel | None = None
    """What they say about the connection, once it is resolved."""
    model: str | None = None
    billed: Usage = field(default_factory=Usage)
    """What the job's stored steps have consumed; their usage records are written."""
    unrecoverable: Usage = field(init=False)
    """What all attempts have consumed whose responses could not be kept."""
    responses: list[Response] = field(default_factory=list)
    """Billed responses outside of any step: lost unless the job ends with them."""
    _pending: list[tuple[str, Call, datetime]] = field(default_factory=list)
    """Calls that belong to no step and have no record yet: suffix of the key, call, time."""
    _number: int = 0
    _started_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.unrecoverable = self.lease.unrecoverable_usage
        self._started_at = now()

    def __len__(self) -> int:
        """Return how many records are to be written."""
        return len(self._pending)

    def __bool__(self) -> bool:
        return True

    def add_unsettled_calls(self, calls: Sequence[Call]) -> None:
        """Add calls whose responses the job does not have."""
        at = now()
        for call in calls:
            self._number += 1
            self._pending.append((call_suffix(self.lease.attempt, self._number), call, at))
        self.unrecoverable += total(calls)

    def add_lost_responses(self, responses: list[Response]) -> None:
        """Add billed responses that nothing was made of; `responses` is emptied."""
        self.add_unsettled_calls([lost_call(response.body, response.request_id) for response in responses])
        responses.clear()

    def discard_responses(self) -> None:
        """Add what was received outside of any step as lost."""
        self.add_lost_responses(self.responses)

    def add_crashed_attempts(self) -> None:
        """Add placeholders for attempts whose worker has died."""
        at = now()
        self._pending += [(placeholder_suffix(attempt), _CRASHED, at) for attempt in self.lease.crashed_attempts]

    def discard_placeholders(self) -> None:
        """Discard the placeholders that are not written: whoever has taken the job over writes them."""
        self._pending = [record for record in self._pending if record[1] is not _CRASHED]

    def markers(self) -> list[Row]:
        """Return the marker that all calls of this attempt are on record: for each month that it may be wanted in."""
        months = {f"{at:%Y-%m}": at for at in (self._started_at, now())}
        suffix = marker_suffix(self.lease.attempt)
        return [row for at in months.values() for row in self.rows_of([MARKER], at, suffix=suffix)]

    def remove(self, number: int) -> None:
        """Remove the first records, which are written."""
        del self._pending[:number]

    def rows(self, limit: int | None = None) -> list[Row]:
        """Return the records that are to be written as rows, the first `limit` of them."""
        return [row for suffix, call, at in self._pending[:limit] for row in self.rows_of([call], at, suffix=suffix)]

    def rows_of(self, calls: Sequence[Call], at: datetime, *, suffix: str = "") -> list[Row]:
        """Return other calls of the job as rows."""
        job = self.job
        # If even the connection was never resolved, the job's own name for it is used.
        label = self.label or ConnectionLabel(
            name=job.connection, source="key_vault", provider="unknown", billed_to="customer"
        )
        return usage_rows(
            job.customer,
            job.id,
            job.action,
            self.model or job.model or "",
            label,
            calls,
            at,
            incarnation=self.lease.incarnation,
            suffix=suffix,
        )

"""
What jobs that never end leave behind: calls that may have been billed, and reservations.

A job whose worker died gets another attempt, which records that. A job whose message is gone gets none: the sweep
records it, before it removes the job's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from shared.billing.buckets import ZERO
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.job_budgets import JobBudgets
from shared.billing.outbox import Outbox
from shared.billing.reserved_amounts import ReservedFor, read_reserved, read_reserved_for
from shared.billing.usage import UNANSWERED
from shared.billing.usage_records import RecordLabels, placeholder_suffix, usage_rows
from shared.clock import now
from shared.contract.result import ConnectionLabel
from shared.jobs.attempt import OUTCOME_STEP
from shared.jobs.attempt_usage import RECORDED_OTHERWISE
from shared.jobs.lease import Lease, next_lease
from shared.jobs.response_steps import Creation, last_creation, lost_rows
from shared.jobs.step_rows import step_prefix
from shared.jobs.versions import VERSION
from shared.retention.batch_rows import BatchRows
from shared.storage.base import Row, RowChanged, Table

_UNKNOWN = ConnectionLabel(name="unknown", source="key_vault", provider="unknown", billed_to="customer")
"""A job without a reservation says nothing of its connection."""
_WITH_RESPONSES = frozenset({"respond", "chat"})
"""The actions that may have a response made in the background."""


@dataclass(frozen=True, slots=True)
class AbandonedJobs:
    """The jobs of all customers that never end. `exports`: the names of those that usage records are sent to."""

    table: Table
    exports: Sequence[str] = ()

    async def settle(self, row: Row) -> str:
        """
        Add a record of the response that a job has waited for, or placeholders for its attempts whose worker died;
        count as spent what it has reserved of budgets: also if it has waited for that, or for a batch that was bought,
        since nothing measures that. If nothing was, free it.

        All in one transaction, as its next attempt would have done, and once. Return the etag of the job's row then. It
        is an empty string if somebody has changed that, a later version of the app wrote it, or a batch will continue
        the job. Raises StorageUnavailable.
        """
        if row.values.get("version", 0) > VERSION:
            return ""
        lease, outbox, batches = next_lease(row, now()), Outbox(self.table, self.exports), BatchRows(self.table)
        if await batches.is_alive(row.partition, lease.lines):
            return ""  # it ends with its batch
        creation = await self._creation(lease, row.values)
        if not (lease.crashed_attempts or lease.reservation or creation):
            return row.etag
        budgets = Budgets(self.table, CustomerRecords(self.table), outbox)
        own, reserved = JobBudgets(budgets, row.partition), read_reserved(lease.reservation)
        is_free = creation is None and lease.keeps_reservation
        if is_free and not await batches.is_bought(row.partition, lease.lines):
            own.hold(reserved, lambda _: lambda _: ZERO)  # which frees it
        else:
            own.in_doubt = reserved
        change = Row(row.partition, row.key, {"state": "waiting", "crashed_attempts": ""}, row.etag)
        operation_id = uuid4().hex
        if creation:  # since it was begun, attempts have only looked at it
            rows = lost_rows(creation, lease, row.values["action"], now())
        else:
            rows = await self._placeholders(lease, row.values)
        added = await outbox.with_outbox(rows, operation_id)
        try:
            return (await own.write(change, added, operation_id=operation_id))[0]
        except RowChanged:
            return ""

    async def _creation(self, lease: Lease, values: Mapping[str, Any]) -> Creation | None:
        """Return the response that a job has begun and that has no end, if there is one."""
        if values.get("action") not in _WITH_RESPONSES or not values["attempt"]:
            return None
        return await last_creation(self.table, lease.customer, lease.job_id)

    async def _placeholders(self, lease: Lease, values: Mapping[str, Any]) -> list[Row]:
        if values.get("action") in RECORDED_OTHERWISE:
            return []
        outcome = f"{step_prefix(lease.job_id)}{OUTCOME_STEP}"
        if await self.table.read(lease.customer, outcome) is not None:
            return []  # all calls are on record with it
        labels, at = _labels(lease, values), now()
        return [
            row
            for attempt in lease.crashed_attempts
            for row in usage_rows(labels, [UNANSWERED], at, suffix=placeholder_suffix(attempt))
        ]


def _labels(lease: Lease, values: Mapping[str, Any]) -> RecordLabels:
    source = read_reserved_for(values.get("reserved_for", "")) or ReservedFor(values.get("model") or "", _UNKNOWN)
    return RecordLabels(
        lease.customer,
        lease.job_id,
        values.get("action") or "",
        source.model,
        source.connection,
        source.deployment_scope,
        lease.incarnation,
    )

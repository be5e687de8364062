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

from shared.actions.base import WITHOUT_CONNECTION
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
from shared.jobs.lease import Lease, next_lease
from shared.jobs.step_rows import step_prefix
from shared.jobs.versions import VERSION
from shared.retention.batch_rows import BatchRows
from shared.storage.base import Row, RowChanged, Table

_UNKNOWN = ConnectionLabel(name="unknown", source="key_vault", provider="unknown", billed_to="customer")
"""A job without a reservation says nothing of its connection."""


@dataclass(frozen=True, slots=True)
class AbandonedJobs:
    """The jobs of all customers that never end. `exports`: the names of those that usage records are sent to."""

    table: Table
    exports: Sequence[str] = ()

    async def settle(self, row: Row) -> str:
        """
        Add placeholders for a job's attempts whose worker died, and count as spent what it has reserved of budgets:
        also if it has waited for a batch that was bought, since nothing measures that. If nothing was, free it.

        All in one transaction, as its next attempt would have done, and once. Return the etag of the job's row then. It
        is an empty string if somebody has changed that, a later version of the app wrote it, or a batch will continue
        the job. Raises StorageUnavailable.
        """
        if row.values.get("version", 0) > VERSION:
            return ""
        lease, outbox, batches = next_lease(row, now()), Outbox(self.table, self.exports), BatchRows(self.table)
        if await batches.is_alive(row.partition, lease.lines):
            return ""  # it ends with its batch
        if not (lease.crashed_attempts or lease.reservation):
            return row.etag
        budgets = Budgets(self.table, CustomerRecords(self.table), outbox)
        own, reserved = JobBudgets(budgets, row.partition), read_reserved(lease.reservation)
        if lease.keeps_reservation and not await batches.is_bought(row.partition, lease.lines):
            own.hold(reserved, lambda _: lambda _: ZERO)  # which frees it
        else:
            own.in_doubt = reserved
        change = Row(row.partition, row.key, {"state": "waiting", "crashed_attempts": ""}, row.etag)
        operation_id = uuid4().hex
        placeholders = await outbox.with_outbox(await self._placeholders(lease, row.values), operation_id)
        try:
            return (await own.write(change, placeholders, operation_id=operation_id))[0]
        except RowChanged:
            return ""

    async def _placeholders(self, lease: Lease, values: Mapping[str, Any]) -> list[Row]:
        if values.get("action") in WITHOUT_CONNECTION:
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

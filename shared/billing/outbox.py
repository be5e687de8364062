"""
The outbox: what is to be sent to other systems, written in the transaction that it is about.

A transaction with usage records also inserts a row `o_{time}_{operation id}` in the customer's partition, with the keys
of the records and a column for each export that is to get them; without exports there is none. `shared.exports`
sends what it names. The rows `e_…` of budgets' events (see `budget_events`) are delivered from the same place. So that
nobody has to look through all customers, those that may have something to send have a row in the partition `~outbox`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec

from shared.billing.budget_events import FIRST as EVENTS_FIRST
from shared.billing.budget_events import LAST as EVENTS_LAST
from shared.clock import now
from shared.lru import LRU
from shared.storage.base import Row, RowChanged, RowExists, Table

PARTITION = "~outbox"
"""No customer's id begins so. A row's key is a customer, or `~` and the name of an export."""
LAST_KEY = "~~"
"""Behind all keys of PARTITION."""
FRESH = timedelta(minutes=30)
"""How long a worker relies on a customer's row in PARTITION."""
MIN_AGE = timedelta(hours=2)
"""How long such a row is kept at least: longer than any worker relies on it."""
FIRST, LAST = "o_", "o`"
"""The range of the keys of outbox rows."""
_RECORDS = ("u_", "c_")
"""How the keys of rows begin that are exported: usage records, and closed jobs without one (see `usage_records`)."""
MAX_RECORDS = 25
"""Of a row: what is noted of them, with the longest reasons, fits a column (64 KiB). More have more than one row."""
_MAX_CUSTOMERS = 10_000
_MILLISECOND = timedelta(milliseconds=1)


def event_id(customer: str, key: str) -> str:
    """Return the id of the event that a row is exported as: always the same, and no other row has it."""
    return f"u_{hashlib.sha256(f'{customer}/{key}'.encode()).hexdigest()[:40]}"


def export_column(export: str) -> str:
    """Return the column of an outbox row that says how far an export has come with it. A name has no `_`."""
    return f"to_{export.replace('-', '_')}"


def outbox_key(at: datetime) -> str:
    """Return how the key of a row begins that was written at that time: the later, the larger."""
    return f"o_{(at - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND:014}"


def outbox_row(customer: str, keys: Sequence[str], exports: Sequence[str], at: datetime, suffix: str) -> Row:
    """Return the row that has the records with these keys sent by these exports."""
    columns = {export_column(export): "open" for export in exports}
    values = {"at": at, "records": msgspec.json.encode(keys), **columns}
    return Row(customer, f"{outbox_key(at)}_{suffix}", values)


@dataclass(slots=True)
class Outbox:
    """What transactions have to write so that `shared.exports` sends something. `clock` returns monotonic seconds."""

    table: Table
    exports: Sequence[str] = ()
    """The names of the configured exports."""
    clock: Callable[[], float] = time.monotonic
    _announced: LRU[str, float] = field(default_factory=lambda: LRU[str, float](_MAX_CUSTOMERS))

    async def with_outbox(self, rows: Sequence[Row], operation_id: str = "") -> Sequence[Row]:
        """
        Return the rows of a transaction, with outbox rows if there are records among them and exports to get them.

        The customer is announced first. Raises StorageUnavailable.
        """
        records = [row.key for row in rows if row.key.startswith(_RECORDS)]
        if not (records and self.exports):
            return rows
        customer, at, suffix = rows[0].partition, now(), operation_id or uuid4().hex
        await self.announce(customer)
        parts = [records[start : start + MAX_RECORDS] for start in range(0, len(records), MAX_RECORDS)]
        return [
            *rows,
            *(outbox_row(customer, part, self.exports, at, f"{suffix}.{n}") for n, part in enumerate(parts)),
        ]

    async def announce(self, customer: str) -> None:
        """
        Have the customer's outbox looked at: to be called before anything is written that is to be sent.

        Costs one or two operations every half an hour. Raises StorageUnavailable.
        """
        at = self._announced.get(customer)
        if at is not None and self.clock() - at < FRESH.total_seconds():
            return
        started, row = self.clock(), Row(PARTITION, customer, {"at": now()})
        while not await self._is_announced(row):
            pass
        self._announced.set(customer, started)

    async def announce_left(self, customer: str) -> None:
        """
        Have the customer's outbox looked at if it holds something. Raises StorageUnavailable.

        A worker whose clock was hours ahead may have taken it for one that nobody announces any more.
        """
        for first, last, where in ((FIRST, LAST, {}), (EVENTS_FIRST, EVENTS_LAST, {"state eq": "waiting"})):
            page = await self.table.page(customer, first, last, where=where, columns=())
            if page.rows or page.after:
                return await self.announce(customer)
        return None

    async def _is_announced(self, row: Row) -> bool:
        """Insert or renew the customer's row. False: it has just changed."""
        try:
            await self.table.insert(row)
        except RowExists as exc:
            if exc.row is None:
                return False
            if now() - exc.row.values["at"] < FRESH:
                return True
            try:
                await self.table.merge(replace(row, etag=exc.row.etag))
            except RowChanged:
                return False
        return True

"""
A customer's row: the profile, whether its jobs are run, and its budgets. Key `customer` in the customer's partition.

One read gives all that a job has to know of its customer. Each change is one transaction with its audit entry.
Imported for every job, so the contract's types are only imported if they are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from shared.errors import StorageUnavailable
from shared.lru import LRU
from shared.single_flight import SingleFlight
from shared.storage.base import Row, RowConflict, Table

if TYPE_CHECKING:
    from shared.contract.budget import Budget
    from shared.contract.customer import CustomerProfile

FRESH_S = 10.0
"""Seconds for which a worker takes a customer's row as it was read."""
RECORD_KEY = "customer"
_MAX_CUSTOMERS = 10_000
_MAX_TRIES = 20
"""Of a change, while others change the same row."""
_COLUMNS = ("profile", "state", "budgets")


@dataclass(frozen=True)
class CustomerRecord:
    """A customer's row. A customer without one has the defaults."""

    customer: str
    state: Literal["active", "suspended"] = "active"
    profile_json: str = ""
    budgets_json: str = ""
    etag: str = ""

    @cached_property
    def profile(self) -> CustomerProfile:
        """The profile."""
        from shared.contract.customer import CustomerProfile  # noqa: PLC0415  # hardly any job needs it

        return msgspec.json.decode(self.profile_json or "{}", type=CustomerProfile)

    @cached_property
    def budgets(self) -> Mapping[str, Budget]:
        """The budgets, by name."""
        from shared.contract.budget import Budget  # noqa: PLC0415  # most jobs have none

        return msgspec.json.decode(self.budgets_json or "{}", type=dict[str, Budget])

    def with_budgets(self, budgets: Mapping[str, Budget]) -> CustomerRecord:
        """Return the record with other budgets."""
        return replace(self, budgets_json=msgspec.json.encode(budgets).decode() if budgets else "")

    def with_profile(self, profile: CustomerProfile) -> CustomerRecord:
        """Return the record with another profile."""
        text = msgspec.json.encode(profile).decode()
        return replace(self, profile_json="" if text == "{}" else text)

    def with_state(self, state: Literal["active", "suspended"]) -> CustomerRecord:
        """Return the record in another state."""
        return replace(self, state=state)

    def members(self) -> dict[str, Any]:
        """Return what an audit entry can show of it: the profile's members, the budgets by name, and the state."""
        texts = (self.profile_json, self.budgets_json)
        profile, budgets = (msgspec.json.decode(text or "{}") for text in texts)
        return {**profile, **{f"budget {name}": budget for name, budget in budgets.items()}, "state": self.state}


class CustomerRecords:
    """The rows of all customers. `clock` counts seconds. Every method raises StorageUnavailable."""

    def __init__(self, table: Table, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._table, self._clock = table, clock
        self._recent = LRU[str, tuple[float, CustomerRecord]](_MAX_CUSTOMERS)
        self._reads = SingleFlight[str, CustomerRecord]()

    async def read(self, customer: str) -> CustomerRecord:
        """Return the customer's record, freshly read."""
        return _record(customer, await self._table.read(customer, RECORD_KEY))

    async def recent(self, customer: str) -> CustomerRecord:
        """Return the customer's record, at most FRESH_S old. It is read once for all who wait for it."""
        cached = self._cached(customer)
        return cached or await self._reads.run(customer, partial(self._read_recent, customer))

    def prefetch(self, customer: str) -> CustomerRecord | None:
        """Return what the next `recent` returns, if that is in memory; else begin to read it."""
        cached = self._cached(customer)
        if cached is None:
            self._reads.start(customer, partial(self._read_recent, customer))
        return cached

    async def change(
        self, customer: str, change: Callable[[CustomerRecord], CustomerRecord], *, by: str, subject: str
    ) -> CustomerRecord:
        """
        Replace the record by what `change` returns for the current one, and write an audit entry about what differs.

        If somebody else has changed the record meanwhile, `change` is called again, so it must do nothing else. What it
        raises leaves the record as it is. A record that it returns unchanged is not written.
        """
        row = await self._table.read(customer, RECORD_KEY)
        for _ in range(_MAX_TRIES):
            before = _record(customer, row)
            after = change(before)
            if before == after:
                break
            try:
                after = replace(after, etag=await self._write(before, after, by, subject))
            except RowConflict as exc:
                row = exc.row
                continue
            break
        else:
            raise StorageUnavailable(f"The record of customer {customer} is being changed by others all the time.", 5)
        self._reads.forget(customer)  # what it reads may be older
        self._recent.set(customer, (self._clock(), after))
        return after

    async def _write(self, before: CustomerRecord, after: CustomerRecord, by: str, subject: str) -> str:
        from shared.billing.audit import audit_row, differences  # noqa: PLC0415  # no job changes it

        old, new = differences(before.members(), after.members())
        entry = audit_row(before.customer, by=by, subject=subject, before=old, after=new)
        row = Row(before.customer, RECORD_KEY, _values(after), before.etag)
        if before.etag:
            return (await self._table.merge_and_insert(row, [entry]))[0]
        return await self._table.insert(row, beside=[entry])

    def _cached(self, customer: str) -> CustomerRecord | None:
        cached = self._recent.get(customer)
        return cached[1] if cached is not None and self._clock() - cached[0] < FRESH_S else None

    async def _read_recent(self, customer: str) -> CustomerRecord:
        read_at = self._clock()
        record = await self.read(customer)
        if self._reads.is_current(customer):
            self._recent.set(customer, (read_at, record))
        return record


def _record(customer: str, row: Row | None) -> CustomerRecord:
    if row is None:
        return CustomerRecord(customer)
    values: dict[str, Any] = {name: row.values.get(name) or "" for name in _COLUMNS}
    return CustomerRecord(customer, values["state"] or "active", values["profile"], values["budgets"], row.etag)


def _values(record: CustomerRecord) -> Mapping[str, str]:
    return dict(zip(_COLUMNS, (record.profile_json, record.state, record.budgets_json), strict=True))

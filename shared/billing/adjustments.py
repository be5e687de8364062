"""
Credits and debits of customers: append-only rows `d_{month}_{id}` in the customer's partition.

An id is unique within the customer, whatever its month: `d_id_{id}` names the month. The two rows and the audit entry
are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from shared.billing.audit import audit_row
from shared.billing.closed_records import ClosedRecords
from shared.billing.customer_records import CustomerRecords
from shared.billing.money import EXACT, amount_text, exact_sum, places_of
from shared.billing.price_books import PriceBooks
from shared.clock import now, rfc3339
from shared.contract.adjustment import Adjustment, AdjustmentPage, NewAdjustment
from shared.errors import InvalidJob, JobConflict, StorageUnavailable
from shared.storage.base import Row, RowExists, Table

_PREFIX = "d_"
_ID_PREFIX = "d_id_"
_LAST = "d_:"
"""Behind all months, and before the rows of ids."""
MONTHS = (_PREFIX, _LAST)
"""The range of the keys of adjustments, without the rows of their ids."""
_DOCUMENT = "adjustment"


@dataclass(frozen=True, slots=True)
class Adjustments:
    """The credits and debits of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def add(self, customer: str, new: NewAdjustment, *, by: str) -> tuple[Adjustment, bool]:
        """
        Return the adjustment, and whether it is new.

        The same id with the same content returns the one that exists. Raises JobConflict for other content.
        """
        new = _canonical(new)
        at = now()
        adjustment = Adjustment(**msgspec.structs.asdict(new), at=rfc3339(at), by=by)
        row = Row(customer, f"{_PREFIX}{new.month}_{new.id}", {_DOCUMENT: msgspec.json.encode(adjustment).decode()})
        entry = audit_row(
            customer,
            by=by,
            subject=f"adjustment {new.id}",
            before={},
            after=msgspec.structs.asdict(new),
        )
        try:
            await self.table.insert(Row(customer, f"{_ID_PREFIX}{new.id}", {"key": row.key}), beside=[row, entry])
        except RowExists as exc:
            existing = await self._existing(customer, exc.row)
            if msgspec.structs.replace(adjustment, at=existing.at, by=existing.by) != existing:
                message = (
                    f"The id {new.id} belongs to another credit or debit of customer {customer}, of {existing.month}."
                )
                raise JobConflict(message) from None
            return existing, False
        return adjustment, True

    async def exists(self, customer: str, id_: str) -> bool:
        """Return whether the customer has a credit or debit with this id, of whatever month."""
        return await self.table.read(customer, f"{_ID_PREFIX}{id_}") is not None

    async def currency(self, customer: str, month: str, records: CustomerRecords, books: PriceBooks) -> str | None:
        """
        Return the currency of the customer's documents of a month, which an adjustment must have: that of a closed one.

        Else the profile's, or the price book's; None if nothing names any.
        """
        closed = await ClosedRecords(self.table).list(customer, month)
        if closed:
            return closed[0].currency
        profile, book = (await records.read(customer)).profile, await books.current()
        return profile.currency or (book.book.currency if book else None)

    async def takes_back(self, customer: str, new: NewAdjustment) -> bool:
        """Return whether it takes back some of what its month has in its currency, or exists already."""
        listed = [each for each in await self.list(customer, new.month) if each.currency == new.currency]
        total = exact_sum(Decimal(each.amount) for each in listed)
        return any(each.id == new.id for each in listed) or abs(EXACT.add(total, Decimal(new.amount))) < abs(total)

    async def list(self, customer: str, month: str) -> list[Adjustment]:
        """Return all adjustments of a month such as `2026-11`, in the order of their ids."""
        prefix = f"{_PREFIX}{month}_"
        return [_read(row) async for row in self.table.scan(customer, prefix, f"{prefix}~")]

    async def page(self, customer: str, *, after: str, limit: int, month: str | None = None) -> AdjustmentPage:
        """Return up to `limit` adjustments, of one month or of all. `after` is where an earlier page ended."""
        prefix = f"{_PREFIX}{month}_" if month else _PREFIX
        first, last = f"{_PREFIX}{after}!" if after else prefix, f"{prefix}~" if month else _LAST
        rows: list[Row] = []
        async for row in self.table.scan(customer, max(first, prefix), last):
            rows.append(row)
            if len(rows) > limit:
                break
        continuation = rows[limit - 1].key.removeprefix(_PREFIX) if len(rows) > limit else None
        return AdjustmentPage(adjustments=[_read(row) for row in rows[:limit]], continuation=continuation)

    async def _existing(self, customer: str, pointer: Row | None) -> Adjustment:
        row = await self.table.read(customer, pointer.values["key"]) if pointer else None
        if row is None:
            raise StorageUnavailable(f"The customer {customer} is just being erased.", 5)
        return _read(row)


def in_currency(adjustments: Iterable[Adjustment], currency: str) -> list[Adjustment]:
    """
    Return a month's adjustments that are in the currency of its documents.

    Raises InvalidJob, which names one, unless those in another currency take each other back.
    """
    listed = list(adjustments)
    for other in sorted({each.currency for each in listed} - {currency}):
        those = [each for each in listed if each.currency == other]
        if exact_sum(Decimal(each.amount) for each in those):
            raise InvalidJob(
                f"The credit or debit {those[-1].id} is in {other}, the customer's documents in {currency}."
            )
    return [each for each in listed if each.currency == currency]


def month_of(row: Row) -> str:
    """Return the month of an adjustment's row."""
    return row.key.removeprefix(_PREFIX).partition("_")[0]


def rows_of(row: Row) -> list[Row]:
    """Return an adjustment's row and that of its id, to be deleted."""
    id_ = row.key.removeprefix(_PREFIX).partition("_")[2]
    return [Row(row.partition, key, {}) for key in (row.key, f"{_ID_PREFIX}{id_}")]


def _canonical(new: NewAdjustment) -> NewAdjustment:
    """Return the adjustment with its amount in one form: the currency's places, or as many as it needs."""
    amount = Decimal(new.amount).normalize()
    places = -min(int(amount.as_tuple().exponent), 0)
    if places < places_of(new.currency):
        amount = amount.quantize(Decimal(1).scaleb(-places_of(new.currency)))
    return msgspec.structs.replace(new, amount=amount_text(amount))


def _read(row: Row) -> Adjustment:
    return msgspec.json.decode(row.values[_DOCUMENT], type=Adjustment)

"""
What a person sees of the outboxes, and decides: events that wait, were refused, or are in doubt.

Every decision is made at the row's etag, in one transaction with the day's tally and an audit entry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared.billing.audit import audit_row
from shared.billing.customer_records import CustomerRecords
from shared.billing.money import EXACT, exact_sum
from shared.billing.outbox import FIRST, LAST, LAST_KEY, PARTITION, event_id
from shared.billing.usage_records import day_of
from shared.clock import now
from shared.contract.names import is_name
from shared.errors import StorageUnavailable
from shared.export_settings import Export
from shared.exports.events import NO_EXTERNAL_ID, EventMaker
from shared.exports.outbox_rows import DONE, EventState, OutboxRow, read_tally, tally_key, tally_row
from shared.storage.base import Row, RowChanged, RowConflict, Table

Decision = Literal["received", "not_received", "retry"]
_FROM: dict[Decision, str] = {"received": "in_doubt", "not_received": "in_doubt", "retry": "refused"}
"""The state that each decision is about."""
_MAX_TRIES = 20
_MAX_SUBSETS = 100_000
"""Sums of values that are tried: more doubtful events than that are decided by naming them."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event of one export that the receiver does not have for certain."""

    customer: str
    export: str
    id: str
    key: str
    """Of the usage record."""
    at: datetime
    """When its outbox row was written."""
    state: EventState


class NotDecidable(Exception):
    """The receiver's total does not say which events it has; the message says what it could be."""


@dataclass(frozen=True)
class Outboxes:
    """The outboxes of all customers. Every method raises StorageUnavailable."""

    table: Table
    records: CustomerRecords

    async def customers(self) -> list[str]:
        """Return the customers that may have something in their outbox."""
        return [row.key async for row in self.table.scan(PARTITION, "", LAST_KEY) if is_name(row.key)]

    async def events(self, customer: str, exports: Sequence[Export]) -> AsyncIterator[OutboxEvent]:
        """Iterate over what the exports have not sent of a customer, the oldest first."""
        record = await self.records.read(customer)
        no_id = {export.name for export in exports if not EventMaker(export, record).subject}
        async for row in self.table.scan(customer, FIRST, LAST):
            outbox = OutboxRow(row)
            for export in exports:
                if outbox.word(export.name) in ("", DONE):
                    continue
                for key, state in zip(outbox.keys, outbox.states(export.name), strict=True):
                    if state.state in ("sent", "left_out"):
                        continue
                    if state == EventState() and export.name in no_id:
                        state = EventState(reason=NO_EXTERNAL_ID)  # noqa: PLW2901  # nobody has written that
                    yield OutboxEvent(customer, export.name, event_id(customer, key), key, outbox.at, state)

    async def decide(
        self, customer: str, export: str, decision: Decision, ids: Collection[str] | None, *, by: str
    ) -> int:
        """Decide about the events with these ids, None being all that the decision can be about; return how many."""
        concerned = [
            row.key
            async for row in self.table.scan(customer, FIRST, LAST)
            if (outbox := OutboxRow(row)).word(export) not in ("", DONE)
            and any(each.state == _FROM[decision] for each in outbox.states(export))
        ]
        decided = sum([await self._decide(customer, key, export, decision, ids, by) for key in concerned])
        if decided:
            await self._announce_decision(customer)
        return decided

    async def _announce_decision(self, customer: str) -> None:
        """Have workers look through the customer's outbox from its first row."""
        row = Row(PARTITION, customer, {"at": now(), "decided_at": now()})
        for _ in range(_MAX_TRIES):
            with suppress(RowConflict):
                await (self.table.merge(row) if row.etag else self.table.insert(row))
                return
            current = await self.table.read(PARTITION, customer)
            row = replace(row, etag="" if current is None else current.etag)

    async def _decide(
        self, customer: str, key: str, export: str, decision: Decision, ids: Collection[str] | None, by: str
    ) -> int:
        for _ in range(_MAX_TRIES):
            row = await self.table.read(customer, key)
            outbox = None if row is None else OutboxRow(row)
            if outbox is None or not outbox.word(export):
                return 0
            states, sent = outbox.states(export), dict[str, list[EventState]]()
            names = [event_id(customer, each) for each in outbox.keys]
            chosen = [
                number
                for number, state in enumerate(states)
                if state.state == _FROM[decision] and (ids is None or names[number] in ids)
            ]
            if not chosen:
                return 0
            for number in chosen:
                states[number] = _DECIDED[decision](states[number])
                if decision == "received":
                    day = day_of(Row(customer, outbox.keys[number], {}))
                    sent.setdefault(tally_key(day, export), []).append(states[number])
            tallies = [
                tally_row(customer, each, read_tally(await self.table.read(customer, each)), states)
                for each, states in sent.items()
            ]
            entry = audit_row(
                customer,
                by=by,
                subject=f"export {export}",
                before={"state": _FROM[decision]},
                after={"decision": decision, "events": [names[number] for number in chosen]},
            )
            try:
                await self.table.merge_and_insert(outbox.change(export, states), [*tallies, entry])
            except RowChanged:
                continue
            return len(chosen)
        raise StorageUnavailable(f"The outbox of customer {customer} is being changed by others all the time.")

    async def sent(self, customer: str, export: str, first: date, last: date) -> Decimal:
        """Return the sum of the values of what an export has been sent of some days."""
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        rows = [await self.table.read(customer, tally_key(day, export)) for day in days]
        return exact_sum(read_tally(row).value for row in rows)


_DECIDED: dict[Decision, Callable[[EventState], EventState]] = {
    "received": EventState.sent,
    "not_received": lambda _: EventState(tries=1),  # a person can be wrong, and the receiver know better
    "retry": EventState.renewed,
}


def received_of(total: Decimal, sent: Decimal, doubtful: Sequence[OutboxEvent]) -> list[OutboxEvent]:
    """
    Return which of the events in doubt a receiver has whose total of their days is `total`, `sent` being certain.

    Raises NotDecidable if no events, or more than one choice of them, make up the difference.
    """
    difference = EXACT.subtract(total, sent)
    values = [Decimal(event.state.value or "0") for event in doubtful]
    everything = exact_sum(values)
    could_be = f"{sent:f} if it has none of them, {EXACT.add(sent, everything):f} if it has all"
    if difference == everything:
        return list(doubtful)
    # The choices of events by their sum; None: more than one choice has this sum.
    choices: dict[Decimal, tuple[int, ...] | None] = {Decimal(0): ()}
    for number, value in enumerate(values):
        for total_so_far, choice in list(choices.items()):
            with_it = EXACT.add(total_so_far, value)
            is_new = with_it not in choices
            choices[with_it] = (*choice, number) if is_new and choice is not None else None
        if len(choices) > _MAX_SUBSETS:
            raise NotDecidable(f"There are too many events in doubt. The receiver's total would be {could_be}.")
    if difference not in choices:
        raise NotDecidable(f"No choice of the events in doubt makes that total. It would be {could_be}.")
    choice = choices[difference]
    if choice is None:
        raise NotDecidable(f"More than one choice of the events in doubt makes that total. It would be {could_be}.")
    return [doubtful[number] for number in choice]

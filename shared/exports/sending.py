"""
Sends one customer's events to one receiver, so that each counts there once.

Events are marked `sending` in a transaction, posted, and marked `sent` in another one, which also counts them in the
day's tally. After a crash in between they are posted again as they were, with the same id and time, while the receiver
recognizes them; after that they are `in_doubt`, and nobody sends them unless a person says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from shared.billing.pricing import Pricing
from shared.billing.usage_records import day_of
from shared.clock import now
from shared.errors import StorageUnavailable
from shared.exports.event_prices import EventPrices
from shared.exports.events import Event, EventMaker, Waiting
from shared.exports.outbox_rows import OPEN, EventState, OutboxRow, read_tally, tally_key, tally_row
from shared.exports.posting import Position, Receipts, post
from shared.exports.receivers import Receiver, Verdict
from shared.secret import Secret
from shared.storage.base import Row, RowChanged, Table
from shared.storage.bulk import gather_limited

MAX_MARKED = 100
"""Events that are marked at once: a crash leaves no more than these uncertain."""
_REQUESTS_IN_TURN = 20
"""Fewer, if more requests than these would be made one after the other: they would take longer than BUSY."""
_MAX_ROWS = 90
"""Rows of a transaction; tallies are beside them."""
_MAX_DAYS = 5
"""Days of the rows of a transaction. The records of a row can be of two."""
_MAX_KEYS = 1000
"""Records that the rows of a transaction name: their states are in it."""
_RECHECK = timedelta(minutes=15)
"""How often an event is looked at that waits for a price."""
_MAX_TRIES = 5
"""Of a write, while others change the same rows."""
KNOWN_FROM_ELSEWHERE = "The receiver has an event with this id, but not from this export."


@dataclass(frozen=True)
class Sender:
    """Sends what one export is to get of one customer."""

    table: Table
    maker: EventMaker
    prices: EventPrices
    receiver: Receiver
    key: Secret
    receipts: Receipts

    async def send(self, rows: Sequence[OutboxRow], deadline: datetime) -> None:
        """Send what is due in the rows, a batch after the other, until the deadline. Raises StorageUnavailable."""
        for batch in self._batches(rows, now()):
            at = now()
            if at > deadline or self.receipts.is_blocked(self.maker.record.customer, at):
                return
            await self._send_batch(batch, deadline)

    def _batches(self, rows: Sequence[OutboxRow], at: datetime) -> Iterator[list[OutboxRow]]:
        """Yield the rows that have something due, as many as one transaction can mark."""
        name, receiver = self.maker.export.name, self.receiver
        limit = min(MAX_MARKED, _REQUESTS_IN_TURN * receiver.at_once * receiver.max_events)
        batch: list[OutboxRow] = []
        events, keys, days = 0, 0, set[date]()
        for row in rows:
            due = sum(self._is_due(state, at) for state in row.states(name)) if row.word(name) == OPEN else 0
            if not due:
                continue
            days.add(row.at.date())
            is_full = len(batch) == _MAX_ROWS or events + due > limit or keys + len(row.keys) > _MAX_KEYS
            if batch and (is_full or len(days) > _MAX_DAYS):
                yield batch
                batch, events, keys, days = [], 0, 0, {row.at.date()}
            batch.append(row)
            events, keys = events + due, keys + len(row.keys)
        if batch:
            yield batch

    def _is_due(self, state: EventState, at: datetime) -> bool:
        # Without the customer's id at the receiver, only what was sent with one can go on.
        return state.is_due(at) and (bool(self.maker.subject) or state.state == "sending")

    async def _send_batch(self, batch: Sequence[OutboxRow], deadline: datetime) -> None:
        name = self.maker.export.name
        before = [row.states(name) for row in batch]
        marked, events = await self._prepare(batch, before)
        if not await self._mark(batch, before, marked):
            return
        self._count(before, marked)
        if not events:
            return
        states = {(number, index): marked[number][index] for number, index in events}
        verdicts = await post(self.receiver, self.key, self.receipts, events, states, deadline)
        await self._conclude(batch, marked, verdicts, events)

    async def _prepare(
        self, batch: Sequence[OutboxRow], states: Sequence[Sequence[EventState]]
    ) -> tuple[list[list[EventState]], dict[Position, Event]]:
        """Return the states that are to be marked, and the events that are to be posted."""
        at, marked, events = now(), [list(each) for each in states], dict[Position, Event]()
        due = [
            (number, index)
            for number, each in enumerate(states)
            for index, state in enumerate(each)
            if self._is_due(state, at)
        ]
        partition = batch[0].row.partition
        records = await gather_limited(self.table.read(partition, batch[number].keys[index]) for number, index in due)
        for (number, index), record in zip(due, records, strict=True):
            state = states[number][index]
            marked[number][index], event = self._next(state, record, await self._pricings(record), at)
            if event is not None:
                events[number, index] = event
        return marked, events

    async def _pricings(self, record: Row | None) -> Sequence[Pricing]:
        if record is None or self.maker.export.value != "amount":
            return ()
        return await self.prices.read(f"{day_of(record):%Y-%m}")

    def _next(
        self, state: EventState, record: Row | None, pricings: Sequence[Pricing], at: datetime
    ) -> tuple[EventState, Event | None]:
        if state.is_outside(self.receiver.window, at):
            return state.in_doubt(), None
        if record is None:  # its retention has ended, or it was erased
            return EventState("left_out"), None
        if state.state == "sending":  # as it was sent before
            return state.sending(at), self.maker.event(record, state.subject, state.value, state.currency)
        made = self.maker.make(record, pricings)
        if made is None:
            return EventState("left_out"), None
        if isinstance(made, Waiting):
            return state.postponed(at, _RECHECK, made.reason), None
        if state.since is not None:  # it was refused, and may have been received before that
            made = replace(made, value=state.value, currency=state.currency)
        return state.sending(at, subject=made.subject, value=made.value, currency=made.currency), made

    async def _mark(
        self,
        batch: Sequence[OutboxRow],
        before: Sequence[Sequence[EventState]],
        marked: Sequence[Sequence[EventState]],
    ) -> bool:
        """Write the states. Return whether nobody else has changed one of the rows."""
        changed = [number for number in range(len(batch)) if list(before[number]) != list(marked[number])]
        if not changed:
            return True
        changes = [batch[number].change(self.maker.export.name, marked[number]) for number in changed]
        try:
            await self._write([batch[number] for number in changed], changes, ())
        except RowChanged:
            return False
        return True

    async def _write(self, rows: Sequence[OutboxRow], changes: Sequence[Row], beside: Sequence[Row]) -> None:
        """Write changes of rows, and other rows, in one transaction. Raises RowChanged, StorageUnavailable."""
        first, *rest = changes
        etags = await self.table.merge_and_insert(first, [*rest, *beside])
        if len(etags) < len(changes):  # the write's first answer got lost, and with it the other etags
            await self._reread(rows)
            return
        for row, change, etag in zip(rows, changes, etags, strict=False):
            row.written(change, etag)

    async def _conclude(
        self,
        batch: Sequence[OutboxRow],
        marked: Sequence[Sequence[EventState]],
        verdicts: Mapping[Position, Verdict],
        events: Mapping[Position, Event],
    ) -> None:
        """Write what became of the events, and add those that were taken to the tallies of their days."""
        name, customer = self.maker.export.name, batch[0].row.partition
        for _ in range(_MAX_TRIES):
            at, rows, changes, taken = now(), [], [], dict[str, list[EventState]]()
            after = [list(states) for states in marked]
            for number, row in enumerate(batch):
                current = row.states(name)
                for index, state in enumerate(current):
                    # Somebody else may have decided about an event in the meantime.
                    if (number, index) in events and state == marked[number][index]:
                        verdict = verdicts.get((number, index), Verdict("again", state.reason))
                        current[index] = _after(state, verdict, at)
                        if current[index].state == "sent":
                            taken.setdefault(tally_key(day_of(_record(row, index)), name), []).append(current[index])
                after[number] = current
                if current != row.states(name):
                    rows.append(row)
                    changes.append(row.change(name, current))
            if not changes:
                return
            tallies = [
                tally_row(customer, key, read_tally(await self.table.read(customer, key)), sent)
                for key, sent in taken.items()
            ]
            try:
                await self._write(rows, changes, tallies)
            except RowChanged:
                await self._reread(batch)
                continue
            self._count(marked, after)
            return
        raise StorageUnavailable(f"The outbox of customer {customer} is being changed by others all the time.")

    async def _reread(self, batch: Sequence[OutboxRow]) -> None:
        rows = await gather_limited(self.table.read(row.row.partition, row.row.key) for row in batch)
        for each, row in zip(batch, rows, strict=True):
            # Without a row, a person has erased the customer: nothing is left to note.
            each.row = row or Row(each.row.partition, each.row.key, {"records": each.row.values["records"]})

    def _count(self, before: Sequence[Sequence[EventState]], after: Sequence[Sequence[EventState]]) -> None:
        for old, new in zip(before, after, strict=True):
            changed = (new_state for state, new_state in zip(old, new, strict=True) if state.state != new_state.state)
            self.receipts.counts.update(state.state for state in changed)


def _after(state: EventState, verdict: Verdict, at: datetime) -> EventState:
    """Return the state of an event that was sent, by what became of it."""
    if verdict.kind == "taken":
        return state.sent()
    if verdict.kind == "known":
        return state.sent() if state.tries > 1 else state.in_doubt(KNOWN_FROM_ELSEWHERE)
    if verdict.kind == "refused":
        return state.refused(verdict.reason)
    if verdict.kind == "unknown":
        return state.uncertain(at, verdict.reason)
    return state.not_taken(at, verdict.reason, alone=verdict.kind == "alone")


def _record(row: OutboxRow, index: int) -> Row:
    return Row(row.row.partition, row.keys[index], {})

"""
The delivery of what customers' outboxes hold: usage records to the exports' receivers, and budgets' events.

A timer runs it every minute, for a limited time. It goes to the customers that may have something to send, some at a
time and beginning anywhere, so that none is always the last. Two runs may overlap: every change is made at a row's
etag.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.billing.customer_records import CustomerRecords
from shared.billing.outbox import LAST, LAST_KEY, MIN_AGE, PARTITION
from shared.billing.price_books import PriceBooks
from shared.clock import now
from shared.contract.names import is_name
from shared.errors import StorageUnavailable, VaultUnavailable
from shared.event_names import (
    EXPORT_FAILING,
    EXPORT_IN_DOUBT,
    EXPORT_LAG,
    EXPORT_REFUSED,
    EXPORT_SENT,
    EXPORTS_SKIPPED,
    NAMESPACE,
)
from shared.export_settings import Export
from shared.exports.budget_delivery import BudgetEvents
from shared.exports.event_prices import EventPrices
from shared.exports.events import EventMaker
from shared.exports.export_status import ExportStatus, is_status, read_status
from shared.exports.keys import ExportKeys, NoKey, shared_keys
from shared.exports.outbox_rows import OPEN, WINDOW_MARGIN, OutboxRow
from shared.exports.posting import Receipts
from shared.exports.receivers import MAX_WAIT_S, Receiver
from shared.exports.scans import Scans
from shared.exports.sending import Sender
from shared.jobs.crash_log import log_crash, log_text
from shared.secret import Secret
from shared.storage.base import Row, RowConflict, Table
from shared.storage.bulk import delete_rows, gather_limited
from shared.telemetry.base import Telemetry

RUN_S = 45.0
"""Seconds for which one run sends; the next one, a minute later, continues."""
_RETRY = timedelta(minutes=1)
"""How long an export without a key of its own is left alone."""
_LONGEST_WAIT = timedelta(seconds=MAX_WAIT_S) + WINDOW_MARGIN
"""A receiver that is to be left alone for longer was met by a worker whose clock was wrong."""

log = logging.getLogger(NAMESPACE)


@dataclass(slots=True)
class _Open:
    """An export that this run can send to."""

    export: Export
    receiver: Receiver
    key: Secret
    receipts: Receipts
    is_failing: bool = False
    """Whether the last run failed at it."""
    oldest: datetime | None = None
    """The time of the oldest row with something to send."""

    def note(self, at: datetime) -> None:
        """Note a row with something to send."""
        self.oldest = min(at, self.oldest or at)


@dataclass(frozen=True)
class Delivery:
    """Sends what is in the outboxes."""

    table: Table
    records: CustomerRecords
    price_books: PriceBooks
    receivers: Mapping[str, Receiver]
    """By the exports' names."""
    exports: Sequence[Export]
    keys: ExportKeys
    budget_events: BudgetEvents
    telemetry: Telemetry
    chance: random.Random = field(default_factory=random.Random)
    scans: Scans = field(default_factory=Scans)

    async def run(self, *, seconds: float = RUN_S) -> None:
        """Send what is due. Raises StorageUnavailable if it can't be found out; one customer holds up no other."""
        deadline = now() + timedelta(seconds=seconds)
        rows = [row async for row in self.table.scan(PARTITION, "", LAST_KEY)]
        customers = [row for row in rows if is_name(row.key)]
        statuses = {status.export: status for status in map(read_status, filter(is_status, rows))}
        own = [statuses.get(export.name) for export in self.exports]
        if not customers and not any(status is not None and status.failing_since for status in own):
            return
        opened = await gather_limited(self._open(export, statuses.get(export.name)) for export in self.exports)
        shared = shared_keys((each.export, each.key) for each in opened)
        for each in opened:
            if each.export.name in shared:
                each.receipts.block(shared[each.export.name], now() + _RETRY)
        # One that takes the whole time of a run is not always the first.
        order = sorted(opened, key=lambda each: (each.is_failing, self.chance.random()))
        start = self.chance.randrange(len(customers) or 1)
        skipped = await gather_limited(
            self._deliver(row, order, deadline) for row in customers[start:] + customers[:start]
        )
        if any(skipped):
            log.warning("%s customers=%d", EXPORTS_SKIPPED, sum(skipped))
        for each in opened:
            status = statuses.get(each.export.name) or ExportStatus(each.export.name)
            if any(skipped) and status.oldest is not None:
                each.note(status.oldest)  # it may be one of those
            await self._report(each, status)

    async def _open(self, export: Export, status: ExportStatus | None) -> _Open:
        receipts, key, at = Receipts(), Secret(""), now()
        if status is not None and status.blocked_until is not None and at < status.blocked_until <= at + _LONGEST_WAIT:
            receipts.block(status.error, status.blocked_until)
        if export.needs_key and export.kind != "cloudevents":
            try:
                key = await self.keys.get(export.name)
            except (NoKey, VaultUnavailable) as exc:
                receipts.block(str(exc), at + _RETRY)
        is_failing = bool(receipts.failures) or (status is not None and status.failing_since is not None)
        return _Open(export, self.receivers[export.name], key, receipts, is_failing)

    async def _deliver(self, announced: Row, opened: Sequence[_Open], deadline: datetime) -> bool:
        """Send what one customer's outbox holds. Return whether Storage or the time did not allow it."""
        if now() > deadline:
            return True
        customer = announced.key
        try:
            # At the same time: the customer may have chosen the addresses of its events, and they may not answer.
            left = await gather_limited(
                [self.budget_events.deliver(customer, deadline), self._send(announced, opened, deadline)]
            )
            if not any(left) and now() - announced.values["at"] > MIN_AGE:
                await self.table.delete([announced])
        except StorageUnavailable as exc:
            log.warning("%s customer=%s: %s", EXPORTS_SKIPPED, customer, log_text(exc))
            return True
        except Exception as exc:  # noqa: BLE001  # a fault of ours, of which the other customers know nothing
            log_crash(exc, f"customer={customer} exports")
            return True
        return False

    async def _send(self, announced: Row, opened: Sequence[_Open], deadline: datetime) -> bool:
        """Send what is in the outbox's rows, a page after the other. Return whether there may be any left."""
        customer = announced.key
        senders = await self._senders(customer, opened)
        able = frozenset(each.export.name for each, sender in senders if sender.maker.subject)
        scan = self.scans.get(customer, able, now(), announced.values.get("decided_at"))
        waiting, open_key, has_rows, after = dict(scan.waiting), "", False, ""
        while True:
            page = await self.table.page(customer, scan.first, LAST, after=after)
            rows = [OutboxRow(row) for row in page.rows]
            has_rows |= bool(rows)
            for each, sender in senders:
                await sender.send(rows, deadline)
                left = next((row for row in rows if row.word(each.export.name) == OPEN), None)
                if left is not None and each.export.name in able:
                    each.note(left.at)
                    open_key = min(open_key or left.row.key, left.row.key)
                elif left is not None:
                    waiting.setdefault(each.export.name, left.at)
            done = [Row(row.row.partition, row.row.key, {}, row.row.etag) for row in rows if row.is_done]
            await delete_rows(self.table, done)
            after, at = page.after, now()
            goes_on = any(each.export.name in able and not each.receipts.is_blocked(customer, at) for each in opened)
            if not (after and goes_on) or at > deadline:
                break
        for each in opened:
            if each.export.name in waiting:
                each.note(waiting[each.export.name])
        self.scans.set(customer, scan.after(now(), open_key, rows[-1].row.key if after and rows else "", waiting))
        return has_rows or not scan.is_whole

    async def _senders(self, customer: str, opened: Sequence[_Open]) -> list[tuple[_Open, Sender]]:
        record = await self.records.read(customer)
        prices = EventPrices(self.table, self.price_books, self.records, customer)
        return [
            (
                each,
                Sender(self.table, EventMaker(each.export, record), prices, each.receiver, each.key, each.receipts),
            )
            for each in opened
        ]

    async def _report(self, opened: _Open, status: ExportStatus) -> None:
        """Log what the run did for an export, and write how that is doing."""
        name, receipts, at = opened.export.name, opened.receipts, now()
        if receipts.key_refused:
            self.keys.forget(name)
        after = status.after(receipts, opened.oldest, at)
        lag_s = (at - opened.oldest).total_seconds() if opened.oldest else 0.0
        self.telemetry.exported(name, receipts.counts, lag_s)
        counts = receipts.counts
        if counts["sent"]:
            log.info("%s export=%s events=%d", EXPORT_SENT, name, counts["sent"])
        if counts["refused"]:
            log.warning("%s export=%s events=%d", EXPORT_REFUSED, name, counts["refused"])
        if counts["in_doubt"]:
            log.error("%s export=%s events=%d", EXPORT_IN_DOUBT, name, counts["in_doubt"])
        if after.error:
            log.warning("%s export=%s: %s", EXPORT_FAILING, name, after.error)
        if opened.oldest:
            log.info("%s export=%s lag_s=%d", EXPORT_LAG, name, lag_s)
        if after.differs(status):
            row = after.row()
            with suppress(RowConflict):  # another run has just written its own
                await (self.table.merge(row) if row.etag else self.table.insert(row))

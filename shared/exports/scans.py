"""
How far this worker has looked through each customer's outbox. In memory, so that rows that wait for weeks, because the
customer has no id at one of the receivers, are not read every minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.billing.outbox import FIRST, outbox_key
from shared.lru import LRU

RESCAN = timedelta(hours=1)
"""How often an outbox is looked through from its first row, whatever is known of it."""
OVERLAP = timedelta(minutes=15)
"""How much of the end is looked through again: a row is written a little later than its key says."""
_MAX_CUSTOMERS = 10_000


@dataclass(frozen=True, slots=True)
class Scan:
    """Where to go on with a customer's outbox."""

    begun_at: datetime
    """When it was last looked through from its first row."""
    able: frozenset[str]
    """The exports at whose receivers the customer has an id: the others' rows are not read again."""
    decided_at: datetime | None = None
    first: str = FIRST
    waiting: Mapping[str, datetime] = field(default_factory=dict)
    """The time of the oldest row of each other export."""

    @property
    def is_whole(self) -> bool:
        """Whether it begins at the first row."""
        return self.first == FIRST

    def after(self, at: datetime, open_key: str, reached: str, waiting: Mapping[str, datetime]) -> Scan:
        """
        Return where to go on. `open_key`: the first row that has something to send; `reached`: the last row that was
        read if there are more.
        """
        first = reached or outbox_key(at - OVERLAP)
        return replace(self, first=min(first, open_key or first), waiting=waiting)


@dataclass(slots=True)
class Scans:
    """The outboxes of all customers."""

    _scans: LRU[str, Scan] = field(default_factory=lambda: LRU[str, Scan](_MAX_CUSTOMERS))

    def get(self, customer: str, able: frozenset[str], at: datetime, decided_at: datetime | None) -> Scan:
        """
        Return where to go on with a customer who has an id for these exports. `decided_at`: when a person last decided
        about events, which may be any.
        """
        scan = self._scans.get(customer)
        if scan is None or (scan.able, scan.decided_at) != (able, decided_at) or abs(at - scan.begun_at) >= RESCAN:
            return Scan(at, able, decided_at)
        return scan

    def set(self, customer: str, scan: Scan) -> None:
        """Remember where to go on."""
        self._scans.set(customer, scan)

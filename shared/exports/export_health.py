"""How the exports are doing, in a word for anybody: what the health route says of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.billing.outbox import PARTITION
from shared.clock import now
from shared.errors import StorageUnavailable
from shared.exports.export_status import LAST_STATUS_KEY, STATUS_PREFIX, ExportStatus, read_status
from shared.storage.base import Table

FRESH_S = 60.0
"""Seconds for which a worker takes the word as it was: the caller is anybody, and must not cost a read each time."""
_TIMEOUT_S = 2.0
"""Of a read: the app responds whatever Storage does."""

HealthWord = Literal["ok", "late", "failing", "unknown"]


def word_for(statuses: Iterable[ExportStatus], at: datetime) -> HealthWord:
    """Return `failing` if an export's receiver can't be reached or its key is wrong, else `late` if one is late."""
    statuses = list(statuses)
    if any(status.failing_since for status in statuses):
        return "failing"
    return "late" if any(status.is_late(at) for status in statuses) else "ok"


@dataclass(slots=True)
class ExportHealth:
    """The word for the exports with these names, as the timer's last runs have met them."""

    table: Table
    exports: Sequence[str]
    clock: Callable[[], float] = time.monotonic
    _word: HealthWord = "unknown"
    _read_at: float = float("-inf")

    async def word(self) -> HealthWord:
        """Return how the worst export is doing; `unknown` if Storage does not say. At most FRESH_S old."""
        if self.clock() - self._read_at >= FRESH_S:
            self._read_at = self.clock()  # first: others that come meanwhile get the last word
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    rows = [row async for row in self.table.scan(PARTITION, STATUS_PREFIX, LAST_STATUS_KEY)]
            except (StorageUnavailable, TimeoutError):
                self._word = "unknown"
            else:
                statuses = map(read_status, rows)
                self._word = word_for((each for each in statuses if each.export in self.exports), now())
        return self._word

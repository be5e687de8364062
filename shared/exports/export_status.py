"""How each export is doing: rows `~{export}` in the partition `~outbox`, written by the timer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.billing.outbox import LAST_KEY, PARTITION
from shared.exports.posting import Receipts
from shared.storage.base import Row

STATUS_PREFIX = "~"
LAST_STATUS_KEY = LAST_KEY
"""The statuses are the last rows of the partition."""
MAX_LAG = timedelta(hours=1)
"""How old the oldest record may be that is not sent."""
_NEVER = ""


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """What the last run met."""

    export: str
    at: datetime | None = None
    """When the last run was."""
    oldest: datetime | None = None
    """The time of the oldest record that is not sent yet; None if there is none."""
    failing_since: datetime | None = None
    error: str = ""
    blocked_until: datetime | None = None
    etag: str = ""

    def after(self, receipts: Receipts, oldest: datetime | None, at: datetime) -> ExportStatus:
        """Return the status after a run."""
        if receipts.failures:
            since, blocked_until = self.failing_since or at, receipts.blocked_until
            return ExportStatus(self.export, at, oldest, since, receipts.fault, blocked_until, self.etag)
        if oldest is None or receipts.has_worked:
            return ExportStatus(self.export, at, oldest, etag=self.etag)
        return replace(self, at=at, oldest=oldest)  # nothing was tried

    def is_late(self, at: datetime) -> bool:
        """Return whether something waits that should have been sent by now."""
        return self.oldest is not None and at - self.oldest >= MAX_LAG

    def differs(self, other: ExportStatus) -> bool:
        """Return whether more than the time of the run is different."""
        names = ("oldest", "failing_since", "error", "blocked_until")
        return any(getattr(self, name) != getattr(other, name) for name in names)

    def row(self) -> Row:
        """Return it as a row. A time that there is not is text, because a merge leaves missing columns as they are."""
        times = {name: getattr(self, name) for name in ("at", "oldest", "failing_since", "blocked_until")}
        texts = {name: _NEVER if time is None else time.isoformat() for name, time in times.items()}
        return Row(PARTITION, f"{STATUS_PREFIX}{self.export}", {**texts, "error": self.error}, self.etag)


def is_status(row: Row) -> bool:
    """Return whether a row of the partition is an export's, and not a customer's."""
    return row.key.startswith(STATUS_PREFIX)


def read_status(row: Row) -> ExportStatus:
    """Return the status in a row."""
    values: Mapping[str, Any] = row.values
    at, oldest, failing_since, blocked_until = (
        datetime.fromisoformat(values[name]) if values[name] else None
        for name in ("at", "oldest", "failing_since", "blocked_until")
    )
    export = row.key.removeprefix(STATUS_PREFIX)
    return ExportStatus(export, at, oldest, failing_since, values["error"], blocked_until, row.etag)

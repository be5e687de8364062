"""What is reported of batches: that one has ended, or will hardly end in time."""

from __future__ import annotations

import logging
from datetime import datetime

from shared.batches.records import HARVESTED, BatchRecord
from shared.clock import now
from shared.event_names import BATCH_ENDED, BATCH_LATE, NAMESPACE
from shared.telemetry.base import Telemetry

LATE_SHARE = 0.8
"""Of the time from a batch's opening until it is cancelled, after which it is late if it has not ended."""

log = logging.getLogger(NAMESPACE)


def is_late(batch: BatchRecord, at: datetime) -> bool:
    """Return whether most of the batch's time is over, and it has not ended."""
    late_at = batch.opened_at + LATE_SHARE * (batch.cancel_at - batch.opened_at)
    return batch.state not in HARVESTED and at >= late_at


def report_lateness(batch: BatchRecord) -> None:
    """Log that a batch is late, if it is and its jobs still wait for it."""
    if is_late(batch, at := now()) and not batch.is_overdue:
        log.warning(
            "%s customer=%s batch=%s state=%s status=%s lines=%d left_s=%d",
            *(BATCH_LATE, batch.customer, batch.batch_id, batch.state, batch.provider_status or "-", batch.lines),
            (batch.cancel_at - at).total_seconds(),
        )


def report_end(batch: BatchRecord, telemetry: Telemetry) -> None:
    """Report that a batch has ended and its jobs continue."""
    status, age_s = batch.provider_status or "not_sent", (now() - batch.opened_at).total_seconds()
    log.info(
        "%s customer=%s batch=%s status=%s lines=%d answered=%d failed=%d age_s=%d",
        *(BATCH_ENDED, batch.customer, batch.batch_id, status, batch.lines, batch.answered, batch.failed, age_s),
    )
    telemetry.batch_ended(batch.customer, status, {"answered": batch.answered, "failed": batch.failed}, age_s)

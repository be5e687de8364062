"""A queue message as it was delivered: when its job was submitted first, and what a rejected one ends with."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from shared.contract.job import MAX_DEADLINE_S
from shared.errors import InvalidJob
from shared.jobs.envelope import Envelope, QueuedJob
from shared.jobs.message import Delivery, rejected, restore_envelope
from tests.support.rows import every_row

DELIVERED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
DELIVERY = Delivery(b"{}", "m-1", DELIVERED)
LONGEST = timedelta(seconds=MAX_DEADLINE_S)


def job(submitted_at: datetime | None = None, **members: object) -> QueuedJob:
    envelope = None if submitted_at is None else Envelope(submitted_at=submitted_at)
    return QueuedJob(customer="acme", action="chat", envelope=envelope, **members)  # type: ignore[arg-type]


@every_row(
    ("envelope", "submitted_at"),
    [
        (None, DELIVERED),
        (DELIVERED - timedelta(hours=1), DELIVERED - timedelta(hours=1)),
        (DELIVERED - timedelta(seconds=1), DELIVERED - timedelta(seconds=1)),
        (DELIVERED, DELIVERED),
        (DELIVERED + timedelta(days=3), DELIVERED),
        (DELIVERED - LONGEST, DELIVERED - LONGEST),
        (DELIVERED - LONGEST - timedelta(seconds=1), DELIVERED - LONGEST),
        (datetime(1, 1, 1, tzinfo=UTC), DELIVERED - LONGEST),
    ],
)
def test_the_first_submission_time_is_bounded(envelope: datetime | None, submitted_at: datetime):
    """
    The envelope's time counts, unless it is later than the delivery or earlier than any deadline reaches back: anybody
    can write it.
    """
    sent = job(envelope)

    assert (sent, Delivery(b"{}", "m-1", submitted_at)) == restore_envelope(sent, DELIVERY)


def test_a_rejected_job_repeats_what_is_valid():
    """The result has the job's own id, customer and metadata, so that its sender finds it, and no attempt."""
    members = {"job_id": "mine", "customer": "acme", "action": "chat", "metadata": {"a": "b"}, "input": 7}

    result = rejected(Delivery(json.dumps(members).encode(), "m-1", DELIVERED), InvalidJob("`input` is wrong."))

    assert ("mine", "acme", "chat", {"a": "b"}) == (result.job_id, result.customer, result.action, result.metadata)
    assert result.error is not None
    assert ("failed", "invalid_job", "`input` is wrong.", 0) == (
        result.status,
        result.error.code,
        result.error.message,
        result.attempts,
    )
    assert "2026-11-20T13:12:00.000Z" == result.submitted_at
    assert result.started_at == result.finished_at is not None

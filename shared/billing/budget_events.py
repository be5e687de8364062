"""
Budgets' events as rows: `e_{period}_{budget}_{unit}_{event}` in the customer's partition. Pure.

The transaction that crosses a line inserts the row, so that each event has one row, whatever crashes. `shared.exports`
posts `body` to `address`, signed with the customer's signing secret, until the receiver takes it. A row outlives its
delivery, because it also says that the event has been: retention removes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from shared.clock import rfc3339
from shared.storage.base import Row

FIRST, LAST = "e_", "e`"
"""The range of the keys of budgets' events."""


def budget_event_row(
    customer: str,
    *,
    period: str,
    budget: str,
    unit: str,
    threshold: int | None,
    address: str | None,
    data: Mapping[str, Any],
    at: datetime,
) -> Row:
    """
    Return the row of an event, to be inserted: one for each budget, period (`2026-11` or `2026-11-29`) and line.

    A budget with another `unit` counts anew, and so do its events. `threshold` is the percentage of `budget.threshold`,
    None for `budget.projected`. Without an `address` it is not delivered; the row says all the same that it has been.
    Announce the customer before it is inserted (`Outbox.announce`): otherwise nobody looks for it.
    """
    key = f"e_{period}_{budget}_{unit}_{'projected' if threshold is None else threshold}"
    body = {
        "id": f"e_{hashlib.sha256(f'{customer}/{key}'.encode()).hexdigest()[:40]}",
        "type": "budget.projected" if threshold is None else "budget.threshold",
        "timestamp": rfc3339(at),
        "data": {"customer": customer, "budget": budget, "period": period, "unit": unit, **data},
    }
    values = {
        "at": at,
        "address": address or "",
        "body": msgspec.json.encode(body),
        "state": "waiting" if address else "silent",
        "tries": 0,
    }
    return Row(customer, key, values)

"""What batches have saved so far: what their recorded calls would have cost more by standard processing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from shared.batches.records import BatchRecord
from shared.billing.priced_sum import PricedSum
from shared.billing.pricing import Pricing
from shared.billing.usage_records import RECORD, day_of, metered_key
from shared.clock import now
from shared.storage.base import Table
from shared.storage.bulk import read_pages

_ANSWERED = {"processing eq": "batch", "outcome eq": "answered"}


async def saved_by(table: Table, pricing: Pricing, batches: Sequence[BatchRecord]) -> dict[str, dict[str, Any]]:
    """
    Return the members `amount`, `saved` and `currency` of batches of one customer, by id, as a statement's lines have.

    A call counts once its job has got its answer, so a batch that nobody has been woken for has none. Raises
    StorageUnavailable.
    """
    if not batches:
        return {}
    customer, sums = batches[0].customer, {batch.batch_id: PricedSum() for batch in batches}
    first, last = min(sums), max(sums)
    batch_of: dict[str, str] = {}
    lines = metered_key(f"line-{first}-"), metered_key(f"line-{last}.")
    async for rows in read_pages(table, customer, *lines, columns=(RECORD,)):
        for row in rows:
            batch_of[row.values[RECORD]] = row.key.removeprefix(metered_key("line-")).rpartition("-")[0]
    if batch_of:
        opened = min(batch.opened_at for batch in batches)
        days = f"u_{opened:%Y-%m-%d}", f"u_{now() + timedelta(days=2):%Y-%m-%d}"
        async for rows in read_pages(table, customer, *days, where=_ANSWERED):
            for row in rows:
                if (total := sums.get(batch_of.get(row.key, ""))) is not None:
                    total.add(pricing, customer, day_of(row), row.values)
    return {batch_id: total.line(pricing.currency) for batch_id, total in sums.items() if total.is_priced}

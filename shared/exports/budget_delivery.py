"""Delivers budgets' events: the rows `e_…` of one customer, signed like callbacks, each until its receiver takes it."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.billing.budget_events import FIRST, LAST
from shared.clock import now
from shared.errors import VaultUnavailable
from shared.event_names import BUDGET_EVENT_DELIVERED, BUDGET_EVENT_FAILED, BUDGET_EVENT_WAITING, NAMESPACE
from shared.exports.receivers import one_line
from shared.storage.base import Row, RowChanged, Table
from shared.upstream.client import UpstreamClient
from shared.webhooks.signed_post import RETRY_DELAYS_S, SignedMessage, TryStatus, post_signed
from shared.webhooks.signing import Signing

_BUSY = timedelta(minutes=2)
"""How long an event that is being delivered is left to whoever delivers it."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class BudgetEvents:
    """Delivers events. At least once: a crash after a delivery causes another one, with the same id."""

    table: Table
    client: UpstreamClient
    signing: Signing

    async def deliver(self, customer: str, deadline: datetime) -> bool:
        """Make a try of each event that is due. Return whether any is left. Raises StorageUnavailable."""
        left, after = False, ""
        while True:
            page = await self.table.page(customer, FIRST, LAST, where={"state eq": "waiting"}, after=after)
            for row in page.rows:
                if row.values.get("due_at", row.values["at"]) > now() or now() > deadline:
                    left = True
                else:
                    left |= await self._try(row)
            after = page.after
            if not after:
                return left

    async def _try(self, row: Row) -> bool:
        """Make a try of one event. Return whether another one is needed."""
        try:
            etag = await self.table.merge(Row(row.partition, row.key, {"due_at": now() + _BUSY}, row.etag))
        except RowChanged:
            return True
        values = await self._post(row, int(row.values["tries"]))
        try:
            await self.table.merge(Row(row.partition, row.key, values, etag))
        except RowChanged:
            return True
        event = {"delivered": BUDGET_EVENT_DELIVERED, "failed": BUDGET_EVENT_FAILED}.get(
            values["state"], BUDGET_EVENT_WAITING
        )
        log.log(
            logging.WARNING if values["state"] == "failed" else logging.INFO,
            "%s customer=%s event=%s tries=%d error=%s",
            *(event, row.partition, row.key, values["tries"], values["error"] or "-"),
        )
        return bool(values["state"] == "waiting")

    async def _post(self, row: Row, tries: int) -> dict[str, Any]:
        """Return the columns after a try."""
        body: bytes = row.values["body"]
        event_id = msgspec.json.decode(body)["id"]
        message = SignedMessage(row.partition, event_id, row.values["address"], body, member="notify")
        try:
            result = await post_signed(self.client, self.signing, message, tries)
        except VaultUnavailable as exc:
            return _columns("waiting", tries, str(exc), RETRY_DELAYS_S[1])
        return _columns(result.status, tries + 1, result.error, result.delay_s)


def _columns(state: TryStatus, tries: int, error: str = "", delay_s: float = 0) -> dict[str, Any]:
    delay_s *= random.uniform(1, 1.1)  # noqa: S311  # so that many do not come back at once
    return {"state": state, "tries": tries, "error": one_line(error), "due_at": now() + timedelta(seconds=delay_s)}

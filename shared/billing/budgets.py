"""Budgets as jobs use them: which of them apply to a job, and their buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

from shared.billing.bucket_rows import PoolKey
from shared.billing.budget_events import budget_event_row
from shared.billing.budget_pool import BudgetPool
from shared.billing.customer_records import CustomerRecords
from shared.billing.money import amount_text
from shared.billing.outbox import Outbox
from shared.clock import now
from shared.contract.budget import Budget
from shared.contract.price_book import MAX_AMOUNT
from shared.lru import LRU
from shared.storage.base import Row, Table

_MAX_POOLS = 10_000


@dataclass(slots=True)
class Budgets:
    """The budgets of all customers. Every method raises StorageUnavailable."""

    table: Table
    records: CustomerRecords
    outbox: Outbox
    _pools: LRU[PoolKey, BudgetPool] = field(default_factory=lambda: LRU[PoolKey, BudgetPool](_MAX_POOLS))

    def pool(self, key: PoolKey) -> BudgetPool:
        """Return the buckets of a budget in a period, as this worker knows them."""
        pool = self._pools.get(key)
        if pool is None:
            pool = BudgetPool(key, self.table, partial(self._fresh, key), partial(self._events, key))
            self._pools.set(key, pool)
        return pool

    async def _fresh(self, key: PoolKey, budget: Budget) -> Budget:
        """
        Return a budget's definition, freshly read.

        That of a connection, or of a budget that was deleted or has another unit or period since, stays as it is.
        """
        record = await self.records.read(key.customer)
        current = record.budgets.get(key.budget, budget)
        return current if (current.unit, current.period) == (key.unit, key.kind) else budget

    async def _events(self, key: PoolKey, thresholds: Sequence[int], limit: Decimal, spent: Decimal) -> list[Row]:
        # A job may have begun long ago, and what a worker has left behind is settled without a definition.
        budget, at = (await self.records.read(key.customer)).budgets.get(key.budget), now()
        address = budget.notify if budget and (budget.unit, budget.period) == (key.unit, key.kind) else None
        if address:
            await self.outbox.announce(key.customer)
        return [
            budget_event_row(
                key.customer,
                period=key.period,
                budget=key.budget,
                unit=key.unit,
                threshold=threshold,
                address=address,
                data={
                    "threshold": threshold,
                    "limit": amount_text(limit),
                    "spent": amount_text(spent),
                },
                at=at,
            )
            for threshold in thresholds
        ]


def applying(budgets: Mapping[str, Budget], connection: str, model: str) -> Iterator[tuple[str, Budget]]:
    """Return the budgets, by name, that count a job on this connection and model."""
    for name, budget in budgets.items():
        if budget.connection in (None, connection) and (
            budget.model is None or budget.model.lower() == model.lower()
        ):  # Azure ignores the case
            yield name, budget


def connection_budget(connection: str, amount: float, currency: str) -> tuple[str, Budget]:
    """Return a connection's `monthly_budget` as a budget. No other can have its name."""
    limit = min(Decimal(str(amount)), MAX_AMOUNT)
    return f"connection--{connection}", Budget(limit=limit, unit=currency, period="month", connection=connection)

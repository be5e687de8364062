"""A customer's budgets as documents, with what is used of them, and changes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import msgspec

from shared.billing.bucket_rows import period_start, pool_key
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecord
from shared.billing.money import EXACT, amount_text
from shared.clock import now, rfc3339
from shared.contract.budget import Budget, BudgetDocument, check_together

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class BudgetViews:
    """The budgets of all customers. Every method raises StorageUnavailable."""

    budgets: Budgets

    async def list(self, customer: str) -> list[BudgetDocument]:
        """Return the customer's budgets, in the order of their names."""
        record, at = await self.budgets.records.read(customer), now()
        return [await self._document(customer, name, budget, at) for name, budget in sorted(record.budgets.items())]

    async def get(self, customer: str, name: str) -> BudgetDocument | None:
        """Return a budget, None if there is no budget of that name."""
        budget = (await self.budgets.records.read(customer)).budgets.get(name)
        return None if budget is None else await self._document(customer, name, budget, now())

    async def put(self, customer: str, name: str, budget: Budget, *, by: str) -> BudgetDocument:
        """
        Make or replace a budget.

        Raises InvalidJob if the customer can't have it beside the others, PermissionError if a customer would replace
        one of the operator's.
        """

        def change(record: CustomerRecord) -> CustomerRecord:
            _check_owner(record, name, budget.owner == "operator")
            budgets = {**record.budgets, name: budget}
            check_together(budgets)
            return record.with_budgets(budgets)

        await self.budgets.records.change(customer, change, by=by, subject=f"budget {name}")
        return await self._document(customer, name, budget, now())

    async def delete(self, customer: str, name: str, *, by: str, is_operator: bool) -> bool:
        """Delete a budget. Return whether there was one of that name. Raises PermissionError as `put`."""
        existed = False

        def change(record: CustomerRecord) -> CustomerRecord:
            nonlocal existed
            existed = name in record.budgets
            _check_owner(record, name, is_operator)
            return record.with_budgets({other: each for other, each in record.budgets.items() if other != name})

        await self.budgets.records.change(customer, change, by=by, subject=f"budget {name}")
        return existed

    async def _document(self, customer: str, name: str, budget: Budget, at: datetime) -> BudgetDocument:
        pool = await self.budgets.pool(pool_key(customer, name, budget, at)).find()
        spent, reserved = (pool.spent, pool.reserved) if pool else (_ZERO, _ZERO)
        remaining = EXACT.subtract(budget.limit, EXACT.add(spent, reserved))
        return BudgetDocument(
            **msgspec.structs.asdict(budget),
            name=name,
            period_start=rfc3339(period_start(budget.period, at)),
            spent=amount_text(spent),
            reserved=amount_text(reserved),
            remaining=amount_text(max(remaining, _ZERO)),
        )


def _check_owner(record: CustomerRecord, name: str, is_operator: bool) -> None:
    current = record.budgets.get(name)
    if current is not None and current.owner == "operator" and not is_operator:
        raise PermissionError

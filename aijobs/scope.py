"""Which customers, and which month, a command is about."""

from __future__ import annotations

from aijobs.diagnostics import InvalidArguments
from shared.billing.periods import is_month
from shared.contract.names import NAME_RULE, is_name
from shared.jobs.queries import all_customers
from shared.storage.base import Table


def check_customer(customer: str) -> str:
    """Return the customer's id. Raises InvalidArguments if it is invalid."""
    if not is_name(customer):
        raise InvalidArguments(f"The customer's id must be {NAME_RULE}.")
    return customer


def check_optional_customer(customer: str | None) -> str | None:
    """Return the customer's id, None for all customers. Raises InvalidArguments if it is invalid."""
    return None if customer is None else check_customer(customer)


def check_month(month: str) -> str:
    """Return the value of `--month`. Raises InvalidArguments if it is invalid."""
    if not is_month(month):
        raise InvalidArguments("--month must be a month, such as 2026-11.")
    return month


async def customers_of(table: Table, customer: str | None) -> list[str]:
    """Return the customer, or all that have a row if it is None."""
    return [customer] if customer is not None else [name async for name in all_customers(table)]

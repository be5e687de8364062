"""What all customers used: a line for each. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.billing.periods import Days
from shared.contract.statement import CustomerUsage, Statement, UsageOverview, UsageTotals


def overview_of(days: Days, statements: Iterable[Statement], *, continuation: str | None = None) -> UsageOverview:
    """Return the totals of statements of these days, one a line; a customer that used nothing has none."""
    lines = [_line(statement) for statement in statements if statement.lines]
    return UsageOverview(
        month=days.month, from_=f"{days.first}", to=f"{days.last}", lines=lines, continuation=continuation
    )


def _line(statement: Statement) -> CustomerUsage:
    totals = statement.totals
    members = {name: getattr(totals.answered, name) for name in UsageTotals.__struct_fields__}
    return CustomerUsage(
        customer=statement.customer, lost=totals.lost.records, unanswered=totals.unanswered.records, **members
    )


def overview_for_customer(overview: UsageOverview) -> UsageOverview:
    """Return an overview as callers see it that are tied to a customer: without list prices."""
    lines = [msgspec.structs.replace(line, list_amount=None) for line in overview.lines]
    return msgspec.structs.replace(overview, lines=lines)

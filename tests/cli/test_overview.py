"""The table of what all customers used."""

from __future__ import annotations

import pytest

from aijobs.overview import overview_text
from aijobs.table import Table
from shared.billing.periods import Days
from shared.contract.statement import CustomerUsage, UsageOverview

NONE = CustomerUsage(customer="a", records=0, calls=0, unreported=0, jobs=0, lost=0, unanswered=1)
SOME = CustomerUsage(
    customer="b",
    records=1,
    calls=1,
    unreported=0,
    jobs=1,
    lost=0,
    unanswered=0,
    amount="1.50",
    currency="EUR",
    unpriced=0,
)


@pytest.mark.parametrize("lines", [(NONE, SOME), (SOME, NONE)])
def test_amounts_are_shown_if_any_customer_has_them(lines: tuple[CustomerUsage, ...]):
    """Also if the first has no answered call, and so nothing that could have a price."""
    overview = UsageOverview(month="2026-11", from_="2026-11-01", to="2026-11-30", lines=list(lines))

    (table,) = (part for part in overview_text(overview, Days.of_month("2026-11")) if isinstance(part, Table))

    assert {"amount", "currency"} <= set(table.columns)

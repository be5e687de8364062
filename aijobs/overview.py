"""What all customers used, as a table."""

from __future__ import annotations

from decimal import Decimal

from aijobs.console import plural
from aijobs.table import Table, make_table
from shared.billing.money import amount_text, exact_sum
from shared.billing.periods import Days
from shared.contract.statement import CustomerUsage, UsageOverview

_COLUMNS = ("customer", "jobs", "calls", "input", "output", "uncertain", "no price", "amount", "currency")


def overview_text(overview: UsageOverview, days: Days) -> list[str | Table]:
    """Return the overview for people."""
    if not overview.lines:
        return [f"Nobody has used anything in {days}."]
    rows = [[_shown(cell) for cell in _cells(line)] for line in overview.lines]
    has_prices = any(line.currency for line in overview.lines)  # a customer without an answered call has no currency
    money = set() if has_prices else {"no price", "amount", "currency"}
    shown = [index for index, name in enumerate(_COLUMNS) if name not in money]
    table = make_table(
        [_COLUMNS[index] for index in shown],
        [[row[index] for index in shown] for row in rows],
        numeric=frozenset(_COLUMNS) - {"customer", "currency"},
    )
    words = "Input and output are numbers of tokens. Uncertain calls were lost or unanswered, and are not in the line."
    return [f"Usage of {plural(len(rows), 'customer')} in {days}. {words}", table, *_totals(overview)]


def _cells(line: CustomerUsage) -> tuple[object, ...]:
    uncertain = line.lost + line.unanswered
    return (
        *(line.customer, line.jobs, line.calls, line.input_tokens, line.output_tokens),
        *(uncertain or None, line.unpriced or None, line.amount, line.currency),
    )


def _shown(value: object) -> object:
    return "-" if value is None else value


def _totals(overview: UsageOverview) -> list[str]:
    amounts: dict[str, list[Decimal]] = {}
    for line in overview.lines:
        if line.amount is not None and line.currency is not None:
            amounts.setdefault(line.currency, []).append(Decimal(line.amount))
    if not amounts:
        return []
    sums = ", ".join(f"{amount_text(exact_sum(each))} {currency}" for currency, each in sorted(amounts.items()))
    return [f"Answered: {sums}."]

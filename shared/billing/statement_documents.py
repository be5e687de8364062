"""
What the documents of a closed month contain: lines and their total, the differences of a correction, CSV. Pure.

The same facts always make the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from shared.billing.money import EXACT, amount_text, exact_sum, round_line, round_total
from shared.billing.periods import Days
from shared.billing.statement_csv import encode_table
from shared.billing.usage_entries import FIXED_DIMENSIONS
from shared.contract.adjustment import Adjustment
from shared.contract.closed_month import ClosedMonth, DocumentLine, InternalMonth
from shared.contract.price_book import Markup, PriceBook
from shared.contract.statement import Statement, StatementLine, UnpricedCalls
from shared.contract.usage import COUNTS

DIMENSIONS = ("model", "action", "connection")
"""What the lines of a document are grouped by, besides what all lines are grouped by."""
_LABELS = (*DIMENSIONS, *FIXED_DIMENSIONS)
_COUNTED = ("records", "calls", "jobs", "unpriced")
_AMOUNTS = ("amount", "saved", "list_amount")
_CSV_COLUMNS = (
    *("number", "customer", "month", "kind", "adjustment", "description"),
    *(*_LABELS, "records", "calls", *COUNTS, "jobs", "amount", "currency", "unpriced", "saved"),
)
_NUMBERS = frozenset({"amount", "saved"})
_Labels = tuple[str | None, ...]


def usage_lines(statement: Statement, outcomes: Iterable[str]) -> list[DocumentLine]:
    """Return the lines of a statement that are billed: those with one of the outcomes."""
    billed = frozenset(outcomes)
    return [_usage_line(line) for line in statement.lines if line.kind is None and line.outcome in billed]


def adjustment_lines(adjustments: Iterable[Adjustment], currency: str) -> list[DocumentLine]:
    """Return a line for each credit and debit."""
    return [_adjustment_line(each, currency) for each in sorted(adjustments, key=lambda each: each.id)]


def differences(
    current: Sequence[DocumentLine], documented: Iterable[DocumentLine], currency: str
) -> list[DocumentLine]:
    """
    Return the lines that a correction has: what `current` differs from all `documented` lines in.

    Usage is compared label by label; a credit or debit is documented once.
    """
    sums: dict[_Labels, DocumentLine] = {}
    adjusted = set[str | None]()
    for line in documented:
        if line.kind == "usage":
            sums[_labels(line)] = _combined(sums.get(_labels(line)), line, 1, currency)
        else:
            adjusted.add(line.adjustment)
    lines = []
    for line in (line for line in current if line.kind == "usage"):
        earlier = sums.pop(_labels(line), None)
        lines.append(line if earlier is None else _combined(line, earlier, -1, currency))
    lines += [_combined(None, line, -1, currency) for line in sums.values()]  # is not in the statement any more
    changed = sorted((line for line in lines if _is_change(line)), key=lambda line: tuple(map(str, _labels(line))))
    return [*changed, *(line for line in current if line.kind != "usage" and line.adjustment not in adjusted)]


def unpriced_differences(current: Iterable[UnpricedCalls], documented: Iterable[UnpricedCalls]) -> list[UnpricedCalls]:
    """Return the calls without a price that no earlier document lists."""
    earlier: Counter[tuple[str, str, str | None]] = Counter()
    for each in documented:
        earlier[each.model, each.outcome, each.reason] += each.records
    added = (
        msgspec.structs.replace(each, records=each.records - earlier[each.model, each.outcome, each.reason])
        for each in current
    )
    return [each for each in added if each.records > 0]


def with_total(lines: Sequence[DocumentLine], currency: str) -> tuple[list[DocumentLine], str]:
    """Return the lines, with one for what rounding the total adds to their sum, and the total."""
    exact = exact_sum(Decimal(line.amount) for line in lines if line.amount is not None)
    total = round_total(exact, currency)
    difference = EXACT.subtract(total, exact)
    rounding = [DocumentLine(kind="rounding", amount=amount_text(difference))] if difference else []
    return [*lines, *rounding], amount_text(total)


def markups_of(book: PriceBook, customer: str, month: str) -> list[Markup]:
    """Return the markups of a book that are for this customer, on a day of the month."""
    days = Days.of_month(month)
    return [
        markup
        for markup in book.markups
        if markup.customer in (None, customer)
        and (markup.effective_from or days.first) <= days.last
        and (markup.effective_to is None or markup.effective_to > days.first)
    ]


def number_text(prefix: str, number: int) -> str:
    """Return a document's number as it is printed, such as `contoso-0001`."""
    return f"{prefix.removesuffix('-')}-{number:04}"


def read_number(text: str) -> int:
    """Return the number in a printed one."""
    return int(text.rpartition("-")[2])


def closed_month(internal: InternalMonth, number: int) -> ClosedMonth:
    """Return the customer's document: without what shows list prices, markups and prices."""
    return ClosedMonth(
        customer=internal.customer,
        month=internal.month,
        correction=internal.correction,
        number=number_text(internal.invoice_prefix, number),
        corrects=internal.corrects,
        closed_at=internal.closed_at,
        party=internal.party,
        currency=internal.currency,
        lines=[msgspec.structs.replace(line, list_amount=None) for line in internal.lines],
        total=internal.total,
        unpriced=[msgspec.structs.replace(each, reason=None) for each in internal.unpriced],
    )


def encode_document_csv(document: ClosedMonth) -> bytes:
    """Return the lines of a document as CSV. The sum of the column `amount` is the total."""
    fixed = {
        "number": document.number,
        "customer": document.customer,
        "month": document.month,
        "currency": document.currency,
    }
    rows = [fixed | msgspec.structs.asdict(line) for line in document.lines]
    return encode_table(_CSV_COLUMNS, rows, numbers=_NUMBERS)


def _usage_line(line: StatementLine) -> DocumentLine:
    members: dict[str, Any] = {name: getattr(line, name) or None for name in _LABELS}
    members |= {name: getattr(line, name) or 0 for name in _COUNTED}
    members |= {name: getattr(line, name) for name in (*COUNTS, *_AMOUNTS)}
    return DocumentLine(kind="usage", **members)


def _adjustment_line(adjustment: Adjustment, currency: str) -> DocumentLine:
    amount = Decimal(adjustment.amount)
    return DocumentLine(
        kind="credit" if amount < 0 else "debit",
        adjustment=adjustment.id,
        description=adjustment.description,
        amount=amount_text(round_line(amount, currency)),
    )


def _labels(line: DocumentLine) -> _Labels:
    return tuple(getattr(line, name) for name in _LABELS)


def _combined(line: DocumentLine | None, other: DocumentLine, sign: int, currency: str) -> DocumentLine:
    """Return `line` with the numbers of another line with the same labels added, or subtracted."""
    members: dict[str, Any] = {"kind": "usage", **dict(zip(_LABELS, _labels(other), strict=True))}
    for name in (*_COUNTED, *COUNTS):
        before, added = getattr(line, name, None), getattr(other, name)
        total = round((before or 0) + sign * (added or 0), 6)
        members[name] = total if name in _COUNTED or total else None
    for name in _AMOUNTS:
        before, added = getattr(line, name, None), getattr(other, name)
        amount = EXACT.add(Decimal(before or 0), EXACT.multiply(Decimal(sign), Decimal(added or 0)))
        members[name] = None if before is added is None else amount_text(round_line(amount, currency))
    return DocumentLine(**members)


def _is_change(line: DocumentLine) -> bool:
    counts = any(getattr(line, name) for name in (*_COUNTED, *COUNTS))
    return counts or any(Decimal(getattr(line, name) or 0) for name in _AMOUNTS)

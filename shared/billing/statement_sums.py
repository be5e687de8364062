"""The lines and totals of a statement: usage records in, sums out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from shared.billing.money import amount_text
from shared.billing.periods import Days
from shared.billing.priced_sum import PricedSum, total_of
from shared.billing.pricing import Pricing
from shared.billing.usage_entries import FIXED_DIMENSIONS, Entry, add_exact, as_number
from shared.billing.usage_records import JOBS, is_closed_job
from shared.contract.statement import Statement, StatementLine, StatementTotals, UnpricedCalls, UsageTotals
from shared.contract.usage import COUNTS, all_consistent

DIMENSIONS = ("month", "day", "model", "action", "connection")
"""What lines can be grouped by."""
MEASURES = ("records", "calls", "unreported", *COUNTS, "derived", "consistent", "jobs")
"""What a line sums up."""
MONEY = ("amount", "currency", "unpriced", "saved", "list_amount")
"""What a line costs, if there is a price book."""
_NULLABLE = frozenset({"service_tier", "processing", "deployment_scope"})
_Group = tuple[str, ...]
"""The values of a line's dimensions."""


@dataclass(slots=True)
class _Sum:
    """A sum over usage records."""

    records: int = 0
    calls: int = 0
    unreported: int = 0
    counts: list[Any] = field(default_factory=lambda: [None] * len(COUNTS))
    derived: set[str] = field(default_factory=set)
    consistent: bool | None = None
    jobs: int = 0
    money: PricedSum = field(default_factory=PricedSum)

    def add(self, values: Mapping[str, Any], rows: int) -> None:
        """Add so many usage records with the sums `values`, or closed jobs."""
        self.jobs += values.get(JOBS, 0)
        if is_closed_job(values):
            return
        calls = values.get("calls", 0)
        self.records += rows
        self.calls += calls
        self.unreported += 0 if values.get("reported") else calls
        for index, name in enumerate(COUNTS):
            if (count := values.get(name)) is not None:
                self.counts[index] = add_exact(self.counts[index], count)
        if derived := values.get("derived"):
            self.derived.update(derived.split(","))
        self.consistent = all_consistent(self.consistent, values.get("consistent"))

    def __bool__(self) -> bool:
        """Whether anything is left: a placeholder and what withdraws it may be in one line."""
        return bool(self.records or self.calls or self.jobs or self.money.unpriced.total())

    def add_sum(self, other: _Sum) -> None:
        """Add another sum."""
        self.records += other.records
        self.calls += other.calls
        self.unreported += other.unreported
        self.counts = [add_exact(*pair) for pair in zip(self.counts, other.counts, strict=True)]
        self.derived |= other.derived
        self.jobs += other.jobs
        self.consistent = all_consistent(self.consistent, other.consistent)

    def measures(self) -> dict[str, Any]:
        """Return the sum as the members of UsageTotals."""
        return {
            "records": self.records,
            "calls": self.calls,
            "unreported": self.unreported,
            **dict(zip(COUNTS, map(as_number, self.counts), strict=True)),
            "derived": tuple(sorted(self.derived)),
            "consistent": self.consistent,
            "jobs": self.jobs,
        }


@dataclass(slots=True)
class StatementSums:
    """The lines of a statement that is being read."""

    customer: str
    days: Days
    dimensions: Sequence[str]
    pricing: Pricing | None
    lines: dict[_Group, _Sum] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Add what days have, each to its line."""
        names = (*self.dimensions, *FIXED_DIMENSIONS)
        for entry in entries:
            group = tuple(_dimension_value(entry.values, entry.day, name) for name in names)
            line = self.lines.setdefault(group, _Sum())
            line.add(entry.values, entry.rows)
            if self.pricing is not None:
                line.money.add(self.pricing, self.customer, entry.priced_on, entry.values, entry.rows)

    def statement(self) -> Statement:
        """Return the statement of what was added."""
        lines = [self._line(group, self.lines[group]) for group in sorted(self.lines) if self.lines[group]]
        totals, rounding = self._totals(lines)
        return Statement(
            customer=self.customer,
            month=self.days.month,
            from_=f"{self.days.first}",
            to=f"{self.days.last}",
            by=list(self.dimensions),
            totals=totals,
            lines=[*lines, *rounding],
            unpriced=self._unpriced(),
        )

    def _line(self, group: _Group, line: _Sum) -> StatementLine:
        labels: dict[str, Any] = dict(zip((*self.dimensions, *FIXED_DIMENSIONS), group, strict=True))
        labels |= {name: labels[name] or None for name in _NULLABLE}
        money = {} if self.pricing is None else line.money.line(self.pricing.currency)
        return StatementLine(**labels, **line.measures(), **money)

    def _totals(self, lines: Sequence[StatementLine]) -> tuple[StatementTotals, list[StatementLine]]:
        """Return the totals by outcome, and the lines that make up for their rounding."""
        sums: dict[str, _Sum] = {}
        for line in self.lines.items():
            outcome = line[0][len(self.dimensions) + FIXED_DIMENSIONS.index("outcome")]
            sums.setdefault(outcome, _Sum()).add_sum(line[1])
        # Also without lines, these say that there is a price book.
        money: dict[str, Any] = {} if self.pricing is None else {"currency": self.pricing.currency, "unpriced": 0}
        nothing = UsageTotals(records=0, calls=0, unreported=0, jobs=0, **money)
        totals = dict.fromkeys(StatementTotals.__struct_fields__, nothing)
        totals |= {name: UsageTotals(**each.measures(), **money) for name, each in sums.items()}
        rounding: list[StatementLine] = []
        if self.pricing is not None:
            currency = self.pricing.currency
            for outcome, group in groupby(sorted(lines, key=attrgetter("outcome")), key=attrgetter("outcome")):
                members = [{name: getattr(line, name) for name in MONEY} for line in group]
                amounts, difference = total_of(members, currency)
                totals[outcome] = msgspec.structs.replace(totals[outcome], **amounts)
                if difference:
                    labels = dict.fromkeys(self.dimensions, "")
                    rounding.append(_rounding_line(labels, outcome, amount_text(difference), currency))
        return StatementTotals(**totals), rounding

    def _unpriced(self) -> list[UnpricedCalls]:
        counts: dict[tuple[str, str, str], int] = {}
        for group, line in self.lines.items():
            outcome = group[len(self.dimensions) + FIXED_DIMENSIONS.index("outcome")]
            for unpriced, records in line.money.unpriced.items():
                key = unpriced.model, outcome, unpriced.reason
                counts[key] = counts.get(key, 0) + records
        return [
            UnpricedCalls(model=model, outcome=outcome, records=records, reason=reason)
            for (model, outcome, reason), records in sorted(counts.items())
            if records
        ]


def _rounding_line(labels: dict[str, Any], outcome: str, amount: str, currency: str) -> StatementLine:
    return StatementLine(
        **labels,
        source="",
        provider="",
        billed_to="",
        outcome=outcome,
        kind="rounding",
        records=0,
        calls=0,
        unreported=0,
        jobs=0,
        unpriced=0,
        amount=amount,
        currency=currency,
    )


def _dimension_value(values: Mapping[str, Any], day: date, name: str) -> str:
    if name == "month":
        return f"{day:%Y-%m}"
    if name == "day":
        return f"{day}"
    return values.get(name) or ("answered" if name == "outcome" else "")

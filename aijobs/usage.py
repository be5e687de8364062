"""`usage`: a customer's statement of a month, as a table or as the CSV that the HTTP route gives."""

from __future__ import annotations

import argparse
import sys

from aijobs.console import show, table, tell
from aijobs.diagnostics import Refused
from aijobs.settings import opened
from shared.billing.statement_csv import encode_csv
from shared.billing.statements import CHOICES, USUAL, Statements, is_month
from shared.clock import now
from shared.contract.documents import Statement
from shared.contract.names import NAME_RULE, is_name

_NUMBERS = ("calls", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "images")
_LABELS = ("provider", "billed_to", "outcome")


async def usage(asked: argparse.Namespace) -> int:
    """`usage CUSTOMER`."""
    if not is_name(asked.customer):
        raise Refused(f"CUSTOMER must be a customer's name: {NAME_RULE}.")
    month = asked.month or f"{now():%Y-%m}"
    if not is_month(month):
        raise Refused("--month must be one such as 2026-11.")
    usual = USUAL if asked.csv else ("model",)
    by = usual if asked.by is None else tuple(name.strip() for name in asked.by.split(","))
    if not set(by) <= set(CHOICES):
        raise Refused(f"--by must be some of {', '.join(CHOICES)}, with commas between.")
    async with opened(asked.settings) as services:
        statement = await Statements(services.table).of(asked.customer, month, by)
    if asked.csv:
        sys.stdout.write(encode_csv(statement).decode().replace("\r\n", "\n"))
        return 0
    _show(statement)
    return 0


def _show(statement: Statement) -> None:
    if not statement.lines:
        tell(f"{statement.customer} used nothing in {statement.month}.")
        return
    columns = (*statement.by, *_LABELS, *_NUMBERS)
    show(
        table(
            [name.replace("_", " ") for name in columns],
            [[getattr(line, name) for name in columns] for line in statement.lines],
            right=frozenset(name.replace("_", " ") for name in _NUMBERS),
        )
    )
    unreported = sum(line.unreported for line in statement.lines)
    if unreported:
        tell(f"Of {unreported} calls the provider told no usage: their zeros are no count.")
    doubtful = statement.totals.lost.records + statement.totals.unanswered.records
    if doubtful:
        tell(f"{doubtful} records are not `answered`: the provider may have charged them in vain.")

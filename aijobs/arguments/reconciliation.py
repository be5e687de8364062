"""The arguments of the commands that compare our records with a provider's bill."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from pathlib import Path

from aijobs.arguments.base import Commands, Parser


def add_reconcile(commands: Commands) -> None:
    """Add the group of commands that compare."""
    group = commands.group(
        "reconcile",
        "compare what usage records cost with a provider's own bill",
        "reconcile openai --month 2026-11",
        "reconcile azure costs.csv --month 2026-11",
    )
    openai = group.add(
        "openai",
        "compare with the costs that OpenAI reports, by day and model",
        "reconcile.openai",
        "reconcile openai --month 2026-11",
        "reconcile openai --customer contoso --key-file admin-key.txt",
    )
    openai.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file with an admin key of the organization (default: the variable OPENAI_ADMIN_KEY, else stdin)",
    )
    openai.add_argument(
        "--project", action="append", default=[], metavar="ID", help="only this project of the organization; repeatable"
    )
    azure = group.add(
        "azure",
        "compare with a cost file of Azure Cost Management, by day and resource",
        "reconcile.azure",
        "reconcile azure costs.csv --month 2026-11",
    )
    azure.add_argument("file", type=Path, metavar="FILE", help="exported cost file: CSV, maybe compressed by gzip")
    for parser in (openai, azure):
        _add_common(parser)


def _add_common(parser: Parser) -> None:
    parser.add_argument("--month", metavar="YYYY-MM", help="month to compare (default: the current month)")
    parser.add_argument("--from", dest="first", metavar="DAY", help="first day to compare, such as 2026-11-01, in UTC")
    parser.add_argument("--to", dest="last", metavar="DAY", help="last day to compare, which is included")
    parser.add_argument(
        "--customer", metavar="ID", help="compare what this customer pays itself (default: what the operator pays)"
    )
    parser.add_argument(
        "--tolerance",
        type=_amount,
        default=Decimal("0.01"),
        metavar="AMOUNT",
        help="what amounts of a line may differ by (default: 0.01)",
    )


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError("must be an amount, 0 or more")
    return amount

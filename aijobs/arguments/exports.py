"""The arguments of the commands about exports of usage records."""

from __future__ import annotations

import argparse
import re
from decimal import Decimal
from pathlib import Path

from aijobs.arguments.base import Commands, Parser, day

_STATES = ("waiting", "sending", "refused", "in_doubt")


def add_exports(commands: Commands) -> None:
    """Add the group of commands about exports."""
    group = commands.group(
        "exports",
        "show what billing systems were sent, and decide about what is in doubt",
        "exports status",
        "exports list contoso",
    )
    status = group.add(
        "status",
        "show what each export was sent in a month, what waits, and what is wrong",
        "exports.status",
        "exports status",
        "exports status --customer contoso --month 2026-11",
    )
    status.add_argument("--customer", metavar="ID", help="customer id (default: all customers)")
    status.add_argument("--month", metavar="YYYY-MM", help="month of what was sent (default: the current month)")
    listing = group.add(
        "list",
        "list the events that wait, were refused or are in doubt",
        "exports.list_all",
        "exports list contoso",
        "exports list --state refused",
    )
    listing.add_argument("customer", metavar="CUSTOMER", nargs="?", help="customer id (default: all customers)")
    listing.add_argument("--export", metavar="NAME", help="list this export's events only")
    listing.add_argument(
        "--state",
        choices=_STATES,
        metavar="STATE",
        help="list events in this state only: waiting, sending, refused or in_doubt",
    )
    retry = group.add(
        "retry",
        "send events that were refused again, after their cause is corrected",
        "exports.retry",
        "exports retry stripe",
    )
    retry.add_argument("export", metavar="EXPORT", help="the export's name")
    retry.add_argument("customer", metavar="CUSTOMER", nargs="?", help="customer id (default: all customers)")
    _add_events(retry)
    _add_resolve(group)


def add_export_focus(commands: Commands) -> None:
    """Add `export-focus`."""
    parser = commands.add(
        "export-focus",
        "write a month's costs as FOCUS CSV, for FinOps tools",
        "export_focus.export",
        "export-focus --month 2026-11 --to focus-2026-11.csv",
    )
    parser.add_argument("customer", metavar="CUSTOMER", nargs="?", help="customer id (default: all customers)")
    parser.add_argument("--month", required=True, metavar="YYYY-MM", help="month of the costs (required)")
    parser.add_argument("--to", type=Path, metavar="FILE", help="new file to write to (default: stdout)")
    parser.add_argument(
        "--version", choices=("1.2",), default="1.2", metavar="VERSION", help="version of FOCUS: 1.2 (default: 1.2)"
    )
    parser.add_argument(
        "--issuer",
        default="Customer AI Jobs",
        metavar="NAME",
        help="your company, who issues the invoices (default: Customer AI Jobs)",
    )


def _add_resolve(group: Commands) -> None:
    parser = group.add(
        "resolve",
        "decide about a customer's events that are in doubt",
        "exports.resolve",
        "exports resolve stripe contoso --total 4711",
        destructive=True,
    )
    parser.add_argument("export", metavar="EXPORT", help="the export's name")
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--total", type=_number, metavar="N", help="the receiver's own total of the customer, on the days of the events"
    )
    how.add_argument("--received", action="store_true", help="the receiver has the events")
    how.add_argument("--not-received", action="store_true", help="the receiver doesn't have them: send them again")
    parser.add_argument(
        "--from", dest="first", type=day, metavar="DAY", help="first day of the total, in UTC (default: the events')"
    )
    parser.add_argument("--to", dest="last", type=day, metavar="DAY", help="its last day, which is included")
    _add_events(parser)
    # argparse would not break this line, which does not fit 80 columns after a longer name of the program.
    parser.usage = (
        "%(prog)s [-h] [--yes]\n  [--settings FILE] [--json] (--total N | --received | --not-received)\n"
        "  [--from DAY] [--to DAY] [--event ID] EXPORT CUSTOMER"
    )


def _add_events(parser: Parser) -> None:
    parser.add_argument("--event", action="append", metavar="ID", help="decide about this event only (repeatable)")


def _number(text: str) -> Decimal:
    if not re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,20})?", text):
        raise argparse.ArgumentTypeError("must be a number, such as 4711 or 12.34")
    return Decimal(text)

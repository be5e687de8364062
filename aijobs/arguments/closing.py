"""The arguments of the command that closes a month."""

from __future__ import annotations

from aijobs.arguments.base import Commands


def add_close_month(commands: Commands) -> None:
    """Add `close-month`."""
    parser = commands.add(
        "close-month",
        "close a month, or correct a closed one, by a job for each customer",
        "close_month.close_month",
        "close-month --check",
        "close-month --month 2026-10 --customer contoso",
        "close-month --month 2026-10 --customer contoso --correct",
        destructive=True,
    )
    parser.add_argument("--month", metavar="YYYY-MM", help="month to close (default: the last month)")
    parser.add_argument(
        "--customer", metavar="ID", help="close it for this customer (default: everybody who has anything in it)"
    )
    parser.add_argument(
        "--correct", action="store_true", help="make the next correction of what is closed, if anything has come since"
    )
    parser.add_argument(
        "--allow-unpriced", action="store_true", help="close it even if billed calls have no price, without these calls"
    )
    parser.add_argument(
        "--check", action="store_true", help="only show what it would be closed with, and what is missing"
    )

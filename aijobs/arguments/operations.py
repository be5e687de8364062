"""The arguments of the commands that look after a deployment: doctor, usage, poison, export, erase."""

from __future__ import annotations

from pathlib import Path

from aijobs.arguments.base import Commands


def add_doctor(commands: Commands) -> None:
    """Add `doctor`."""
    commands.add("doctor", "check a deployment from this machine", "doctor.doctor", "doctor")


def add_usage(commands: Commands) -> None:
    """Add `usage`."""
    parser = commands.add(
        "usage",
        "show a customer's monthly statement",
        "usage.usage",
        "usage contoso",
        "usage contoso --month 2026-11 --by day,model --csv",
    )
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--month", metavar="YYYY-MM", help="month of the statement (default: the current month)")
    parser.add_argument(
        "--by",
        metavar="NAMES",
        help="group by these, separated by commas: month, day, model, action, connection (default: model, or "
        "all but month with --csv)",
    )
    parser.add_argument("--csv", action="store_true", help="print CSV, the same as the HTTP route returns")


def add_poison(commands: Commands) -> None:
    """Add the group of commands about the poison queue."""
    group = commands.group("poison", "list or retry the jobs in the poison queue")
    group.add("list", "list the poison queue's messages and their last errors", "poison.list_all", "poison list")
    retry = group.add(
        "retry", "move jobs from the poison queue back to the jobs queue", "poison.retry", "poison retry --all"
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("--message", metavar="ID", help="retry this message; `poison list` shows the ids")
    which.add_argument("--customer", metavar="ID", help="retry this customer's jobs")
    which.add_argument("--all", action="store_true", help="retry all jobs")


def add_export(commands: Commands) -> None:
    """Add `export`."""
    parser = commands.add(
        "export",
        "write all data of a customer to a directory",
        "export.export",
        "export contoso --to contoso-data",
    )
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new or empty directory")


def add_erase(commands: Commands) -> None:
    """Add `erase`."""
    parser = commands.add(
        "erase",
        "permanently delete all data of a customer, including usage",
        "export.erase",
        "erase contoso",
        destructive=True,
    )
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")

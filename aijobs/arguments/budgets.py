"""The arguments of the commands about budgets."""

from __future__ import annotations

from aijobs.arguments.base import Commands


def add_budgets(commands: Commands) -> None:
    """Add the group of commands about budgets."""
    group = commands.group(
        "budgets",
        "limit what a customer's jobs may use",
        "budgets list contoso",
        "budgets set contoso main --limit 500 --unit USD --period month",
    )
    listing = group.add(
        "list", "list a customer's budgets and what is left", "budgets.list_all", "budgets list contoso"
    )
    store = group.add(
        "set",
        "make a budget, or replace all of it",
        "budgets.store",
        "budgets set contoso main --limit 500 --unit USD --period month",
        "budgets set contoso daily --limit 2000000 --unit tokens --period day --threshold 90",
        destructive=True,
    )
    remove = group.add("delete", "delete a budget", "budgets.delete", "budgets delete contoso main", destructive=True)
    for each in (listing, store, remove):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")
    for each in (store, remove):
        each.add_argument("name", metavar="NAME", help="name of the budget")
    store.add_argument("--limit", required=True, metavar="AMOUNT", help="how much may be used (required)")
    store.add_argument("--unit", required=True, metavar="UNIT", help="currency such as USD, tokens or jobs (required)")
    store.add_argument("--period", required=True, choices=("day", "month"), help="how long it is for (required)")
    store.add_argument("--connection", metavar="NAME", help="count the jobs on this connection alone")
    store.add_argument("--model", metavar="NAME", help="count the jobs on this model or deployment alone")
    store.add_argument("--soft", action="store_true", help="count and notify, and refuse nothing")
    store.add_argument(
        "--threshold",
        type=int,
        action="append",
        metavar="PERCENT",
        help="percentage of the limit at which an event is sent (default: 50, 80, 100; can be repeated)",
    )
    store.add_argument("--notify", metavar="URL", help="https URL that its events are posted to")

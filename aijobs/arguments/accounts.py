"""The arguments of the commands about what the operator records of a customer: profile, adjustments, audit."""

from __future__ import annotations

import argparse
import re

from aijobs.arguments.base import Commands, Parser, whole

MEMBERS = ("legal_name", "address", "tax_id", "currency", "invoice_prefix", "bill_outcomes", "external_ids", "notify")


def add_profile(commands: Commands) -> None:
    """Add the group of commands about profiles."""
    group = commands.group(
        "profile",
        "show and change what a customer's documents say, and how it is billed",
        "profile show contoso",
        "profile set contoso --legal-name 'Contoso GmbH' --currency USD",
    )
    read = group.add("show", "show a customer's profile", "profile.read", "profile show contoso")
    store = group.add(
        "set",
        "change members of a customer's profile",
        "profile.store",
        "profile set contoso --legal-name 'Contoso GmbH' --currency USD",
        "profile set contoso --external-id stripe=cus_Na6dX7aXxi11N4 --clear notify",
        destructive=True,
    )
    for each in (read, store):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")
    store.add_argument("--legal-name", metavar="NAME", help="name on the customer's documents")
    store.add_argument("--address", metavar="TEXT", help="address on the documents, its lines separated by \\n")
    store.add_argument("--tax-id", metavar="ID", help="tax or registration number on the documents")
    store.add_argument("--currency", metavar="CODE", help="currency of the statements, such as EUR")
    store.add_argument("--invoice-prefix", metavar="TEXT", help="what the numbers of the documents begin with")
    store.add_argument(
        "--bill-outcomes",
        metavar="NAMES",
        help="which usage records are billed: answered, lost, unanswered, separated by commas",
    )
    store.add_argument(
        "--external-id",
        action="append",
        default=[],
        metavar="NAME=ID",
        help="the customer's id in another system, by the name of an export; NAME= removes it (can be repeated)",
    )
    store.add_argument("--notify", metavar="URL", help="https URL that gets notice of closed months")
    store.add_argument(
        "--clear",
        action="append",
        default=[],
        choices=MEMBERS,
        metavar="MEMBER",
        help=f"member to remove: {', '.join(MEMBERS)} (can be repeated)",
    )


def add_adjustments(commands: Commands) -> None:
    """Add the group of commands about credits and debits."""
    group = commands.group(
        "adjustments",
        "credit or debit a customer's month by hand",
        "adjustments list contoso",
        "adjustments credit contoso --month 2026-11 --amount 12.50 --description 'Credit for the outage'",
    )
    listing = group.add(
        "list", "list a customer's credits and debits", "adjustments.list_all", "adjustments list contoso"
    )
    listing.add_argument("customer", metavar="CUSTOMER", help="customer id")
    listing.add_argument("--month", metavar="YYYY-MM", help="list this month's only")
    _add_kind(group, "credit", "Credit for the outage", "let a customer pay less for a month")
    _add_kind(group, "debit", "Setup of the account", "let a customer pay more for a month")


def _add_kind(group: Commands, kind: str, description: str, summary: str) -> None:
    parser: Parser = group.add(
        kind,
        summary,
        "adjustments.add",
        f"adjustments {kind} contoso --month 2026-11 --amount 12.50 --description '{description}'",
        destructive=True,
    )
    parser.set_defaults(kind=kind)
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--month", required=True, metavar="YYYY-MM", help="month that it belongs to (required)")
    parser.add_argument(
        "--amount", required=True, type=_amount, metavar="AMOUNT", help="amount, such as 12.50 (required)"
    )
    parser.add_argument("--description", required=True, metavar="TEXT", help="what the customer reads (required)")
    parser.add_argument("--currency", metavar="CODE", help="currency (default: that of the customer's statements)")
    parser.add_argument(
        "--id", metavar="ID", help="id of its own, without which the same is added once (default: from the content)"
    )


def add_audit(commands: Commands) -> None:
    """Add `audit`."""
    parser = commands.add(
        "audit", "show what was changed for a customer, and by whom", "audit.audit", "audit contoso --limit 20"
    )
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
    parser.add_argument("--limit", type=whole, default=50, metavar="N", help="newest changes to show (default: 50)")


def _amount(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,8})?", text):
        raise argparse.ArgumentTypeError("must be an amount, such as 12.50")
    return text

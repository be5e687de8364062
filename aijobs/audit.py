"""`audit` shows what was changed for a customer, by whom, and from what to what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import msgspec

from aijobs.diagnostics import InvalidArguments
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services
from aijobs.table import Table, make_table
from shared.billing.audit import AuditEntry, AuditTrail, describe
from shared.contract.audit import AuditPage

_PAGE = 100
_MAX_VALUE = 160
"""Characters of a value in a text; a document has all of it."""


async def audit(args: argparse.Namespace) -> Report:
    """Run `audit CUSTOMER`."""
    customer = check_customer(args.customer)
    if not args.limit:
        raise InvalidArguments("--limit must be 1 or more.")
    entries: list[AuditEntry] = []
    after = ""
    async with open_services(args.settings) as services:
        trail = AuditTrail(services.table)
        while len(entries) < args.limit:
            page, after = await trail.page(customer, after=after, limit=min(_PAGE, args.limit - len(entries)))
            entries += page
            if not after:
                break
    document = AuditPage(entries=[describe(entry) for entry in entries], continuation=after or None)
    if not entries:
        return Report(document, [f"Nothing was changed for {customer}."])
    rows = [
        (f"{entry.at:%Y-%m-%dT%H:%M:%SZ}", entry.by, entry.subject, _prose(entry.before, entry.after))
        for entry in entries
    ]
    text: list[str | Table] = [make_table(("at", "by", "subject", "change"), rows, prose="change")]
    return Report(document, [*text, "There are earlier changes: see --limit."] if after else text)


def change_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """Return a table of the members that differ."""
    rows = [(name, _value(before.get(name)), _value(after.get(name))) for name in {**before, **after}]
    return make_table(("member", "before", "after"), rows, prose="after")


def _prose(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(before.get(name))} -> {_value(after.get(name))}" for name in {**before, **after})


def _value(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"

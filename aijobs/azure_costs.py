"""
What Azure charges for AI resources, by day and resource: a cost file that Cost Management has exported, as CSV.

Files of Enterprise Agreements, Microsoft Customer Agreements, pay-as-you-go and FOCUS name their columns in different
ways (learn.microsoft.com/azure/cost-management-billing/dataset-schema/schema-index).
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TextIO

from aijobs.cost_comparison import TheirCosts, read_billed
from aijobs.diagnostics import CommandError, cant_be_read
from shared.billing.money import EXACT
from shared.billing.periods import Days

PROVIDERS = frozenset({"azure_openai", "foundry"})
_COLUMNS = {
    "day": ("date", "usagedatetime", "chargeperiodstart"),
    "resource": ("resourceid", "instanceid", "instancename"),
    "amount": ("costinbillingcurrency", "billedcost", "pretaxcost", "cost"),
    "currency": ("billingcurrencycode", "billingcurrency", "currency"),
    "meter": ("metername", "x_skumetername", "skumeter", "chargedescription"),
}
"""The names of each column, in lower case, the first that a file has."""
_EXAMPLES = {"day": "Date", "resource": "ResourceId", "amount": "CostInBillingCurrency", "currency": "BillingCurrency"}
_account = re.compile(r"/providers/microsoft\.cognitiveservices/accounts/([^/]+)", re.IGNORECASE)
_iso = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?:T.*)?").fullmatch
_american = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})").fullmatch
_GZIP = b"\x1f\x8b"


def read_costs(file: Path, days: Days) -> tuple[dict[tuple[date, str], TheirCosts], str]:
    """
    Return the costs of Azure's AI resources by day and resource name, and their currency.

    Raises CommandError, which names the line or column at fault.
    """
    costs: dict[tuple[date, str], TheirCosts] = {}
    currencies: set[str] = set()
    try:
        with _open(file) as opened:
            for day, resource, amount, currency, meter in _rows(opened):
                if days.first <= day <= days.last:
                    currencies.add(currency)
                    each = costs.setdefault((day, resource), TheirCosts())
                    each.amount = EXACT.add(each.amount, amount)
                    each.names.add(meter)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise CommandError(f"The file {file.name} is not complete.") from None
    except OSError as exc:
        raise cant_be_read(f"The file {file.name}", exc) from None
    except (UnicodeDecodeError, csv.Error):
        raise CommandError(f"The file {file.name} is not CSV in UTF-8.") from None
    if len(currencies) > 1:
        raise CommandError(f"The file's costs are in more than one currency: {', '.join(sorted(currencies))}.")
    return costs, next(iter(currencies), "")


def _open(file: Path) -> TextIO:
    with file.open("rb") as opened:
        is_compressed = opened.read(2) == _GZIP
    if is_compressed:
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _rows(file: TextIO) -> Iterator[tuple[date, str, Decimal, str, str]]:
    """Day, resource, amount, currency and meter of each charge for an AI resource."""
    rows = csv.DictReader(file)
    if len(rows.fieldnames or ()) == 1 and ";" in "".join(rows.fieldnames or ()):
        raise CommandError("The file's columns are separated by semicolons. Use it as Cost Management exported it.")
    names = _names({name.strip().lower(): name for name in rows.fieldnames or ()})
    for row in rows:
        account = _account.search(row[names["resource"]] or "")
        if account is None:
            continue
        day, amount = row[names["day"]], row[names["amount"]]
        exact = read_billed(amount or "")
        if exact is None:
            raise CommandError(f"Line {rows.line_num}: `{names['amount']}` is not a number.")
        meter = row[names["meter"]] if "meter" in names else ""
        currency = (row[names["currency"]] or "").strip().upper()
        if not currency:
            raise CommandError(f"Line {rows.line_num}: `{names['currency']}` is empty.")
        charged_on = _day(day or "", f"Line {rows.line_num}: `{names['day']}`")
        yield charged_on, account[1].lower(), exact, currency, meter or ""


def _names(columns: Mapping[str, str]) -> dict[str, str]:
    """The file's own name of each column."""
    names = {
        kind: next((columns[name] for name in candidates if name in columns), None)
        for kind, candidates in _COLUMNS.items()
    }
    for kind, example in _EXAMPLES.items():
        if names[kind] is None:
            raise CommandError(f"The file has no column such as `{example}`: is it a cost file of Cost Management?")
    return {kind: name for kind, name in names.items() if name is not None}


def _day(text: str, where: str) -> date:
    try:
        if match := _iso(text):
            return date(int(match[1]), int(match[2]), int(match[3]))
        if match := _american(text):
            return date(int(match[3]), int(match[1]), int(match[2]))
    except ValueError:
        pass
    raise CommandError(f"{where} is not a day, such as 2026-11-29 or 11/29/2026.")

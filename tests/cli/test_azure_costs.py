"""Reading cost files of Azure Cost Management, in each of its forms."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from aijobs.azure_costs import read_costs
from aijobs.diagnostics import CommandError
from shared.billing.periods import Days
from tests.support.rows import every_row

ACCOUNT = (
    "/subscriptions/0a1b/resourceGroups/ai/providers/Microsoft.CognitiveServices/accounts/Contoso-AI/projects/default"
)
OTHER = "/subscriptions/0a1b/resourceGroups/ai/providers/Microsoft.Storage/storageAccounts/contoso"
METER = "gpt 4o 0806 Inp glbl Tokens"
FORMS = {
    "enterprise agreement": ("Date", "ResourceId", "MeterName", "CostInBillingCurrency", "BillingCurrencyCode"),
    "customer agreement": ("date", "resourceId", "meterName", "costInBillingCurrency", "billingCurrency"),
    "pay-as-you-go": ("UsageDateTime", "InstanceId", "MeterName", "PreTaxCost", "Currency"),
    "focus": ("ChargePeriodStart", "ResourceId", "x_SkuMeterName", "BilledCost", "BillingCurrency"),
}
DAYS = {
    "enterprise agreement": "11/14/2026",
    "customer agreement": "11/14/2026",
    "pay-as-you-go": "2026-11-14",
    "focus": "2026-11-14T00:00:00Z",
}
NOVEMBER = Days.of_month("2026-11")


def write(directory: Path, header: tuple[str, ...], *rows: tuple[str, ...], encoding: str = "utf-8-sig") -> Path:
    """Write a file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    file = directory / "costs.csv"
    file.write_bytes(text.getvalue().encode(encoding))
    return file


@every_row("form", FORMS)
@every_row("is_compressed", [False, True], ids=["csv", "gzip"])
def test_each_form_is_read(tmp_path: Path, form: str, is_compressed: bool):
    """AI resources by day and name, in lower case, with their meters; all else, and other days, are left out."""
    header, day = FORMS[form], DAYS[form]
    other_day = day.replace("11/14", "12/14").replace("11-14", "12-14")
    file = write(
        tmp_path,
        (*header, "Tags"),
        (day, ACCOUNT, METER, "1.10", "EUR", "{}"),
        (day, ACCOUNT.lower(), "gpt 4o Outp", "0.000000000001", "eur", ""),
        (day, OTHER, "LRS", "7", "EUR", ""),
        (other_day, ACCOUNT, METER, "5", "EUR", ""),
        (day, "", "Support", "9", "EUR", ""),
    )
    if is_compressed:
        file.write_bytes(gzip.compress(file.read_bytes()))

    costs, currency = read_costs(file, NOVEMBER)

    assert "EUR" == currency
    assert {(date(2026, 11, 14), "contoso-ai"): (Decimal("1.100000000001"), {METER, "gpt 4o Outp"})} == {
        key: (each.amount, each.names) for key, each in costs.items()
    }


EA = FORMS["enterprise agreement"]


@every_row(
    ("header", "row", "sentence"),
    [
        (EA[1:], ("", "", "", ""), "no column such as `Date`"),
        ((EA[0], *EA[2:]), ("", "", "", ""), "no column such as `ResourceId`"),
        ((*EA[:3], EA[4]), ("", "", "", ""), "no column such as `CostInBillingCurrency`"),
        (EA[:4], ("", "", "", ""), "no column such as `BillingCurrency`"),
        (EA, ("14.11.2026", ACCOUNT, METER, "1", "EUR"), "Line 2: `Date` is not a day"),
        (EA, ("11/31/2026", ACCOUNT, METER, "1", "EUR"), "Line 2: `Date` is not a day"),
        (EA, ("11/14/2026", ACCOUNT, METER, "1,5", "EUR"), "Line 2: `CostInBillingCurrency` is not a number"),
        (EA, ("11/14/2026", ACCOUNT, METER, "NaN", "EUR"), "Line 2: `CostInBillingCurrency` is not a number"),
        (EA, ("11/14/2026", ACCOUNT, METER, "1e999999", "EUR"), "Line 2: `CostInBillingCurrency` is not a number"),
        (EA, ("11/14/2026", ACCOUNT, METER, "1", " "), "Line 2: `BillingCurrencyCode` is empty"),
        ((";".join(EA),), ("14.11.2026;x;y;1,5;EUR",), "separated by semicolons"),
        (EA, ("11/14/2026", ACCOUNT), "Line 2: `CostInBillingCurrency` is not a number"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, header: tuple[str, ...], row: tuple[str, ...], sentence: str):
    """The message has the line and the column, and what would be right."""
    with pytest.raises(CommandError, match=sentence):
        read_costs(write(tmp_path, header, row), NOVEMBER)


def test_a_file_that_is_none_is_named(tmp_path: Path):
    """One that does not exist, is no text, or was cut off."""
    file = tmp_path / "costs.csv"
    with pytest.raises(CommandError, match=r"costs\.csv"):
        read_costs(file, NOVEMBER)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="is not CSV in UTF-8"):
        read_costs(file, NOVEMBER)
    file.write_bytes(gzip.compress(f"{','.join(EA)}\n".encode() * 1000)[:-20])
    with pytest.raises(CommandError, match=r"costs\.csv is not complete"):
        read_costs(file, NOVEMBER)


def test_two_currencies_are_refused(tmp_path: Path):
    """Amounts of two currencies can't be added up."""
    rows = [("11/14/2026", ACCOUNT, METER, "1", currency) for currency in ("EUR", "USD")]

    with pytest.raises(CommandError, match="EUR, USD"):
        read_costs(write(tmp_path, EA, *rows), NOVEMBER)

"""
A month's costs by the FinOps Open Cost and Usage Specification, FOCUS 1.2 (focus.finops.org): a row for each line of a
statement that has a price, and for each credit and debit. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from shared.billing.periods import Days
from shared.billing.statement_csv import encode_table
from shared.contract.adjustment import Adjustment
from shared.contract.closed_month import InternalMonth
from shared.contract.customer import CustomerProfile
from shared.contract.statement import Statement, StatementLine

BY = ("day", "model", "action", "connection")
"""What a statement's lines are grouped by to make rows of them."""
ACCOUNT = "customer-ai-jobs"
DECIMALS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingQuantity", "ConsumedQuantity")
"""Columns of numbers; all others are text, times in UTC, or JSON."""
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "InvoiceId"),
    *("InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
    *("ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags"),
    *("x_Action", "x_BilledTo", "x_Calls", "x_CachedTokens", "x_CacheWriteTokens", "x_Images", "x_InputTokens"),
    *("x_Jobs", "x_Outcome", "x_OutputTokens", "x_ProviderCost", "x_ReasoningTokens", "x_Saved", "x_Seconds"),
)
"""In the order of the file: FOCUS 1.2's mandatory ones among them, and ours, which begin with `x_`."""
_PROVIDERS = {
    "azure_openai": ("Microsoft", "Azure OpenAI"),
    "foundry": ("Microsoft", "Microsoft Foundry"),
    "openai": ("OpenAI", "OpenAI API"),
    "anthropic": ("Anthropic", "Claude API"),
}
"""The provider's and the service's name, by our own name of the provider."""
_COUNTS = {
    "x_Calls": "calls",
    "x_CachedTokens": "cached_tokens",
    "x_CacheWriteTokens": "cache_write_tokens",
    "x_Images": "images",
    "x_InputTokens": "input_tokens",
    "x_Jobs": "jobs",
    "x_OutputTokens": "output_tokens",
    "x_ReasoningTokens": "reasoning_tokens",
    "x_Saved": "saved",
    "x_Seconds": "seconds",
}


def focus_rows(
    statement: Statement,
    profile: CustomerProfile,
    adjustments: Iterable[Adjustment],
    *,
    month: Days,
    issuer: str,
    documents: Sequence[tuple[str, InternalMonth]] = (),
) -> Iterator[dict[str, Any]]:
    """
    Yield the rows of a customer's month. `statement` has its lines grouped by BY.

    `documents`: the number and the content of each, if the month is closed: its own, then its corrections.
    """
    account = _account(statement.customer, profile, month, issuer)
    invoices = {line.adjustment: each for each in documents for line in each[1].lines if line.adjustment}
    for line in statement.lines:
        if line.kind is None and line.amount is not None and line.outcome in profile.bill_outcomes:
            yield account | _usage(line) | _invoice(documents[0] if documents else None)
    for adjustment in adjustments:
        yield account | _adjustment(adjustment, month, issuer) | _invoice(invoices.get(adjustment.id))


def left_out(statement: Statement, profile: CustomerProfile) -> int:
    """
    Return how many records that are billed have no row, because they have no price.

    What withdraws a placeholder of an earlier month counts -1 in the statement, and hides none of them.
    """
    return sum(max(line.unpriced or 0, 0) for line in statement.lines if line.outcome in profile.bill_outcomes)


def encode_focus(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the rows as CSV with a header."""
    return encode_table(COLUMNS, rows, numbers=frozenset({*DECIMALS, "x_ProviderCost", "x_Saved"}))


def _account(customer: str, profile: CustomerProfile, month: Days, issuer: str) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {
        "BillingAccountId": ACCOUNT,
        "BillingAccountName": issuer,
        "BillingPeriodStart": _time(month.first),
        "BillingPeriodEnd": _time(month.last + timedelta(days=1)),
        "InvoiceIssuerName": issuer,
        "SubAccountId": customer,
        "SubAccountName": profile.legal_name or customer,
        "ServiceCategory": "AI and Machine Learning",
    }


def _usage(line: StatementLine) -> dict[str, Any]:
    day, model = date.fromisoformat(str(line.day)), str(line.model) or "no model"
    provider, service = _PROVIDERS.get(line.provider, (line.provider, line.provider))
    quantity, unit = _quantity(line)
    labels = (line.processing or "standard", line.service_tier or "default", line.deployment_scope or "any")
    return {
        **_costs(str(line.amount)),
        "BillingCurrency": line.currency,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{line.action} with {model} on the connection {line.connection}",
        "ChargePeriodStart": _time(day),
        "ChargePeriodEnd": _time(day + timedelta(days=1)),
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "ProviderName": provider,
        "PublisherName": provider,
        "ServiceName": service,
        "SkuId": f"{line.provider}/{model}",
        "SkuPriceId": "/".join((line.provider, model, *labels)),
        "Tags": json.dumps({"connection": line.connection}),
        "x_Action": line.action,
        "x_BilledTo": line.billed_to,
        "x_Outcome": line.outcome,
        "x_ProviderCost": line.list_amount,
        **{column: getattr(line, name) for column, name in _COUNTS.items()},
    }


def _quantity(line: StatementLine) -> tuple[int | float, str]:
    """Return what a line is a number of: tokens, or else calls."""
    tokens = [count for count in (line.input_tokens, line.output_tokens) if count is not None]
    return (sum(tokens), "Tokens") if tokens else (line.calls, "Calls")


def _adjustment(adjustment: Adjustment, month: Days, issuer: str) -> dict[str, Any]:
    return {
        **_costs(adjustment.amount),
        "BillingCurrency": adjustment.currency,
        "ChargeCategory": "Credit" if Decimal(adjustment.amount) < 0 else "Adjustment",
        "ChargeDescription": adjustment.description,
        "ChargePeriodStart": _time(month.first),
        "ChargePeriodEnd": _time(month.last + timedelta(days=1)),
        "ProviderName": issuer,
        "PublisherName": issuer,
        "ServiceName": "Adjustments",
        "Tags": "{}",
    }


def _invoice(document: tuple[str, InternalMonth] | None) -> dict[str, Any]:
    """Return the columns that say which document a charge is in, if it is in one yet."""
    if document is None:
        return {}
    return {"InvoiceId": document[0], "ChargeClass": "Correction" if document[1].correction else None}


def _costs(amount: str) -> dict[str, str]:
    """Return the columns of costs: nobody pays in advance or by contract, so they are all the same."""
    costs: Sequence[str] = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
    return dict.fromkeys(costs, amount)


def _time(day: date) -> str:
    return f"{day}T00:00:00Z"

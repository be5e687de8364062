"""The page of a statement shows what others wrote as text, and loads and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import msgspec
import pytest

from shared.billing.statement_page import PAGE_POLICY, closed_page, open_page
from shared.contract.closed_month import ClosedMonth, DocumentLine, Party
from shared.contract.statement import Statement, StatementLine, StatementTotals, UnpricedCalls, UsageTotals
from tests.support.html_reader import read_html

DOCUMENT = ClosedMonth(
    customer="contoso",
    month="2026-11",
    number="contoso-0001",
    closed_at="2026-12-01T00:30:12.000Z",
    party=Party(legal_name="Contoso Ltd", address="1 Main St\nSpringfield", tax_id="DE123"),
    currency="USD",
    lines=[
        DocumentLine(
            kind="usage",
            model="gpt-4o",
            action="chat",
            connection="default",
            provider="azure_openai",
            outcome="answered",
            processing="batch",
            calls=1234,
            jobs=2,
            input_tokens=1_000_000,
            amount="12.345600",
        ),
        DocumentLine(kind="credit", adjustment="c1", description="Goodwill", amount="-1.000000"),
        DocumentLine(kind="rounding", amount="0.004400"),
    ],
    total="11.35",
    unpriced=[UnpricedCalls(model="x", outcome="answered", records=2)],
)
HOSTILE = "</bdi></td><script src=//evil.example>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\x00\x1b"
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "div", "strong", "bdi", "dl", "dt", "dd", "table"),
    *("thead", "tr", "th", "tbody", "td", "small", "tfoot", "footer", "p"),
}


def test_a_closed_month_is_shown_whole():
    """The number, the customer, each line with its amount, the total with its currency, and what has no price."""
    text = re.sub(r"\s+", " ", read_html(closed_page(DOCUMENT).decode()).text)

    for shown in (
        "Statement contoso-0001",
        "Contoso Ltd1 Main St Springfield",
        "Numbercontoso-0001",
        "Month2026-11 (UTC)",
        "Date2026-12-01",
        "Tax idDE123",
        "gpt-4ochat · default · azure_openai · batch",
        "1,2341,000,000-12.345600",
        "GoodwillCredit c1",
        "-1.000000",
        "Rounding of the total0.004400",
        "Total11.35 USD",
        "Not in the total, without a price: 2 records of x.",
        "Amounts contain no tax.",
    ):
        assert shown in text


def test_a_correction_names_what_it_corrects():
    """By its number."""
    document = msgspec.structs.replace(DOCUMENT, number="contoso-0002", correction=1, corrects="contoso-0001")

    text = read_html(closed_page(document).decode()).text

    assert "Correction contoso-0002" in text
    assert "Correctscontoso-0001" in text


def filled(value: object, text: str) -> object:
    """Return the document with this text in the place of each of its texts."""
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {name: each if name == "kind" else filled(each, text) for name, each in value.items()}
    return [filled(each, text) for each in value] if isinstance(value, list) else value


def test_what_others_wrote_is_only_ever_text():
    """Markup in every text of a document adds no element and no attribute, and no control character is left."""
    harmless, page = (
        closed_page(msgspec.convert(filled(msgspec.to_builtins(DOCUMENT), text), ClosedMonth)).decode()
        for text in ("word", HOSTILE)
    )

    reader = read_html(page)

    assert read_html(harmless).tags == reader.tags
    assert reader.text.count("<script") >= 10
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", page)


def test_the_page_loads_and_runs_nothing():
    """It has no script, no link and no image; its policy allows the one style that it has, and nothing else."""
    reader = read_html(closed_page(DOCUMENT).decode())
    style = base64.b64encode(hashlib.sha256(reader.style.encode()).digest()).decode()

    assert {tag for tag, _ in reader.tags} <= TAGS
    assert not {
        name for _, attributes in reader.tags for name in attributes if name.startswith("on") or name == "style"
    }
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": PAGE_POLICY}) in reader.tags
    assert f"default-src 'none'; style-src 'sha256-{style}'" in PAGE_POLICY
    assert "url(" not in reader.style
    assert "@import" not in reader.style


def statement(currency: str | None, **members: Any) -> Statement:
    """Return a statement of two days, one call without an answer among them, as the prices of a currency make it."""
    totals: dict[str, Any] = {"records": 1, "calls": 1, "unreported": 0, "jobs": 1, "currency": currency}
    amount = {"amount": "1.000000", "list_amount": "0.900000"} if currency else {}
    labels: dict[str, Any] = {"source": "key_vault", "provider": "openai", "billed_to": "customer"}
    lines = [
        StatementLine(day="2026-11-28", model="gpt-4o", outcome="answered", **labels, **totals, **amount),
        StatementLine(day="2026-11-29", model="cut-short", outcome="unanswered", **labels, **totals),
    ]
    if currency:
        lines.append(StatementLine(day="", outcome="answered", kind="rounding", **labels, **totals, amount="0.004000"))
    values: dict[str, Any] = {
        "customer": "contoso",
        "from_": "2026-11-28",
        "to": "2026-11-29",
        "by": ["day", "model"],
        "totals": StatementTotals(
            answered=UsageTotals(**totals, amount="1.00" if currency else None),
            lost=UsageTotals(records=0, calls=0, unreported=0, jobs=0),
            unanswered=UsageTotals(**totals),
        ),
        "lines": lines,
    }
    return Statement(**values | members)


@pytest.mark.parametrize("currency", ["USD", None])
def test_an_open_statement_says_so(currency: str | None):
    """
    Its warning comes before all else. Its lines are those of answered calls; the others are counted. Without a price
    book there is neither an amount nor a total, and in no case a list price.
    """
    text = read_html(open_page(statement(currency)).decode()).text

    assert text.index("Not closed") < text.index("Description")
    assert "gpt-4o2026-11-28 · openai" in text
    assert "Not in the total, lost or unanswered: 1 of the calls." in text
    assert (currency is not None) == ("1.000000" in text) == ("Total" in text) == ("Rounding of the total" in text)
    assert not [hidden for hidden in ("cut-short", "0.900000") if hidden in text]


def test_a_period_without_usage_has_no_table():
    """But a sentence."""
    assert "There is no usage." in read_html(open_page(statement(None, lines=[])).decode()).text

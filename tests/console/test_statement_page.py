"""The page of a closed month fits its window and its paper, whatever names it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.billing.statement_page import closed_page
from shared.contract.closed_month import ClosedMonth, DocumentLine, Party
from shared.contract.statement import UnpricedCalls
from tests.support.browser import Browser

pytestmark = pytest.mark.long

A4 = 672
"""Pixels between the margins of its page."""
DOCUMENT = ClosedMonth(
    customer="c" * 50,
    month="2026-11",
    correction=1,
    number=f"{'P' * 20}-0001",
    corrects=f"{'Q' * 20}-0001",
    closed_at="2026-12-01T00:30:12.000Z",
    party=Party(legal_name="W" * 200, address=f"{'A' * 500}\n{'B' * 499}", tax_id="T" * 200),
    currency="USD",
    lines=[
        DocumentLine(
            kind="usage",
            model="m" * 200,
            action="multi_chat",
            connection="x" * 50,
            provider="azure_openai",
            service_tier="s" * 64,
            jobs=1_234_567,
            calls=12_345_678,
            input_tokens=12_345_678_901,
            output_tokens=1_234_567_890,
            amount="-1234567.123456",
        ),
        DocumentLine(kind="credit", adjustment="i" * 100, description="D" * 200, amount="-1.000000"),
    ],
    total="-1234568.12",
    unpriced=[UnpricedCalls(model="u" * 200, outcome="answered", records=3)],
)
"""Each name at its limit, and without a space to break it at."""


@pytest.mark.parametrize(("width", "media"), [(400, ""), (1280, ""), (A4, "print")])
async def test_the_longest_names_fit(browser: Browser, tmp_path: Path, width: int, media: str):
    """Nothing is wider than the window, but the table, in which one can scroll; and on paper, not even that."""
    file = tmp_path / "statement.html"
    file.write_bytes(closed_page(DOCUMENT))
    async with browser.tab() as tab:
        await tab.resize(width)
        await tab.emulate(media=media)
        await tab.open(file.as_uri())

        assert width == await tab.evaluate("document.documentElement.scrollWidth")
        assert [] == await tab.violations()

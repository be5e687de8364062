"""
The picture of the console in the docs, with invented data: `python -m tests.support.console_picture` writes it.

The page is the app's own, under its policy. A small server has the API's documents in place of the app.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from shared.http.auth import Caller
from shared.http.console import ConsoleResource
from shared.http.messages import Request
from tests.support import browser as browsers
from tests.support.browser import Tab
from tests.support.doc_samples import ROOT

PICTURE = ROOT / "docs/console.png"
SIZE = (1020, 1670)
NOW = datetime(2026, 11, 29, 13, 12, tzinfo=UTC)
PRICES = {
    "gpt-6-luna": "0.0279",
    "claude-haiku-4.5": "0.0124",
    "gpt-5.5-mini": "0.0062",
    "text-embedding-3-large": "0.0009",
}
LABELS = {"source": "key_vault", "provider": "azure_openai", "billed_to": "customer", "outcome": "answered"}
COUNTS = ("records", "calls", "jobs", "input_tokens", "output_tokens")
JOBS = [
    ("order-4719.reply", "succeeded", "chat", "gpt-6-luna", None),
    ("order-4718.reply", "running", "chat", "gpt-6-luna", None),
    (
        "report-week-48",
        "waiting",
        "summarize",
        "claude-haiku-4.5",
        ("rate_limited", "The endpoint asked for a wait of 300 s."),
    ),
    ("catalogue-embeddings", "partial", "embed", "text-embedding-3-large", None),
    (
        "order-4716.reply",
        "failed",
        "chat",
        "gpt-5.5-mini",
        ("content_filtered", "The endpoint's content filter refused the prompt: violence."),
    ),
]


def statement() -> dict[str, Any]:
    """A month's usage: fewer calls at weekends."""
    draw = random.Random(3)  # nothing secret
    lines = []
    for model, price in PRICES.items():
        for day in range(1, NOW.day + 1):
            weekend = NOW.replace(day=day).weekday() > 4
            calls = max(4, round(draw.gauss(130, 30) * (0.35 if weekend else 1)))
            amount = f"{calls * Decimal(price):.6f}"
            sums = dict(zip(COUNTS, (calls, calls, calls - 2, calls * 930, calls * 214), strict=True))
            lines.append(
                {"model": model, "day": f"2026-11-{day:02}", **LABELS, **sums, "unreported": 0, "unpriced": 0}
                | {"amount": amount, "currency": "USD", "saved": "0.000000"}
            )
    spend = sum(Decimal(line["amount"]) for line in lines)
    totals = {name: sum(line[name] for line in lines) for name in COUNTS} | {"unreported": 0, "unpriced": 0}
    before = f"{spend / Decimal('1.1'):.2f}"
    money = {"amount": f"{spend:.2f}", "currency": "USD", "saved": "0.00", "list_amount": before}
    none = {"records": 0, "calls": 0, "unreported": 0, "jobs": 0}
    by_outcome = {"answered": totals | money, "lost": none, "unanswered": none}
    return {"customer": "contoso", "month": "2026-11", "by": ["day", "model"], "totals": by_outcome, "lines": lines}


def budgets() -> list[dict[str, Any]]:
    """A month's budget in money, and a day's in tokens that is spent."""
    month = {
        "name": "month",
        "limit": "200.00",
        "unit": "USD",
        "period": "month",
        "period_start": "2026-11-01T00:00:00Z",
    }
    day = {
        "name": "embeddings",
        "limit": "2000000",
        "unit": "tokens",
        "period": "day",
        "period_start": "2026-11-29T00:00:00Z",
    }
    return [
        day
        | {"enforce": "soft", "owner": "customer", "model": "text-embedding-3-large", "thresholds": [50, 80, 100]}
        | {"spent": "2104000", "reserved": "0", "remaining": "0"},
        month
        | {"enforce": "hard", "owner": "operator", "thresholds": [50, 80, 100]}
        | {"spent": "135.7367", "reserved": "18.4000", "remaining": "45.8633"},
    ]


def jobs() -> list[dict[str, Any]]:
    """Some jobs in different states."""
    documents = []
    for number, (job_id, status, action, model, error) in enumerate(JOBS):
        start = NOW - timedelta(minutes=4 * number)
        document = {"job_id": job_id, "customer": "contoso", "status": status, "attempts": 1, "action": action}
        document |= {"model": model, "submitted_at": start.isoformat(), "started_at": start.isoformat()}
        if status in ("succeeded", "partial", "failed"):
            document["finished_at"] = (start + timedelta(seconds=1.4 + number)).isoformat()
        if error:
            document["error"] = dict(zip(("code", "message"), error, strict=True))
        documents.append(document)
    return documents


DOCUMENTS = {
    "/api/customers": {"customers": [{"customer": name} for name in ("contoso", "fabrikam", "northwind")]},
    "/api/customers/contoso/profile": {"legal_name": "Contoso Ltd", "currency": "USD"},
    "/api/customers/contoso/state": {"state": "active"},
    "/api/customers/contoso/usage": statement(),
    "/api/customers/contoso/budgets": {"budgets": budgets()},
    "/api/customers/contoso/batches": {"batches": []},
    "/api/customers/contoso/jobs": {"jobs": jobs()},
    "/api/customers/contoso/statements": {"statements": []},
}


async def respond(request: web.Request) -> web.Response:
    """The page, or a document."""
    if request.path != "/api/console":
        return web.json_response(DOCUMENTS[request.path])
    page = await ConsoleResource().page(Request("GET", ""), Caller())
    return web.Response(body=page.body, headers={**page.headers, "Content-Type": page.media_type})


async def draw(tab: Tab, file: Path) -> None:
    """Write the picture to a file."""
    server = web.Application()
    server.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(server)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        await tab.resize(*SIZE)
        await tab.open(f"http://127.0.0.1:{port}/api/console#/contoso?month=2026-11")
        await tab.write("key")
        await tab.press("Enter")
        await tab.wait("document.querySelectorAll('section').length === 5 && !document.querySelector('[aria-busy]')")
        await tab.wait("document.querySelector('canvas')")
        await tab.screenshot(file, whole=False)
    finally:
        await runner.cleanup()


async def main() -> None:
    """Write the picture of the docs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with browsers.start(Path(folder)) as browser, browser.tab() as tab:
            await draw(tab, PICTURE)
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    asyncio.run(main())

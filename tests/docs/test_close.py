"""The samples of docs/close.md: a month that was closed is what the page shows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.contract.customer import CustomerProfile
from tests.support.closable import DOCUMENT, MONTH, add_credit, add_usage, publish_prices, put_profile
from tests.support.doc_samples import blocks
from tests.support.harness import Harness, with_own_table
from tests.support.http_client import send

PAGE = "docs/close.md"


@pytest_asyncio.fixture
async def own_documents(harness: Harness) -> AsyncIterator[Harness]:
    """The app with months of its own."""
    async with with_own_table(harness, "JOBS_QUEUE", "STATEMENTS_CONTAINER") as opened:
        yield opened


@pytest.fixture
async def closed(own_documents: Harness) -> Harness:
    """An app in which the page's month is closed, by the job that the timer sends."""
    services = own_documents.services
    profile = CustomerProfile(
        legal_name="Contoso Ltd",
        address="1 Main Street\nSpringfield",
        tax_id="DE123456789",
        invoice_prefix="INV",
    )
    await put_profile(services.table, "contoso", profile)
    await publish_prices(services.table, services.blobs, container=services.settings.statements_container)
    await add_usage(services.table, "contoso", tokens=4_115_200)
    await add_credit(services.table, "contoso", "outage-17", description="Outage")
    assert "queued" == await services.statement_jobs.submit("contoso", DOCUMENT)
    (message,) = await own_documents.messages(own_documents.environment["JOBS_QUEUE"])
    result = await own_documents.deliver(message)
    assert result is not None
    assert "succeeded" == json.loads(result)["status"]
    return own_documents


async def test_a_closed_month_is_as_shown(closed: Harness):
    """As JSON and as CSV, on Azurite and with the SDKs, by a job from the queue."""
    (document,), (csv,) = blocks(PAGE, "json"), blocks(PAGE, "csv")

    for request, shown in zip(blocks(PAGE, "http"), (document, csv), strict=True):
        first_line, accept = request.strip().splitlines()
        path = first_line.split()[1].removeprefix("/api/").replace("2026-11", MONTH)
        response = await send(closed, "GET", path, headers=dict([accept.lower().split(": ")]))
        body = response.body.decode().replace(MONTH, "2026-11")
        if response.media_type == "application/json":
            expected = json.loads(shown)
            assert expected == json.loads(body) | {"closed_at": expected["closed_at"]}
        else:
            assert shown == body.replace("\r\n", "\n")

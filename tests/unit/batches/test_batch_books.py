"""What batches cost: results and statements say what the provider's journal does, and what was saved."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.provider.faults import BatchFault
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.statements import Statements
from shared.clock import now
from shared.contract.price_book import decode_price_book
from shared.export_settings import Export
from shared.exports.events import Event, EventMaker
from shared.upstream.client import UpstreamClient
from tests.support.patience import PatientApp, patient_app

LIST_PRICE = {"provider": "openai", "model": "gpt-6-luna*", "input": "2", "output": "8"}
PRICES = [LIST_PRICE, LIST_PRICE | {"processing": "batch", "input": "1", "output": "4"}]


@pytest.fixture
async def at(client: UpstreamClient, monkeypatch: pytest.MonkeyPatch):
    """The patient app, with prices: a batch's are half the list prices, as the journal's are."""
    async with patient_app(client, monkeypatch) as made:
        book = decode_price_book(json.dumps({"currency": "USD", "prices": PRICES}).encode())
        await made.worker.services.price_books.publish(book, replaces=None, by="ann")
        yield made


def exact(lines: list[Any], name: str) -> Decimal:
    """Return the sum of the amounts of a statement's lines."""
    return sum((Decimal(getattr(line, name) or 0) for line in lines), Decimal(0))


@pytest.mark.parametrize("fault", [None, BatchFault(expire_share=0.5), BatchFault(duplicates=2, shuffle=True)])
async def test_a_statement_has_what_the_journal_has_and_what_was_saved(at: PatientApp, fault: BatchFault) -> None:
    """To the last decimal, from jobs to the statement; half of the list price is saved. Each result has its part."""
    customer = at.customer()
    account = at.accounts[customer]
    if fault is not None:
        account.faults.batches.add(fault)
    jobs = [await at.send(customer) for _ in range(5)]
    jobs.append(await at.send(customer, "multi_chat", input={"prompts": [f"Count to {each}." for each in range(9)]}))

    await at.finish(jobs)

    services, day = at.worker.services, now().date()
    pricing = await CustomerPricing(services.price_books, services.customer_records).read(customer)
    statement = await Statements(services.table).read(customer, day - timedelta(days=1), day, pricing=pricing)
    lines = [line for line in statement.lines if line.kind is None]
    assert {"batch"} == {line.processing for line in lines}
    assert 14 == sum(line.calls for line in lines)
    assert account.journal.totals().cost == exact(lines, "amount") == exact(lines, "saved")
    usages = [at.result(job)["usage"] for job in jobs]
    assert {"batch"} == {usage["processing"] for usage in usages}
    assert account.journal.totals().cost == sum((Decimal(usage["cost"]["amount"]) for usage in usages), Decimal(0))
    export = Export(name="erp", kind="cloudevents", event="usage", own_ids=True)
    maker = EventMaker(export, await services.customer_records.read(customer))
    records = [row for (name, key), row in services.table.rows.items() if name == customer and key.startswith("u_")]
    events = [event for row in records if isinstance(event := maker.make(row), Event)]
    assert ["batch"] * 14 == [event.facts()["processing"] for event in events]

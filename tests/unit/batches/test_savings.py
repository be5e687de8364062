"""What batches have saved so far, from the usage records of their lines."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from shared import clock
from shared.batches.queries import BatchQueries
from shared.batches.savings import saved_by
from shared.billing.pricing import Pricing
from shared.contract.price_book import decode_price_book
from tests.support.patience import PatientApp, patient_app

BOOK = b"""{"currency": "USD", "prices": [
  {"provider": "openai", "model": "gpt-6*", "input": "100", "output": "400"},
  {"provider": "openai", "model": "gpt-6*", "input": "50", "output": "200", "processing": "batch"}
]}"""


@pytest.fixture
async def at(client, monkeypatch):
    """The app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def test_a_batch_has_saved_what_its_calls_would_have_cost_more(at: PatientApp) -> None:
    customer, table = at.customer(), at.memory.table
    pricing = Pricing(decode_price_book(BOOK))
    first = [await at.send(customer) for _ in range(3)]
    await at.deliver()
    (waiting,) = await BatchQueries(table).since(customer, clock.now() - timedelta(hours=1))
    assert {} == await saved_by(table, pricing, [waiting])
    await at.finish(first)
    await at.finish([await at.send(customer)])
    await at.finish([await at.send(customer, options={"processing": "standard", "deadline_s": 600})])

    batches = await BatchQueries(table).since(customer, clock.now() - timedelta(days=2))
    assert [1, 3] == [batch.lines for batch in batches]
    saved = await saved_by(table, pricing, batches)
    newer, older = (saved[batch.batch_id] for batch in batches)
    assert older["saved"] == older["amount"]
    assert Decimal(older["saved"]) == 3 * Decimal(newer["saved"]) > 0
    assert {batches[0].batch_id: newer} == await saved_by(table, pricing, batches[:1])
    unpriced = Pricing(decode_price_book(b'{"currency": "USD", "prices": []}'))
    assert {} == await saved_by(table, unpriced, batches)

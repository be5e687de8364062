"""Months are closed once on Storage, too, by however many workers at a time."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from shared.billing.closed_records import blob_name
from shared.services import build
from shared.settings import read_settings
from tests.support.closable import CORRECTION, DOCUMENT, add_credit, add_usage, publish_prices
from tests.support.harness import Harness


@pytest.mark.long
async def test_many_workers_close_a_month_and_correct_it_once(own_harness: Harness):
    """
    On Azurite with the SDKs: one number each, one record, and the files that its hashes are of. What comes afterwards
    changes nothing.
    """
    services = own_harness.services
    container = services.settings.statements_container
    await publish_prices(services.table, services.blobs, container=container)
    await add_usage(services.table, "contoso")
    another = build(read_settings(own_harness.environment))
    try:
        closings = [services.closing, another.closing] * 2
        first = await asyncio.gather(*(each.close("contoso", DOCUMENT) for each in closings))
        await add_credit(services.table, "contoso")
        second = await asyncio.gather(*(each.close("contoso", CORRECTION) for each in closings))
        again = await another.closing.close("contoso", DOCUMENT)
    finally:
        await another.close()

    for records, number, total in ((first, 1, "3.00"), (second, 2, "-1.00")):
        record = records[0]
        assert record is not None
        assert (number, total, [record] * 4) == (record.number, record.total, records)
        for name, file in record.files.items():
            data = await services.blobs.read(container, blob_name("contoso", record.document, name), 1_000_000)
            assert data is not None
            assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert first[0] == again
    assert ["n_00000001", "n_00000002"] == [row.key async for row in services.table.scan("contoso", "n_", "n_~")]

"""How much one run sends, in simulated time: a request to Storage takes 5 ms, one to a receiver 100 ms."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.exports.delivery import RUN_S
from tests.support.exporting import EXPORTS, START, ExportHarness, KillableTable, MemoryClient
from tests.support.fakes import MemoryTable
from tests.support.simulated_worker import simulate

STORAGE_S, RECEIVER_S = 0.005, 0.1


class SlowTable(KillableTable):
    """A table whose requests take time, once it is `slow`."""

    slow = False

    async def _pass(self) -> None:
        if self.slow:
            await asyncio.sleep(STORAGE_S)
        await super()._pass()


@pytest.mark.parametrize(
    ("kind", "customers", "records", "least", "within_s"),
    [("stripe", 1, 400, 350, RUN_S + 15), ("stripe", 40, 80, 3200, 29), ("lago", 1, 5000, 5000, 12.5)],
)
@pytest.mark.long
def test_a_run_sends_thousands_of_events(
    monkeypatch: pytest.MonkeyPatch, kind: str, customers: int, records: int, least: int, within_s: float
):
    """Of one customer, Stripe takes a request after the other; many customers share those that are made at once."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        harness = ExportHarness(monkeypatch, [EXPORTS[kind]], table=SlowTable())
        for number in range(customers):
            await harness.add_customer(f"c{number}")
            for _ in range(records):
                harness.time += timedelta(microseconds=10)
                await harness.record(f"c{number}", 1)
        base, begun = harness.time, loop.time()
        type(harness).time = property(lambda _: base + timedelta(seconds=loop.time() - begun))  # type: ignore[assignment]
        exchange = MemoryClient.exchange

        async def slow_exchange(self: MemoryClient, *arguments: Any, **options: Any) -> Any:
            await asyncio.sleep(RECEIVER_S)
            return await exchange(self, *arguments, **options)

        monkeypatch.setattr(MemoryClient, "exchange", slow_exchange)
        harness.table.slow = True
        try:
            await harness.delivery().run()
            took_s = loop.time() - begun
        finally:
            del type(harness).time

        assert harness.systems[kind].sum() >= least
        assert took_s <= within_s

    assert issubclass(SlowTable, MemoryTable)
    assert START.tzinfo is not None
    simulate(run())

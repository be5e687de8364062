"""
Each exporter against a system as its documentation says, with a worker that is killed at each step and others that go
on, at once or a day later: nothing counts twice, nothing is lost, and what is in doubt is said to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from shared.exports.resolution import received_of
from tests.support.billing_receivers import sums
from tests.support.exporting import EXPORTS, ExportHarness

CUSTOMERS = ("acme", "globex")


async def make_harness(monkeypatch: pytest.MonkeyPatch, kind: str) -> ExportHarness:
    """Return a harness with one export and two customers, who have seven records in five transactions."""
    harness = ExportHarness(monkeypatch, [EXPORTS[kind]])
    for customer in CUSTOMERS:
        await harness.add_customer(customer)
    await harness.record("acme", 1, 20)
    await harness.record("globex", 300)
    await harness.record("acme", 4000, 50_000)
    harness.time += timedelta(seconds=1)
    await harness.record("globex", 600_000)
    await harness.record("acme", 7_000_000)
    return harness


def counted(harness: ExportHarness) -> list[tuple[str, str, Decimal]]:
    """Return what the receiver has counted."""
    return next(iter(harness.systems.values())).counted if harness.systems else harness.consumer.counted


def received(harness: ExportHarness) -> dict[str, Decimal]:
    """Return the sums of the receiver."""
    return sums(counted(harness))


def check_nothing_is_counted_twice(harness: ExportHarness) -> None:
    """Check what holds at any time."""
    ids = [each for each, _, _ in counted(harness)]
    assert len(ids) == len(set(ids)), "counted twice"


async def check(harness: ExportHarness) -> Decimal:
    """Check what holds once workers had the time to send everything; return what is in doubt."""
    check_nothing_is_counted_twice(harness)
    total = Decimal(0)
    for customer in CUSTOMERS:
        doubt, has = await harness.in_doubt(customer), received(harness).get(f"ext-{customer}", Decimal(0))
        assert harness.recorded[f"ext-{customer}"] - doubt <= has <= harness.recorded[f"ext-{customer}"]
        total += doubt
    return total


async def resolve(harness: ExportHarness) -> None:
    """Decide about what is in doubt by the receiver's own totals, as `aijobs exports resolve --total` does."""
    (export,) = harness.exports
    for customer in CUSTOMERS:
        events = [each async for each in harness.outboxes.events(customer, harness.exports)]
        doubtful = [each for each in events if each.state.state == "in_doubt"]
        day = harness.rows_of("u_")[0].values["at"].date()
        sent = await harness.outboxes.sent(customer, export.name, day, day)
        has = received(harness).get(f"ext-{customer}", Decimal(0))
        taken = {each.id for each in received_of(has, sent, doubtful)}
        others = {each.id for each in doubtful} - taken
        await harness.outboxes.decide(customer, export.name, "received", taken, by="test")
        await harness.outboxes.decide(customer, export.name, "not_received", others, by="test")


def steps() -> Iterator[int]:
    """More steps than any run has."""
    return iter(range(400))


@pytest.mark.parametrize("later", [timedelta(minutes=6), timedelta(hours=25)])
@pytest.mark.parametrize("kind", EXPORTS)
async def test_a_worker_killed_at_each_step(monkeypatch: pytest.MonkeyPatch, kind: str, later: timedelta):
    """
    In doubt is only what was marked and not yet noted as sent when its receiver's window ended; afterwards the sums are
    the same, and the outbox is empty.
    """
    doubts = 0
    for step in steps():
        with monkeypatch.context() as patch:
            harness = await make_harness(patch, kind)
            killed = await harness.run_until_killed(step)
            check_nothing_is_counted_twice(harness)
            marked = sum(
                b'"sending"' in value
                for row in harness.rows_of("o_")
                for value in row.values.values()
                if isinstance(value, bytes)
            )
            harness.time += later
            await harness.run(2)
            doubt = await check(harness)
            if doubt:
                doubts += 1
                assert "stripe" == kind
                assert later > timedelta(hours=24)
                assert marked, "nothing was being sent"
            await harness.run(2)
            assert doubt == await check(harness), "sent in spite of the doubt"
            await resolve(harness)
            await harness.run(2)
            assert harness.recorded == received(harness)
            assert sum(harness.recorded.values()) == harness.tally(kind)
            assert [] == harness.rows_of("o_")
        if not killed:
            break
    assert not killed
    assert step > 10
    assert bool(doubts) == (kind == "stripe" and later > timedelta(hours=24))

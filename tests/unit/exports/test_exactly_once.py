"""
Each exporter against a system as its documentation says, with a worker that is killed at each step and others that go
on, at once or a day later: nothing counts twice, nothing is lost, and what is in doubt is said to be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.exports.resolution import received_of
from shared.storage.base import Row
from tests.support.billing_receivers import answer, sums
from tests.support.exporting import EXPORTS, ExportHarness
from tests.support.fakes import Fault
from tests.support.rows import every_row
from tests.support.sampled import Sampled

CUSTOMERS = ("acme", "globex")
FORGETFUL = {"stripe", "openmeter"}
"""Which recognize an event for a day."""
ANSWERS = [answer(429, retry_after="120"), answer(500), answer(502), answer(503, retry_after="60"), answer(409)]
PAUSES = [timedelta(seconds=1), timedelta(minutes=1), timedelta(minutes=7), timedelta(hours=3), timedelta(hours=26)]


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


def read_queue(harness: ExportHarness) -> None:
    """Let the consumer read what is in the queue."""
    for body, _ in harness.queues.sent.pop("usage-events", []):
        harness.consumer.read(body)


async def resolve(harness: ExportHarness) -> None:
    """Decide about what is in doubt by the receiver's own totals, as `aijobs exports resolve --total` does."""
    (export,) = harness.exports
    for customer in CUSTOMERS:
        events = [each async for each in harness.outboxes.events(customer, harness.exports)]
        doubtful = [each for each in events if each.state.state == "in_doubt"]
        days = [row.values["at"].date() for row in harness.rows_of("u_")]
        sent = await harness.outboxes.sent(customer, export.name, min(days), max(days))
        has = received(harness).get(f"ext-{customer}", Decimal(0))
        taken = {each.id for each in received_of(has, sent, doubtful)}
        others = {each.id for each in doubtful} - taken
        await harness.outboxes.decide(customer, export.name, "received", taken, by="test")
        await harness.outboxes.decide(customer, export.name, "not_received", others, by="test")


@pytest.mark.parametrize("later", [timedelta(minutes=6), pytest.param(timedelta(hours=25), marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", EXPORTS)
async def test_a_worker_killed_at_each_step(
    monkeypatch: pytest.MonkeyPatch, sampled: Sampled, kind: str, later: timedelta
):
    """
    In doubt is only what was marked and not yet noted as sent when its receiver's window ended; afterwards the sums are
    the same, and the outbox is empty.
    """
    doubts = 0
    for step in sampled(range(400)):  # more than any run has
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
                assert kind in FORGETFUL
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
    assert bool(doubts) == (kind in FORGETFUL and later > timedelta(hours=24))


@every_row("fault", Fault)
@every_row("kind", ["stripe", "lago"])
async def test_a_storage_that_fails_at_each_write(
    monkeypatch: pytest.MonkeyPatch, sampled: Sampled, kind: str, fault: Fault
):
    """A write that is refused, whose answer gets lost, or that is made twice: each event counts once all the same."""
    for write in sampled(range(20)):
        with monkeypatch.context() as patch:
            harness = await make_harness(patch, kind)
            harness.table.faults.extend([*[None] * write, fault])
            await harness.run(3)
            is_over = bool(harness.table.faults)

            assert harness.recorded == received(harness)
            assert sum(harness.recorded.values()) == harness.tally(kind)
            assert [] == harness.rows_of("o_")
            check_nothing_is_counted_twice(harness)
        if is_over:
            break
    assert is_over
    assert write >= 6


async def test_a_decision_while_an_event_is_being_sent(monkeypatch: pytest.MonkeyPatch):
    """Somebody changes the rows between the marks: what became of the events is noted all the same."""
    harness = await make_harness(monkeypatch, "stripe")
    harness.systems["stripe"].refused.add("ext-globex")
    await harness.run(2)
    harness.systems["stripe"].refused.clear()
    await harness.outboxes.decide("globex", "stripe", "retry", None, by="test")
    await harness.record("globex", 5)
    merge_and_insert = harness.table.merge_and_insert
    marked = 0

    async def interfere(changed: Row, added: Sequence[Row], **options: Any) -> Sequence[str]:
        nonlocal marked
        etags = await merge_and_insert(changed, added, **options)
        marked += 1
        if marked == 1:
            for row in harness.rows_of("o_"):
                await harness.table.merge(Row(row.partition, row.key, {"to_another": "done"}, row.etag))
        return etags

    monkeypatch.setattr(harness.table, "merge_and_insert", interfere)
    await harness.run(3)

    assert harness.recorded == received(harness)
    assert sum(harness.recorded.values()) == harness.tally("stripe")
    check_nothing_is_counted_twice(harness)


async def test_a_customer_that_is_erased_meanwhile(monkeypatch: pytest.MonkeyPatch):
    """Its rows are gone between the marks: nothing is written of it, and the others' events are sent."""
    harness = await make_harness(monkeypatch, "lago")
    system = harness.systems["lago"]
    take = system.take

    def take_and_erase(*arguments: Any) -> Any:
        for key in [key for key in harness.table.rows if key[0] == "acme"]:
            del harness.table.rows[key]
        return take(*arguments)

    monkeypatch.setattr(system, "take", take_and_erase)
    await harness.run(3)

    assert [] == [key for partition, key in harness.table.rows if partition == "acme"]
    assert harness.recorded["ext-globex"] == received(harness)["ext-globex"]


async def test_a_record_whose_retention_has_ended(monkeypatch: pytest.MonkeyPatch):
    """Nothing is sent for it, and nothing else waits for it."""
    harness = await make_harness(monkeypatch, "stripe")
    for row in harness.rows_of("u_")[:2]:
        await harness.table.delete([row])
    await harness.run(2)

    assert 5 == len(counted(harness))
    assert [] == harness.rows_of("o_")


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 60))])
async def test_any_course_of_events(monkeypatch: pytest.MonkeyPatch, kind: str, seed: int):
    """
    Workers that are killed at any step or overlap, answers that get lost, throttling and outages, customers that the
    receiver does not know, for days on end: the sums are right at any time, and equal once everything is decided.
    """
    chance = random.Random(seed)
    harness = await make_harness(monkeypatch, kind)
    system = harness.systems.get(kind)
    for _ in range(30):
        if chance.random() < 0.3:
            await harness.record(chance.choice(CUSTOMERS), *chance.choices(range(1, 10**6), k=chance.randint(1, 3)))
        if system is not None:
            system.refused = {"ext-globex"} if chance.random() < 0.2 else set()
            system.answers = chance.choices(ANSWERS, k=chance.randint(1, 3)) if chance.random() < 0.3 else []
            harness.lost = chance.randint(1, 2) if chance.random() < 0.2 else 0
        if chance.random() < 0.4:
            await harness.run_until_killed(chance.randrange(60))
        elif chance.random() < 0.3:
            await asyncio.gather(harness.delivery().run(), harness.delivery().run())
        else:
            await harness.delivery().run()
        harness.time += chance.choice(PAUSES)
        read_queue(harness)
        check_nothing_is_counted_twice(harness)
        for customer in CUSTOMERS:
            assert received(harness).get(f"ext-{customer}", 0) <= harness.recorded[f"ext-{customer}"]
    if system is not None:
        system.refused, system.answers, harness.lost = set(), [], 0
    for _ in range(3):
        for customer in CUSTOMERS:
            await harness.outboxes.decide(customer, kind, "retry", None, by="test")
        harness.time += timedelta(days=2)
        await harness.run(2)
        await check(harness)
        await resolve(harness)
        await harness.run(2)

    assert harness.recorded == received(harness)
    assert sum(harness.recorded.values()) == harness.tally(kind)
    assert [] == harness.rows_of("o_")

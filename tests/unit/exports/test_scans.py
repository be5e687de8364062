"""How often an outbox is read: what waits for long costs little, and nothing is overlooked for that."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.billing.outbox import outbox_key
from shared.exports import scans
from shared.exports.delivery import Delivery
from tests.support.billing_receivers import answer
from tests.support.exporting import EXPORTS, START, ExportHarness

STRIPE, LAGO = EXPORTS["stripe"], EXPORTS["lago"]


async def make_harness(monkeypatch: pytest.MonkeyPatch, *, rows: int = 60) -> ExportHarness:
    """Return a customer with an id at Lago alone, a backlog of rows of an hour, and pages of ten rows."""
    harness = ExportHarness(monkeypatch, [STRIPE, LAGO])
    harness.table.page_size = 10
    await harness.add_customer("acme", external_ids={"lago": "ext-acme"})
    for _ in range(rows):
        await harness.record("acme", 1)
        harness.time += timedelta(minutes=1)
    return harness


async def pages_of_a_run(harness: ExportHarness, worker: Delivery) -> int:
    """Let a worker run; return how many pages of the customer's outbox it has read."""
    pages = harness.table.counts["page"]
    await worker.run()
    harness.time += timedelta(minutes=1)
    return harness.table.counts["page"] - pages - 1  # one of them is of budgets' events


async def test_rows_that_wait_for_an_id_are_not_read_every_minute(monkeypatch: pytest.MonkeyPatch):
    """Once read, they cost a page an hour; meanwhile the other export gets its events, and the lag stays known."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    assert 6 == await pages_of_a_run(harness, worker)
    assert 60 == harness.systems["lago"].sum()
    await harness.record("acme", 100)

    assert 2 == await pages_of_a_run(harness, worker)
    assert 160 == harness.systems["lago"].sum()
    harness.time += scans.RESCAN
    assert 7 == await pages_of_a_run(harness, worker)


async def test_an_id_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch):
    """The rows that waited for it are read again."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    await pages_of_a_run(harness, worker)
    await harness.add_customer("acme")
    await pages_of_a_run(harness, worker)

    assert 60 == harness.systems["stripe"].sum() == harness.systems["lago"].sum()
    assert [] == harness.rows_of("o_")


async def test_a_decision_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch):
    """What a person has sent again may be far behind where a worker goes on."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    harness.systems["lago"].refused.add("ext-acme")
    for _ in range(8):
        await pages_of_a_run(harness, worker)
    assert 0 == harness.systems["lago"].sum()
    harness.systems["lago"].refused.clear()
    assert 60 == await harness.outboxes.decide("acme", "lago", "retry", None, by="test")
    await pages_of_a_run(harness, worker)

    assert 60 == harness.systems["lago"].sum()


async def test_a_clock_that_was_wrong_does_no_harm(monkeypatch: pytest.MonkeyPatch):
    """A worker whose clock was a day ahead for a while reads everything again once it is right."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    harness.time += timedelta(days=1)
    await pages_of_a_run(harness, worker)
    harness.time -= timedelta(days=1)
    await harness.record("acme", 100)
    await pages_of_a_run(harness, worker)

    assert 160 == harness.systems["lago"].sum()


async def test_a_row_that_is_written_late_is_not_overlooked(monkeypatch: pytest.MonkeyPatch):
    """A transaction commits after later ones, and its row's key is of the time when it was made."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    await pages_of_a_run(harness, worker)
    later, harness.time = harness.time, harness.time - scans.OVERLAP + timedelta(minutes=2)
    await harness.record("acme", 1000)
    harness.time = later
    await pages_of_a_run(harness, worker)

    assert 1060 == harness.systems["lago"].sum()


async def test_a_receiver_that_is_away_costs_a_page(monkeypatch: pytest.MonkeyPatch):
    """While nothing can be sent to anybody, the backlog is not read; afterwards all of it is sent."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    harness.systems["lago"].answers = [answer(429, retry_after="1800")]
    assert 1 == await pages_of_a_run(harness, worker)
    assert 1 == await pages_of_a_run(harness, worker)
    harness.time += timedelta(hours=1)
    for _ in range(3):
        await pages_of_a_run(harness, worker)

    assert 60 == harness.systems["lago"].sum()


async def test_a_run_that_is_over_is_continued(monkeypatch: pytest.MonkeyPatch):
    """A backlog that is too long for one run is sent by the next ones, from where each stopped."""
    harness = await make_harness(monkeypatch)
    worker = harness.delivery()
    system = harness.systems["lago"]
    take = system.take

    def take_slowly(*arguments):
        harness.time += timedelta(seconds=30)
        return take(*arguments)

    monkeypatch.setattr(system, "take", take_slowly)
    sums = []
    for _ in range(5):
        await pages_of_a_run(harness, worker)
        sums.append(int(system.sum()))

    assert 20 == sums[0] < sums[1] < sums[2]
    assert 60 == sums[3] == sums[4]


def test_where_to_go_on():
    """At what is still to be sent, or where the reading stopped; else shortly before the end."""
    scan = scans.Scan(START, frozenset({"lago"}))

    assert scan.is_whole
    assert outbox_key(START - scans.OVERLAP) == scan.after(START, "", "", {}).first
    assert "o_5" == scan.after(START, "", "o_5", {}).first
    assert "o_1" == scan.after(START, "o_1", "o_5", {}).first
    assert "o_5" == scan.after(START, "o_9", "o_5", {}).first
    assert not scan.after(START, "", "", {}).is_whole

"""Receivers that hang, lie or forget, clocks that were wrong, and customers whose events a receiver can't bear."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.budget_events import budget_event_row
from shared.billing.outbox import PARTITION
from shared.contract.price_book import decode_price_book
from shared.errors import ProviderUnavailable, UpstreamFacts, UpstreamTimeout
from shared.export_settings import Export
from shared.exports.delivery import RUN_S
from shared.exports.export_status import read_status
from shared.exports.outbox_rows import OutboxRow
from shared.exports.receivers import MAX_WAIT_S, TIMEOUT_S
from shared.jobs.schedule import Schedule
from shared.retention.sweep import Sweep
from shared.settings import read_settings
from shared.storage.base import Row
from shared.upstream.messages import DeliveryReceipt, Response
from tests.support.billing_receivers import KEY, answer, sums
from tests.support.exporting import EXPORTS, START, ExportHarness, MemoryClient
from tests.support.fake_blobs import MemoryBlobs
from tests.support.rows import every_row
from tests.support.sampled import Sampled

STRIPE, LAGO, ORB, OPENMETER = (EXPORTS[name] for name in ("stripe", "lago", "orb", "openmeter"))


async def make_harness(monkeypatch: pytest.MonkeyPatch, *exports: Export) -> ExportHarness:
    """Return a harness with these exports and one customer."""
    harness = ExportHarness(monkeypatch, exports)
    await harness.add_customer("acme")
    return harness


async def states(harness: ExportHarness, customer: str = "acme") -> list[tuple[str, str, str]]:
    """Return the export, state and reason of each event that a receiver does not have for certain."""
    return [
        (event.export, event.state.state, event.state.reason)
        async for event in harness.outboxes.events(customer, harness.exports)
    ]


def slow_down(monkeypatch: pytest.MonkeyPatch, harness: ExportHarness, kind: str, *, answers: bool) -> None:
    """Have a system take nearly all the time that a request may last, or more."""
    exchange = MemoryClient.exchange
    url = EXPORTS[kind].url

    async def slow_exchange(self: MemoryClient, request: Any, *arguments: Any, **options: Any) -> Response:
        if not request.url.startswith(url):
            return await exchange(self, request, *arguments, **options)
        harness.time += timedelta(seconds=TIMEOUT_S - 0.1)
        if not answers:
            raise UpstreamTimeout("No answer.", UpstreamFacts(transient=True, unanswered=True))
        return await exchange(self, request, *arguments, **options)

    monkeypatch.setattr(MemoryClient, "exchange", slow_exchange)


@every_row("answers", [True, False])
@every_row("order", [(STRIPE, LAGO), (LAGO, STRIPE)])
async def test_a_slow_receiver_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, order: Sequence[Export], answers: bool
):
    """A run ends in time whatever a receiver takes, and the other exports of the customer are served all the same."""
    harness = await make_harness(monkeypatch, *order)
    for _ in range(20):
        await harness.record("acme", 1)
    slow_down(monkeypatch, harness, "stripe", answers=answers)
    worker = harness.delivery()
    for _ in range(6):
        begun = harness.time
        await worker.run()
        assert harness.time - begun <= timedelta(seconds=RUN_S + TIMEOUT_S)
        harness.time += timedelta(minutes=1)

    assert 20 == harness.systems["lago"].sum()
    assert 0 == harness.systems["stripe"].doubles


async def test_a_hanging_address_of_a_budget_does_not_hold_up_exports(monkeypatch: pytest.MonkeyPatch):
    """A customer can choose that address; it is not the receiver of the operator's exports."""
    harness = await make_harness(monkeypatch, LAGO)
    for number in range(10):
        row = budget_event_row(
            "acme",
            period="2026-11",
            budget=f"b{number}",
            unit="USD",
            threshold=80,
            address="https://slow.contoso.com/",
            data={},
            at=harness.time,
        )
        await harness.table.insert(row)
    await harness.record("acme", 1)

    async def slow_post(*_: Any, **__: Any) -> DeliveryReceipt:
        harness.time += timedelta(seconds=TIMEOUT_S - 0.1)
        raise UpstreamTimeout("No answer.", UpstreamFacts(transient=True, unanswered=True))

    monkeypatch.setattr(MemoryClient, "post", slow_post)
    await harness.delivery().run()

    assert 1 == harness.systems["lago"].sum()


async def test_what_one_customer_sends_blocks_no_other(monkeypatch: pytest.MonkeyPatch):
    """A receiver that fails at one customer's events again and again still gets all other customers'."""
    harness = await make_harness(monkeypatch, LAGO)
    system, handle = harness.systems["lago"], harness.systems["lago"].handle
    monkeypatch.setattr(
        system, "handle", lambda path, headers, body: answer(500) if b"poison" in body else handle(path, headers, body)
    )
    monkeypatch.setattr("random.Random.randrange", lambda *_: 0)  # the first is always the first
    customers = ["a-poison", *(f"c{number}" for number in range(40))]
    for customer in customers:
        await harness.add_customer(customer)
        for _ in range(60 if customer == "a-poison" else 1):
            await harness.record(customer, 1)
    await harness.run()
    for _ in range(2):
        for customer in customers:
            await harness.record(customer, 1)
        await harness.run()

    has = sums(system.counted)
    assert {f"ext-{customer}": Decimal(3) for customer in customers[1:]} == has


@pytest.mark.parametrize("text", ["a\x00b", "line\r\nfeed", "\x1b[31m\u202e"])
async def test_texts_of_endpoints_have_no_control_characters(monkeypatch: pytest.MonkeyPatch, text: str):
    """What an endpoint calls its model is the customer's; some databases do not take each character."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.record("acme", 1, answered_by=text)
    await harness.run()

    ((_, body),) = harness.systems["lago"].requests
    sent = json.loads(body)["events"][0]["properties"]["answered_by"]
    assert sent.isprintable()
    assert sent


async def price_in(harness: ExportHarness, currency: str) -> None:
    """Publish a price book."""
    rates = [{"from": "USD", "to": "JPY", "rate": "150", "effective_from": "2026-01-01"}]
    book = {
        "currency": currency,
        "prices": [{"provider": "openai", "model": "gpt", "input": "3", "output": "0", "effective_from": "2026-01-01"}],
        "rates": rates,
    }
    await harness.price_books.publish(decode_price_book(json.dumps(book).encode()), by="test", replaces=None)


async def test_an_amount_keeps_its_currency(monkeypatch: pytest.MonkeyPatch):
    """A try whose answer got lost is repeated with the currency of its amount, whatever the customer's is by now."""
    harness = await make_harness(monkeypatch, replace(LAGO, value="amount"))
    await price_in(harness, "USD")
    await harness.record("acme", 1_000_000)
    harness.lost = 1
    await harness.run()
    await harness.add_customer("acme", currency="JPY")
    await harness.run(2)

    assert 2 == len(harness.systems["lago"].requests)
    assert 1 == len(set(harness.systems["lago"].requests))
    assert [] == await states(harness)


@pytest.mark.parametrize("kind", ["stripe", "lago"])
async def test_two_exports_to_one_account(monkeypatch: pytest.MonkeyPatch, kind: str):
    """A receiver knows an event by its id alone. What it has from elsewhere is not taken for sent, but in doubt."""
    twin = replace(EXPORTS[kind], name="twin", value="input_tokens", url="https://other.contoso.com")
    harness = await make_harness(monkeypatch, EXPORTS[kind], twin)
    harness.systems["twin"] = harness.systems[kind]
    await harness.record("acme", 7)
    await harness.run(3)

    assert 7 == harness.systems[kind].sum()
    (state,) = await states(harness)
    assert "in_doubt" == state[1]
    assert "has an event with this id" in state[2]
    assert 7 == harness.tally(kind) + harness.tally("twin")


@every_row("kind", ["stripe", "lago", "orb", "openmeter"])
async def test_two_exports_with_one_key(monkeypatch: pytest.MonkeyPatch, kind: str):
    """The second one's events would not be counted, and some systems do not say so: it sends nothing, and says why."""
    twin = replace(EXPORTS[kind], name="twin", value="input_tokens")
    harness = await make_harness(monkeypatch, EXPORTS[kind], twin)
    await harness.record("acme", 7)
    await harness.run(2)

    assert 7 == harness.systems[kind].sum() == harness.tally(kind)
    assert [("twin", "waiting", "")] == await states(harness)
    error = read_status(harness.table.rows[PARTITION, "~twin"]).error
    assert error.startswith(f"It has the same key as the export {kind}: ")
    assert KEY not in error
    assert (PARTITION, f"~{kind}") not in harness.table.rows

    other = replace(harness.systems["twin"], key="sk_of_another_account")
    harness.systems[kind], harness.vault.secrets["twin"] = other, other.key
    await harness.run(2)
    assert 7 == other.sum() == harness.tally("twin")


async def test_orb_that_refuses_with_200(monkeypatch: pytest.MonkeyPatch):
    """The body says which events it has not taken, whatever the status is."""
    harness = await make_harness(monkeypatch, ORB)
    await harness.record("acme", 1)
    await harness.record("acme", 20)
    event_id = next(iter([event.id async for event in harness.outboxes.events("acme", [ORB])]))
    failed = [{"idempotency_key": event_id, "validation_errors": ["no such property"]}]
    harness.systems["orb"].answers = [answer(200, {"validation_failed": failed})]
    await harness.run()

    assert [("orb", "refused", "no such property")] == await states(harness)


@every_row("kind", ["stripe", "lago", "orb", "openmeter"])
async def test_a_page_is_no_answer_of_an_api(monkeypatch: pytest.MonkeyPatch, kind: str):
    """A web site at the export's `url` answers 200 to everything: nothing counts as sent, and all is sent later."""
    harness = await make_harness(monkeypatch, EXPORTS[kind])
    system = harness.systems[kind]
    system.answers = [(200, {"content-type": "text/html; charset=utf-8"}, b"<!doctype html>")]
    await harness.record("acme", 7)
    await harness.run()
    assert ["waiting"] == [state for _, state, _ in await states(harness)]
    assert 0 == harness.tally(kind)

    await harness.run(2)
    assert 7 == system.sum() == harness.tally(kind)


@every_row(
    ("status", "state"),
    [(400, "refused"), (408, "in_doubt"), (409, "in_doubt"), (500, "in_doubt"), (504, "in_doubt")],
)
async def test_a_refusal_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch, status: int, state: str):
    """
    Its status says what became of the event. One that may have been taken is in doubt a day later, and does not count
    twice.
    """
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.record("acme", 7)
    exchange = MemoryClient.exchange

    async def garbled(self: MemoryClient, *arguments: Any, **options: Any) -> Response:
        if status != 400:
            await exchange(self, *arguments, **options)
        raise ProviderUnavailable("The body is not gzip.", UpstreamFacts(status=status))

    with monkeypatch.context() as patch:
        patch.setattr(MemoryClient, "exchange", garbled)
        await harness.run()
    harness.time += timedelta(hours=25)
    await harness.run(2)

    assert [state] == [each for _, each, _ in await states(harness)]
    assert (0 if state == "refused" else 7) == harness.systems["stripe"].sum()


async def test_an_absurd_retry_after(monkeypatch: pytest.MonkeyPatch):
    """A receiver that says to come back in a year is asked again after an hour, before an event is in doubt."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.record("acme", 7)
    harness.lost = 1
    await harness.run()
    harness.systems["stripe"].answers = [answer(429, retry_after="31536000")]
    await harness.run()
    harness.time += timedelta(seconds=MAX_WAIT_S)
    await harness.run()

    assert timedelta(seconds=MAX_WAIT_S) < timedelta(hours=2)
    assert [] == await states(harness)
    assert {"ext-acme": Decimal(7)} == sums(harness.systems["stripe"].counted)


@every_row("ahead", [timedelta(hours=25), timedelta(days=36)])
@every_row("kind", ["stripe", "openmeter"])
async def test_a_clock_that_was_ahead_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, sampled: Sampled, kind: str, ahead: timedelta
):
    """A worker whose clock is wrong dies while it sends. Later workers can't know how long ago that was."""
    for step in sampled(range(60)):
        with monkeypatch.context() as patch:
            harness = await make_harness(patch, EXPORTS[kind])
            await harness.record("acme", 7)
            system = harness.systems[kind]
            system.clock = lambda: harness.time - shift  # noqa: B023
            shift, harness.time = ahead, harness.time + ahead
            killed = await harness.run_until_killed(step)
            shift, harness.time = timedelta(0), harness.time - ahead
            for pause in (timedelta(minutes=6), ahead, timedelta(hours=2)):
                harness.time += pause
                await harness.run(2)

            assert 0 == system.doubles
            assert Decimal(7) == system.sum() or ["in_doubt"] == [state for _, state, _ in await states(harness)]
        if not killed:
            break
    assert not killed


async def test_a_pause_that_a_wrong_clock_has_set(monkeypatch: pytest.MonkeyPatch):
    """A worker whose clock is weeks ahead meets a 429: once the clock is right, the receiver is not left for weeks."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.record("acme", 7)
    harness.systems["lago"].answers = [answer(429, retry_after="60")]
    harness.time += timedelta(days=36)
    await harness.delivery().run()
    harness.time = START + timedelta(hours=1)
    await harness.run(2)

    assert 7 == harness.systems["lago"].sum()


@pytest.mark.parametrize("has_usage", [True, False])
async def test_the_sweep_finds_an_outbox_that_nobody_announces(monkeypatch: pytest.MonkeyPatch, has_usage: bool):
    """A worker whose clock is hours ahead forgets a customer whose jobs rely on being announced: for a day at most."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.outbox.announce("acme")
    harness.time += timedelta(hours=5)
    await harness.delivery().run()
    harness.time -= timedelta(hours=5)
    if has_usage:
        await harness.record("acme", 7)
    else:
        row = budget_event_row(
            "acme",
            period="2026-11",
            budget="team",
            unit="USD",
            threshold=None,
            address="https://hooks.contoso.com/",
            data={},
            at=harness.time,
        )
        await harness.table.insert(row)
    await harness.run()
    assert (0, 0) == (harness.systems["lago"].sum(), len(harness.posts))

    settings = read_settings({"JobStorage": "UseDevelopmentStorage=true"})
    schedule = Schedule(harness.table, harness.queues, "jobs", "callbacks", "batches")
    assert "complete" == await Sweep(harness.table, MemoryBlobs(), settings, schedule).run(harness.time)
    await harness.run()
    assert (7 * has_usage, not has_usage) == (harness.systems["lago"].sum(), len(harness.posts))


async def test_the_sweep_announces_nobody_without_anything_to_send(monkeypatch: pytest.MonkeyPatch):
    """An event that was delivered stays on record, and has nobody look for it."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.table.insert(Row("acme", "e_2026-11_team_USD_80", {"at": harness.time, "state": "delivered"}))
    await harness.outbox.announce_left("acme")

    assert (PARTITION, "acme") not in harness.table.rows


@pytest.mark.parametrize("kind", ["stripe", "lago"])
async def test_a_wrong_decision_that_the_receiver_knows_better(monkeypatch: pytest.MonkeyPatch, kind: str):
    """Somebody says of an event that it was not received, but it was: if the receiver recognizes it, it is sent."""
    harness = await make_harness(monkeypatch, EXPORTS[kind])
    await harness.record("acme", 7)
    harness.lost = 1
    await harness.delivery().run()
    (row,) = harness.rows_of("o_")
    outbox = OutboxRow(row)
    doubtful = [state.in_doubt() for state in outbox.states(kind)]
    await harness.table.merge(outbox.change(kind, doubtful))
    assert 1 == await harness.outboxes.decide("acme", kind, "not_received", None, by="test")
    harness.time += timedelta(minutes=6)
    await harness.run()

    assert (7, 7, 0) == (harness.systems[kind].sum(), harness.tally(kind), harness.systems[kind].doubles)
    assert [] == await states(harness)

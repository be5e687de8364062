"""What is sent of which record, what waits and why, and what receivers make of it."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.closed_records import ClosedRecord, ClosedRecords
from shared.billing.outbox import MIN_AGE, PARTITION
from shared.contract.closed_month import DocumentId
from shared.contract.price_book import decode_price_book
from shared.export_settings import Export
from shared.exports.delivery import Delivery
from shared.exports.events import NO_EXTERNAL_ID
from shared.exports.export_status import ExportStatus, read_status
from shared.exports.receivers import AT_ONCE, MAX_REASON_LENGTH
from shared.storage.base import Row
from tests.support.billing_receivers import KEY, answer, sums
from tests.support.exporting import EXPORTS, ExportHarness
from tests.support.rows import every_row

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


def status(harness: ExportHarness, export: str) -> Any:
    """Return what runs have written about an export; they write nothing as long as it is well."""
    row = harness.table.rows.get((PARTITION, f"~{export}"))
    return ExportStatus(export) if row is None else read_status(row)


async def test_a_record_of_each_outcome(monkeypatch: pytest.MonkeyPatch):
    """What the customer's profile bills is sent, nothing else; by default, answered calls. Placeholders never are."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.add_customer("all", bill_outcomes=("answered", "lost", "unanswered"))
    for customer in ("acme", "all"):
        await harness.record(customer, 1)
        await harness.record(customer, 20, outcome="lost", billed=customer == "all")
        await harness.record(customer, 300, outcome="unanswered", billed=False)
        await harness.record(customer, 4000, billed=False, suffix="~1")
    await harness.run(2)

    assert {"ext-acme": 1, "ext-all": 21} == sums(harness.systems["stripe"].counted)
    assert [] == harness.rows_of("o_")


@pytest.mark.parametrize(("billed_to", "expected"), [("", 321), ("customer", 300), ("operator", 21)])
async def test_records_on_one_account_alone(monkeypatch: pytest.MonkeyPatch, billed_to: str, expected: int):
    """`billed_to` chooses whose account the calls were on."""
    harness = await make_harness(monkeypatch, replace(STRIPE, billed_to=billed_to))
    await harness.record("acme", 1, 20, billed_to="operator")
    await harness.record("acme", 300)
    await harness.run()

    assert expected == harness.systems["stripe"].sum()


@every_row(
    ("value", "record", "expected"),
    [
        ("input_tokens", {"input_tokens": 7}, 7),
        ("total_tokens", {"total_tokens": None, "input_tokens": 7, "output_tokens": 4}, 11),
        ("total_tokens", {"total_tokens": None, "input_tokens": None, "output_tokens": None}, 0),
        ("total_tokens", {"total_tokens": 0}, 0),
        ("calls", {}, 1),
        ("jobs", {"jobs": 1}, 1),
        ("jobs", {}, 0),
        ("seconds", {"seconds": 27.25}, Decimal("27.25")),
        ("images", {"images": 3}, 3),
    ],
)
async def test_measures(monkeypatch: pytest.MonkeyPatch, value: str, record: dict[str, Any], expected: Any):
    """An event's value is the record's own count; a record without it sends nothing, and no event has the value 0."""
    harness = await make_harness(monkeypatch, replace(LAGO, value=value))
    await harness.record("acme", 5, **record)
    await harness.run()

    assert [expected] * bool(expected) == [each for _, _, each in harness.systems["lago"].counted]
    assert [] == harness.rows_of("o_")


async def test_amounts_wait_for_a_price(monkeypatch: pytest.MonkeyPatch):
    """Without a price nothing is sent, least of all 0, and a person reads why; with one, the amount after markup is."""
    harness = await make_harness(monkeypatch, replace(LAGO, value="amount"), STRIPE)
    await harness.record("acme", 1_000_000, jobs=1)
    await harness.run()
    assert [("lago", "waiting", "There is no price book.")] == await states(harness)
    assert 1_000_000 == harness.systems["stripe"].sum()

    book: dict[str, Any] = {"currency": "USD", "prices": [], "models": [], "markups": []}
    await harness.price_books.publish(decode_price_book(json.dumps(book).encode()), replaces=None, by="test")
    harness.time += timedelta(hours=1)
    await harness.run()
    assert ["No price: no price holds for gpt on 2026-11-10 (provider openai, processing standard)."] == [
        reason for _, _, reason in await states(harness)
    ]

    book |= {
        "prices": [{"provider": "openai", "model": "gpt", "input": "2.50", "output": "10"}],
        "markups": [{"percent": "20", "per_job": "0.01"}],
    }
    replaces = await harness.price_books.current()
    await harness.price_books.publish(decode_price_book(json.dumps(book).encode()), replaces=replaces, by="test")
    harness.time += timedelta(hours=1)
    await harness.run()

    assert [Decimal("3.01")] == [value for _, _, value in harness.systems["lago"].counted]
    event = json.loads(harness.systems["lago"].requests[-1][1])["events"][0]
    assert ("301", "USD", 1) == (
        event["precise_total_amount_cents"].rstrip("0").rstrip("."),
        event["properties"]["currency"],
        event["properties"]["jobs"],
    )


async def test_a_closed_month_keeps_its_prices(monkeypatch: pytest.MonkeyPatch):
    """
    What is sent after its month was closed costs what the document says, whatever price book holds by then; what the
    month was closed without, and an open month, go by the book in use.
    """
    harness = await make_harness(monkeypatch, replace(LAGO, value="amount"))
    await harness.add_customer("acme", external_ids={})
    await harness.record("acme", 1_000_000)
    harness.time += timedelta(seconds=1)  # the outbox is in the order of time
    await harness.record("acme", 1_000_000, model="late", answered_by="late")
    await harness.run()
    hashes = []
    for price, model in (("2", "gpt"), ("3", "*")):
        book: dict[str, Any] = {"prices": [{"provider": "openai", "model": model, "input": price, "output": "1"}]}
        book |= {"currency": "USD", "rates": [{"from": "USD", "to": "EUR", "rate": "0.5"}]}
        published = await harness.price_books.publish(
            decode_price_book(json.dumps(book).encode()), replaces=await harness.price_books.current(), by="test"
        )
        hashes.append(published.sha256)
        harness.time += timedelta(minutes=1)
    harness.time += timedelta(days=30)
    record = ClosedRecord("acme", DocumentId("2026-11"), 1, "A-1", harness.time, "EUR", "1.00", hashes[0])
    await ClosedRecords(harness.table).insert(record)
    await harness.record("acme", 1_000_000)
    await harness.add_customer("acme")
    await harness.run(3)

    events = [event for _, body in harness.systems["lago"].requests for event in json.loads(body)["events"]]
    assert [(1, "EUR"), (3, "USD"), (3, "USD")] == [
        (event["properties"]["value"], event["properties"]["currency"]) for event in events
    ]
    assert [] == await states(harness)


async def test_a_customer_without_an_external_id_waits(monkeypatch: pytest.MonkeyPatch):
    """It is listed and holds up nobody; once the id is there, everything is sent. It costs no reads of its records."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.add_customer("nameless", external_ids={})
    for _ in range(3):
        await harness.record("nameless", 10)
    await harness.record("acme", 1)
    await harness.run(2)
    assert {"ext-acme": 1} == sums(harness.systems["stripe"].counted)
    assert [("stripe", "waiting", NO_EXTERNAL_ID)] * 3 == await states(harness, "nameless")
    assert status(harness, "stripe").oldest == harness.rows_of("o_")[0].values["at"]

    await harness.add_customer("nameless")
    await harness.run(2)
    assert {"ext-acme": 1, "ext-nameless": 30} == sums(harness.systems["stripe"].counted)
    assert status(harness, "stripe").oldest is None


async def test_a_receiver_may_know_customers_by_our_ids(monkeypatch: pytest.MonkeyPatch):
    """With `customer_id` own, no external id is needed."""
    harness = await make_harness(monkeypatch, replace(ORB, own_ids=True))
    await harness.add_customer("nameless", external_ids={})
    await harness.record("nameless", 10)
    await harness.run()

    assert {"nameless": 10} == sums(harness.systems["orb"].counted)


@every_row("kind", ["stripe", "openmeter", "lago", "orb"])
async def test_a_refused_event_holds_no_other_up(monkeypatch: pytest.MonkeyPatch, kind: str):
    """It is shown with the receiver's reason, and sent again once a person says that it is corrected."""
    harness = await make_harness(monkeypatch, EXPORTS[kind])
    await harness.add_customer("unknown")
    system = harness.systems[kind]
    system.refused.add("ext-unknown")
    for customer in ("acme", "unknown", "acme"):
        await harness.record(customer, 10)
    await harness.run(3)

    assert {"ext-acme": 20} == sums(system.counted)
    ((export, state, reason),) = await states(harness, "unknown")
    assert (kind, "refused") == (export, state)
    assert any(words in reason for words in ("No such customer", "unknown subject", "not_found", "is not a customer"))
    assert status(harness, kind).oldest is None

    requests = len(system.requests)
    await harness.run(2)
    assert requests == len(system.requests), "sent again by itself"

    system.refused.clear()
    assert 1 == await harness.outboxes.decide("unknown", kind, "retry", None, by="test")
    await harness.run(2)
    assert harness.recorded == sums(system.counted)
    assert [] == harness.rows_of("o_")


@pytest.mark.parametrize("kind", ["openmeter", "lago", "orb"])
async def test_a_refused_event_within_a_batch(monkeypatch: pytest.MonkeyPatch, kind: str):
    """Whether the receiver takes the rest of the batch or none of it, and names the event or not: only that waits."""
    harness = await make_harness(monkeypatch, EXPORTS[kind])
    system = harness.systems[kind]
    await harness.record("acme", 1)
    await harness.add_customer("acme", external_ids={kind: "ext-bad"})
    for _ in range(3):
        await harness.record("acme", 10, billed=False)
    system.answers = [answer(500)]
    await harness.run()  # sent with the old id
    system.refused.add("ext-bad")
    await harness.add_customer("acme")
    await harness.record("acme", 100)
    await harness.run(6)

    assert 4 == len([state for _, state, _ in await states(harness) if state == "refused"])
    assert {"ext-acme": 100} == sums(system.counted)


async def test_batches_are_as_large_as_the_receiver_takes(monkeypatch: pytest.MonkeyPatch):
    """250 events of one customer are three requests to Lago, of 100 at most, and few transactions."""
    harness = await make_harness(monkeypatch, LAGO)
    for _ in range(125):
        await harness.record("acme", 1, 2)
        harness.time += timedelta(milliseconds=1)
    operations = harness.table.operations
    await harness.run()

    sizes = [len(json.loads(body)["events"]) for _, body in harness.systems["lago"].requests]
    assert [100, 100, 50] == sizes
    assert 375 == harness.systems["lago"].sum() == harness.tally("lago")
    # The records are read one by one; besides, the marks, tallies and deletions are transactions.
    assert harness.table.operations - operations < 250 + 25


async def test_a_backlog_of_many_days_fits_its_transactions(monkeypatch: pytest.MonkeyPatch):
    """A customer whose id comes after 60 days with a record each has all of them sent: each day has its own tally."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.add_customer("acme", external_ids={})
    for _ in range(60):
        await harness.record("acme", 5)
        harness.time += timedelta(days=1)
    await harness.add_customer("acme")
    await harness.run()

    assert 300 == harness.systems["lago"].sum()
    assert 60 == len(harness.rows_of("y_"))


async def test_stripe_refuses_what_is_too_old(monkeypatch: pytest.MonkeyPatch):
    """An event of more than 35 days ago is refused, with Stripe's reason; a younger one of the same run is taken."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.add_customer("acme", external_ids={})
    await harness.record("acme", 1)
    harness.time += timedelta(days=10)
    await harness.record("acme", 20)
    harness.time += timedelta(days=30)
    await harness.add_customer("acme")
    await harness.run()

    assert 20 == harness.systems["stripe"].sum()
    assert [("stripe", "refused")] == [each[:2] for each in await states(harness)]
    assert "35 calendar days" in (await states(harness))[0][2]


async def test_a_throttled_receiver_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    """After 429 nothing is sent to it until its `Retry-After`, by no worker, and nothing is in doubt afterwards."""
    harness = await make_harness(monkeypatch, STRIPE, LAGO)
    for _ in range(60):
        await harness.record("acme", 1)
    harness.systems["stripe"].answers = [answer(429, {"error": {"message": "Too many requests"}}, retry_after="3000")]
    await harness.run()
    sent = len(harness.systems["stripe"].requests)
    assert sent <= AT_ONCE
    assert 60 == harness.systems["lago"].sum()
    assert status(harness, "stripe").error.startswith("The receiver answered 429: Too many requests")

    await harness.run(3)
    assert sent == len(harness.systems["stripe"].requests)

    harness.time += timedelta(hours=30)
    await harness.run(2)
    assert 60 == harness.systems["stripe"].sum()
    assert ("", None) == (status(harness, "stripe").error, status(harness, "stripe").failing_since)


async def test_a_failing_receiver_is_asked_less_and_less(monkeypatch: pytest.MonkeyPatch):
    """5xx: the same events come again with longer waits, in fewer requests than there are customers, and count once."""
    harness = await make_harness(monkeypatch, ORB)
    for number in range(20):
        await harness.add_customer(f"c{number}")
        await harness.record(f"c{number}", 1)
    system = harness.systems["orb"]
    system.answers = [answer(503)] * 1000
    await harness.run()
    assert len(system.requests) <= 5 + 16  # those under way when the fifth has failed
    since = status(harness, "orb").failing_since
    await harness.run(10)
    assert since == status(harness, "orb").failing_since
    assert len(system.requests) < 150

    system.answers = []
    harness.time += timedelta(hours=2)
    await harness.run(3)
    assert 20 == system.sum()
    assert 0 == system.doubles


async def test_answers_that_get_lost(monkeypatch: pytest.MonkeyPatch):
    """The receiver has counted the event, and its answer gets lost: the same request comes again, to the byte."""
    for kind in ("stripe", "lago", "orb", "openmeter"):
        with monkeypatch.context() as patch:
            harness = await make_harness(patch, EXPORTS[kind])
            await harness.record("acme", 10)
            harness.lost = 2
            await harness.run(6)

            system = harness.systems[kind]
            assert {"ext-acme": 10} == sums(system.counted)
            assert 3 == len(system.requests)
            assert 1 == len(set(system.requests))
            assert [] == harness.rows_of("o_")


async def test_what_was_sent_stays_what_it_was(monkeypatch: pytest.MonkeyPatch):
    """A try whose answer got lost is repeated with the same customer's id, even if the profile has another by now."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.record("acme", 10)
    harness.lost = 1
    await harness.run()
    await harness.add_customer("acme", external_ids={"lago": "another"})
    await harness.run(2)

    assert {"ext-acme": 10} == sums(harness.systems["lago"].counted)
    assert 1 == len(set(harness.systems["lago"].requests))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "The secret export--stripe doesn't exist."),
        ("two words", "The secret export--stripe is not a key: one word of ASCII characters."),
        (f"wrong-{KEY}", "The receiver refused the key (401)."),
    ],
)
async def test_a_wrong_key(monkeypatch: pytest.MonkeyPatch, text: str | None, words: str):
    """Nothing is refused or in doubt for it, and it is shown nowhere; once it is corrected, everything is sent."""
    harness = await make_harness(monkeypatch, STRIPE)
    harness.vault.secrets = {} if text is None else {"stripe": text}
    await harness.record("acme", 10)
    await harness.run(2)
    assert words == status(harness, "stripe").error
    assert {"waiting"} == {state for _, state, _ in await states(harness)}
    assert text is None or text not in repr(harness.table.rows)

    harness.vault.secrets = {"stripe": KEY}
    harness.time += timedelta(hours=26)
    await harness.run(2)
    assert 10 == harness.systems["stripe"].sum()
    assert "" == status(harness, "stripe").error


async def test_a_rotated_key_serves_at_once(monkeypatch: pytest.MonkeyPatch):
    """A worker reads the key again after it was refused."""
    harness = await make_harness(monkeypatch, STRIPE)
    worker = harness.delivery()
    await harness.record("acme", 10)
    await worker.run()
    harness.systems["stripe"].key = harness.vault.secrets["stripe"] = "rk_live_ANOTHER-0123456789"
    await harness.record("acme", 10)
    for _ in range(3):
        harness.time += timedelta(minutes=2)
        await worker.run()

    assert 20 == harness.systems["stripe"].sum()


@every_row("status_code", [301, 404, 405, 410])
async def test_a_wrong_url_is_the_exports_fault(monkeypatch: pytest.MonkeyPatch, status_code: int):
    """No event is refused for it."""
    harness = await make_harness(monkeypatch, LAGO)
    await harness.record("acme", 10)
    harness.systems["lago"].answers = [answer(status_code)]
    await harness.run()

    assert (
        f"The receiver answered {status_code}: the export's `url` is not that of its API."
        == status(harness, "lago").error
    )
    assert {"waiting"} == {state for _, state, _ in await states(harness)}
    await harness.run(2)
    assert 10 == harness.systems["lago"].sum()


async def test_reasons_are_bounded_and_have_one_line(monkeypatch: pytest.MonkeyPatch):
    """Whatever a receiver answers, a reason is one short line."""
    harness = await make_harness(monkeypatch, STRIPE)
    answers = [b"\x00\x1b[31m" * 500, b"[" * 5000, b"<html>\n" * 99, b'{"error": {"message": {"a": 1}}}', b"\xff\xfe"]
    harness.systems["stripe"].answers = [(422, {}, body) for body in answers]
    for _ in answers:
        await harness.record("acme", 10)
    await harness.run()

    reasons = [reason for _, _, reason in await states(harness)]
    assert 5 == len(reasons)
    assert all(reason.startswith("The receiver answered 422") for reason in reasons)
    assert all(reason.isprintable() and len(reason) <= MAX_REASON_LENGTH for reason in reasons)


async def test_workers_overlap(monkeypatch: pytest.MonkeyPatch):
    """However many run at the same time, each event is counted once, and each tally is the receiver's sum."""
    for kind in EXPORTS:
        with monkeypatch.context() as patch:
            harness = await make_harness(patch, EXPORTS[kind])
            for _ in range(30):
                await harness.record("acme", 1, 2)
            await asyncio.gather(*(harness.delivery().run() for _ in range(4)))
            await harness.run(4)

            assert 90 == (
                harness.systems[kind].sum() if harness.systems else sums(harness.consumer.counted)["ext-acme"]
            )
            assert 90 == harness.tally(kind)
            assert [] == harness.rows_of("o_")


async def test_an_export_gets_what_was_recorded_since_it_exists(monkeypatch: pytest.MonkeyPatch):
    """One that is added later does not get earlier records, and what one that is removed has not sent stays."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.record("acme", 1)
    harness.exports = [LAGO]
    after = ExportHarness(monkeypatch, [LAGO], time=harness.time, table=harness.table, jobs=10)
    await after.record("acme", 20)
    await after.add_customer("acme")
    await after.run()
    assert 20 == after.systems["lago"].sum()
    assert 1 == len(after.rows_of("o_"))

    again = ExportHarness(monkeypatch, [STRIPE, LAGO], time=after.time, table=harness.table)
    await again.add_customer("acme")
    await again.run()
    assert (1, 0) == (again.systems["stripe"].sum(), again.systems["lago"].sum())
    assert [] == again.rows_of("o_")


async def test_a_customer_is_looked_at_as_long_as_it_may_have_something(monkeypatch: pytest.MonkeyPatch):
    """Its announcement goes once the outbox is empty and no worker relies on it; a minute costs one request then."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.record("acme", 1)
    await harness.run(2)
    assert (PARTITION, "acme") in harness.table.rows

    harness.time += MIN_AGE
    await harness.run()
    assert (PARTITION, "acme") not in harness.table.rows
    operations = harness.table.operations
    await harness.run()
    assert 1 == harness.table.operations - operations

    await harness.record("acme", 2)
    await harness.run()
    assert 3 == harness.systems["stripe"].sum()


async def test_the_time_of_a_run_is_limited(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """What a run does not come to is left to the next, and the log says so."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.record("acme", 1)
    await harness.delivery().run(seconds=-1)

    assert (0, "exports_skipped customers=1") == (harness.systems["stripe"].sum(), caplog.messages[-1])
    await harness.run()
    assert 1 == harness.systems["stripe"].sum()


async def test_log_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A run says what it sent, what was refused and how old the oldest is that is left, without an event's content."""
    caplog.set_level(logging.INFO)
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.add_customer("unknown")
    await harness.add_customer("nameless", external_ids={})
    harness.systems["stripe"].refused.add("ext-unknown")
    for customer in ("acme", "unknown", "nameless"):
        await harness.record(customer, 10)
    harness.time += timedelta(seconds=90)
    await harness.run()

    assert {
        "export_sent export=stripe events=1",
        "export_refused export=stripe events=1",
        "export_lag export=stripe lag_s=90",
    } == set(caplog.messages)


def test_a_run_is_shorter_than_the_minute_until_the_next(monkeypatch: pytest.MonkeyPatch):
    """The timer's next run does not wait."""
    harness = ExportHarness(monkeypatch, [STRIPE])

    assert isinstance(harness.delivery(), Delivery)
    assert Delivery.run.__kwdefaults__["seconds"] < 60


async def test_a_fault_of_ours_concerns_one_customer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """An outbox row that can't be read, whatever wrote it, holds up nobody else; the log has the place, no content."""
    harness = await make_harness(monkeypatch, STRIPE)
    await harness.add_customer("broken")
    await harness.outbox.announce("broken")
    await harness.table.insert(Row("broken", "o_01000000000000_x", {"records": b"MARKED", "to_stripe": "open"}))
    await harness.record("acme", 1)
    await harness.run(2)

    assert 1 == harness.systems["stripe"].sum()
    assert "job_error customer=broken exports DecodeError" in caplog.text
    assert "MARKED" not in caplog.text

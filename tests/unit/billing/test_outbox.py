"""The outbox: each usage record is named by one row of the transaction that wrote it, whatever goes wrong."""

from __future__ import annotations

import ast
import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from shared.billing import outbox as module
from shared.billing.budget_events import budget_event_row
from shared.billing.outbox import FRESH, MAX_RECORDS, MIN_AGE, PARTITION, Outbox, event_id, outbox_row
from shared.clock import now
from shared.contract.budget import MAX_APPLYING, MAX_THRESHOLDS
from shared.errors import LeaseLost, StorageUnavailable
from shared.exports.outbox_rows import EventState, OutboxRow
from shared.exports.receivers import MAX_REASON_LENGTH
from shared.jobs import attempt as attempts
from shared.jobs.attempt import Attempt
from shared.jobs.step_rows import MAX_ADDED_ROWS, StepRecord
from shared.storage.base import MAX_TRANSACTION_ROWS, Row
from tests.support.attempts import ANSWERED, JOB, LATER, UNANSWERED, keys, start, take_over
from tests.support.fakes import Fault, MemoryTable
from tests.support.manual_clock import ManualClock
from tests.support.rows import every_row
from tests.support.source import parse

ROOT = Path(__file__).parents[3]
AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
EXPORTS = ("stripe", "lago-eu")


def exported(table: MemoryTable) -> list[str]:
    """Return the keys of all records that outbox rows name, sorted."""
    rows = [row for (partition, key), row in table.rows.items() if partition == JOB.customer and key.startswith("o_")]
    return sorted(itertools.chain.from_iterable(msgspec.json.decode(row.values["records"]) for row in rows))


def recorded(table: MemoryTable) -> list[str]:
    """Return the keys of all usage records and of closed jobs without one, sorted."""
    return sorted(key for _, key in table.rows if key.startswith(("u_", "c_")))


async def run_job(table: MemoryTable, outbox: Outbox | None) -> None:
    """Run a job of two attempts, of which the first is only slow: it ends after it has lost its lease."""
    slow = await started(table, outbox)
    await save(slow, "0001")
    slow.usage.add_unsettled_calls([UNANSWERED])
    last = await started(table, outbox)
    await save(last, "0002")
    last.usage.add_unsettled_calls([ANSWERED] * 3)
    await repeated(last, lambda: last.complete(b"{}", "succeeded", [ANSWERED] * 2, now()))
    await repeated(slow, slow.settle)


async def started(table: MemoryTable, outbox: Outbox | None) -> Attempt:
    """Return the next attempt; one that Storage's fault ends before it starts is followed by another one."""
    while True:
        try:
            if (JOB.customer, f"j_{JOB.id}") in table.rows:
                return await take_over(table, outbox=outbox)
            return await start(table, outbox=outbox)
        except StorageUnavailable:
            continue


async def save(attempt: Attempt, key: str) -> None:
    """Save a step with one call."""
    record = StepRecord(key, b"1", ANSWERED.consumed(), usage_rows=attempt.step_usage(key, [ANSWERED]))
    await repeated(attempt, lambda: attempt.save_step(record, [ANSWERED]))


async def repeated(attempt: Attempt, work: Callable[[], Awaitable[None]]) -> None:
    """Repeat what Storage does not keep, as the worker does."""
    for _ in range(10):
        try:
            return await work()
        except StorageUnavailable:
            continue
        except LeaseLost:
            return await attempt.settle()
    raise AssertionError("Storage stayed away.")


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", ())


@every_row("fault", [None, *Fault])
@every_row("write", range(14))
async def test_outbox_names_each_record_once_whatever_write_fails(fault: Fault | None, write: int):
    """Each record and closed job is named by exactly one row, and nothing else is, whichever write meets a fault."""
    table = MemoryTable(faults=deque([None] * write + [fault]))

    await run_job(table, Outbox(table, EXPORTS))

    assert recorded(table) == exported(table)
    assert 9 <= len(keys(table, "u")) <= 11  # one whose key a step had, and placeholders


async def test_a_record_that_another_job_has_made_is_named_once():
    """The usage of a stored response that two attempts record is exported by the one whose record is written."""
    table = MemoryTable()
    call = replace(ANSWERED, metered_as="response-1")
    slow = await start(table, outbox=Outbox(table, EXPORTS))
    slow.usage.add_unsettled_calls([call])
    last = await take_over(table, outbox=Outbox(table, EXPORTS))
    await last.complete(b"{}", "succeeded", [call], now())
    await repeated(slow, slow.settle)

    assert recorded(table) == exported(table)


async def test_without_exports_nothing_is_written():
    """A job costs the same operations as without an outbox, and has the same rows."""
    plain, idle = MemoryTable(), MemoryTable()

    await run_job(plain, None)
    await run_job(idle, Outbox(idle))

    assert plain.operations == idle.operations
    assert len(plain.rows) == len(idle.rows)
    assert not any(key.startswith("o_") or partition == PARTITION for partition, key in idle.rows)


async def test_a_transaction_of_many_records_has_rows_of_few():
    """What is noted of a row's records has to fit a column; the largest transaction also has rows of budgets."""
    table = MemoryTable()
    attempt = await start(table, outbox=Outbox(table, EXPORTS))
    attempt.usage.add_unsettled_calls([UNANSWERED] * (MAX_ADDED_ROWS // 2))
    await attempt.release(LATER)

    sizes = [len(msgspec.json.decode(row.values["records"])) for (_, key), row in table.rows.items() if key[:2] == "o_"]
    assert MAX_RECORDS == max(sizes)
    assert recorded(table) == exported(table)
    outbox, budgets = -(-MAX_ADDED_ROWS // MAX_RECORDS), (MAX_APPLYING + 1) * (2 + MAX_THRESHOLDS)
    assert MAX_TRANSACTION_ROWS - 1 <= 1 + MAX_ADDED_ROWS + outbox + budgets <= MAX_TRANSACTION_ROWS


def test_the_longest_states_fit_a_column():
    """Whatever external ids, values and reasons are: 64 KiB, in each export's column."""
    at = AT + timedelta(microseconds=999_999)
    state = EventState(
        "refused", at, at, "\U0001f600" * 200, "9" * 80, "\U0001f600" * MAX_REASON_LENGTH, 999, alone=True
    )
    row = OutboxRow(outbox_row("acme", [f"u_2026-11-29_{'j' * 100}_00000000_0000"] * MAX_RECORDS, EXPORTS, AT, "n"))

    change = row.change("stripe", [state] * MAX_RECORDS)

    assert len(change.values["events_stripe"]) < 64 * 1024


async def test_a_row_names_its_exports_and_sorts_by_time():
    """A row says which exports get its records: one that is added later does not get them."""
    rows = [outbox_row("acme", ["u_1"], EXPORTS, AT + timedelta(milliseconds=number), "n") for number in (0, 1, 10**9)]

    assert all({"at", "records", "to_stripe", "to_lago_eu"} == row.values.keys() for row in rows)
    assert sorted(row.key for row in rows) == [row.key for row in rows]
    assert "o_01795953600000_n" == rows[0].key


def test_ids_of_events():
    """An id follows from customer and key alone; customers with equal keys have different events."""
    assert "u_" == event_id("acme", "u_1")[:2]
    assert 42 == len(event_id("acme", "u_1"))
    assert event_id("acme", "u_1") == event_id("acme", "u_1")
    assert 3 == len({event_id("acme", "u_1"), event_id("acme", "u_2"), event_id("globex", "u_1")})


async def test_a_customer_is_announced_every_half_an_hour(monkeypatch: pytest.MonkeyPatch):
    """A worker writes the customer's row once in FRESH, and renews the one of another worker only if it is old."""
    table, clock, times = MemoryTable(), ManualClock(), [AT]
    monkeypatch.setattr(module, "now", lambda: times[0])
    outbox = Outbox(table, EXPORTS, clock)

    await outbox.announce("acme")
    await outbox.announce("acme")
    assert (1, AT) == (table.operations, table.rows[PARTITION, "acme"].values["at"])

    times[0] += FRESH / 2
    await Outbox(table, EXPORTS, clock).announce("acme")
    assert AT == table.rows[PARTITION, "acme"].values["at"]

    times[0] += FRESH
    clock.advance(FRESH.total_seconds())
    await outbox.announce("acme")
    assert times[0] == table.rows[PARTITION, "acme"].values["at"]
    assert 2 * FRESH < MIN_AGE


async def test_workers_announce_a_customer_at_the_same_time(monkeypatch: pytest.MonkeyPatch):
    """Any interleaving with other workers, and with a delivery that removes the row, leaves a fresh row."""
    table, times = MemoryTable(), [AT]
    monkeypatch.setattr(module, "now", lambda: times[0])
    for seed in range(20):
        rows = [Row(PARTITION, "acme", {"at": AT - MIN_AGE})]
        await table.insert(rows[0])
        stale = table.rows[PARTITION, "acme"]
        works = [Outbox(table, EXPORTS).announce("acme") for _ in range(5)] + [table.delete([stale])]
        random.Random(seed).shuffle(works)
        await asyncio.gather(*works)
        assert times[0] == table.rows[PARTITION, "acme"].values["at"]
        await table.delete([Row(PARTITION, "acme", {})])


async def test_a_budget_event_has_one_row_and_one_id():
    """Whoever crosses a line second meets the first one's row. Body and key have the same id at each try."""
    table = MemoryTable()
    options = {"period": "2026-11", "budget": "team", "unit": "USD", "address": "https://x.contoso.com/b"}
    options |= {"data": {"spent": "5.00"}}
    row = budget_event_row("acme", threshold=80, at=AT, **options)
    again = budget_event_row("acme", threshold=80, at=AT + timedelta(hours=1), **options)
    projected = budget_event_row("acme", threshold=None, at=AT, **options)
    silent = budget_event_row("acme", threshold=50, at=AT, **{**options, "address": None})

    await table.insert(row)

    assert ("e_2026-11_team_USD_80", "e_2026-11_team_USD_projected") == (again.key, projected.key)
    assert ("waiting", "silent") == (row.values["state"], silent.values["state"])
    body = msgspec.json.decode(row.values["body"])
    assert body["id"] == msgspec.json.decode(again.values["body"])["id"]
    assert {
        "id": body["id"],
        "type": "budget.threshold",
        "timestamp": "2026-11-29T12:00:00.000Z",
        "data": {"customer": "acme", "budget": "team", "period": "2026-11", "unit": "USD", "spent": "5.00"},
    } == body


def test_whoever_makes_usage_records_is_on_this_list():
    """Each of them writes an outbox row in the same transaction; a new one that does not would never be exported."""
    makers = {
        f"{path.relative_to(ROOT)}"
        for path in (ROOT / "shared").rglob("*.py")
        if "usage_rows(" in path.read_text(encoding="utf-8")
        and any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "usage_rows"
            for node in ast.walk(parse(path))
        )
    }

    transactional = {"jobs/attempt_usage.py", "connections/probe.py", "retention/abandoned_jobs.py"}
    transactional.add("batches/late_answers.py")  # by Ledger.append_usage
    transactional.add("jobs/response_steps.py")  # by retention/abandoned_jobs.py
    assert {f"shared/{name}" for name in transactional} == makers

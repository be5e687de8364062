"""Turns at batches that are cut off, that a deploy ends, or that several workers take at once."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from local.provider.faults import HANG, LOST, RouteFault
from shared.batches import batch_worker, gathering, provider, records
from shared.clock import now
from shared.errors import RetryLater, StorageUnavailable
from shared.jobs.batch_message import batch_key, encode_batch_message
from shared.jobs.lease import Lease
from shared.jobs.versions import VERSION
from shared.storage.base import Row
from tests.support.patience import patient_app
from tests.support.sampled import Sampled
from tests.support.worker_crashes import VISIBLE_AGAIN_S, CrashingApp, Process, crashing_app
from tests.support.workers import SETTINGS, Worker

HOUR = 3600.0


async def _finish(app: CrashingApp, customer: str, jobs: list[str]) -> None:
    await app.deliver()
    await app.finish(jobs)
    await app.pass_time(HOUR)
    app.check(customer, jobs)


@pytest.mark.parametrize("fault", [None, LOST], ids=["", "creation lost"])
async def test_a_deploy_may_come_at_any_operation(
    client, monkeypatch, sampled: Sampled, fault: RouteFault | None
) -> None:
    """Nothing is begun after SIGTERM, and the next worker goes on."""
    for number in sampled(range(1, 41, 3), share=5):
        process = Process(stops_at=number)
        async with crashing_app(client, monkeypatch, process) as app:
            customer = app.customer()
            if fault is not None:
                app.accounts[customer].faults.route("batches.create", fault)
            jobs = [await app.send(customer) for _ in range(2)]
            await _finish(app, customer, jobs)
            assert len(app.accounts[customer].batches) == 1


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (0, 2))])
async def test_workers_race(client, monkeypatch, seed: int) -> None:
    """Each message comes to two at once, while jobs join batches that are full or about to be sent."""
    await _race(client, monkeypatch, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 15))
async def test_workers_race_for_long(client, monkeypatch, seed: int) -> None:
    """See above."""
    await _race(client, monkeypatch, seed)


async def _race(client, monkeypatch, seed: int) -> None:
    chance = random.Random(seed)
    for module in (records, gathering):
        monkeypatch.setattr(module, "MAX_LINES", 5 if seed % 2 else 10_000)
    async with crashing_app(client, monkeypatch, Process(chance=chance)) as app:
        app.delivers_twice = True
        customer, jobs = app.customer(), list[str]()
        app.accounts[customer].durations.in_progress_s = chance.choice([1, 200])
        for _ in range(12):
            jobs += [await app.send(customer) for _ in range(chance.randrange(3))]
            await app.pass_time(chance.choice([20, 59.9, 60, 100]), step_s=chance.choice([10, 60]))
        await _finish(app, customer, jobs)


async def test_a_turn_is_cut_off_whatever_it_waits_for(client, monkeypatch) -> None:
    """The host would end the whole worker; here the next turn goes on."""
    monkeypatch.setattr(batch_worker, "TURN_LIMIT_S", 0.3)
    async with crashing_app(client, monkeypatch, Process()) as app:
        customer = app.customer()
        for route in ("files.create", "batches.create", "files.content"):
            app.accounts[customer].faults.route(route, HANG)
        jobs = [await app.send(customer)]
        await _finish(app, customer, jobs)


async def test_a_batch_that_can_never_be_read_is_given_up(client, monkeypatch, caplog) -> None:
    """Its output hangs each time."""
    async with crashing_app(client, monkeypatch, Process()) as app:
        customer = app.customer()
        app.accounts[customer].faults.route("files.content", HANG, None)
        jobs = [await app.send(customer, options={"deadline_s": 3600})]
        await app.deliver()
        while not app.accounts[customer].batches:
            await app.pass_time(60)
        monkeypatch.setattr(batch_worker, "TURN_LIMIT_S", 0.02)
        await app.finish(jobs)
        assert "batch_given_up" in caplog.text
        assert [row["outcome"] for row in app.rows(customer, "u_")] == ["unanswered"]


async def test_a_worker_that_stood_still_creates_no_batch(client, monkeypatch) -> None:
    """Another one may have taken the batch over: what was about to be sent is not."""
    async with crashing_app(client, monkeypatch, Process()) as app:
        customer = app.customer()
        account, send = app.accounts[customer], provider.ProviderBatches.create

        async def late(*args, **options):
            if account.calls("batches.create") == [] and not paused:
                paused.append(True)
                app.clock.advance(records.LEASE_S)
            return await send(*args, **options)

        paused: list[bool] = []
        monkeypatch.setattr(provider.ProviderBatches, "create", late)
        jobs = [await app.send(customer)]
        await app.deliver()
        while not paused:
            await app.pass_time(60)
        assert account.calls("batches.create") == []
        await _finish(app, customer, jobs)


async def test_what_a_worker_can_not_take_up_comes_again_later(client, monkeypatch) -> None:
    """A setting is wrong, a later version has the row, or Storage does not answer: the host counts no failure."""
    body = encode_batch_message("contoso", "00000000000001-00000000")
    wrong = replace(SETTINGS, fault="BATCH_WINDOW_S must be an integer.")
    async with patient_app(client, monkeypatch, settings=wrong) as app:
        await app.worker.services.batch_worker.process(body)
        assert app.memory.queues.sent.pop("batches") == [(body, 60)]
    async with patient_app(client, monkeypatch) as app:
        await app.memory.table.insert(Row("contoso", batch_key("00000000000001-00000000"), {"version": VERSION + 1}))
        await app.worker.services.batch_worker.process(body)
        assert app.memory.queues.sent.pop("batches") == [(body, 30)]
        app.memory.table.down = True
        await app.worker.services.batch_worker.process(body)
        assert app.memory.queues.sent.pop("batches") == [(body, 60)]
        app.memory.queues.down = True
        with pytest.raises(StorageUnavailable):
            await app.worker.services.batch_worker.process(body)


@pytest.mark.parametrize("twice", [False, True])
async def test_a_job_is_written_once_to_join_and_once_to_end(client, monkeypatch, twice: bool) -> None:
    """Its attempts buy nothing, so no claim is written; of two at once, the second one's only write is refused."""
    async with crashing_app(client, monkeypatch, Process()) as app:
        customer = app.customer()
        jobs = [await app.send(customer)]
        app.delivers_twice = twice
        await app.deliver()
        assert (len(app.rows(customer, "j_")), len(app.rows(customer, "l_"))) == (1, 1)
        app.delivers_twice = False
        await _finish(app, customer, jobs)
        written = [each for each in app.process.operations if each.endswith(" j")]
        assert written == ["table.merge j"] * twice + ["table.merge_and_insert j"]  # the second one waits, too


async def test_a_message_that_comes_again_is_claimed(client, monkeypatch) -> None:
    """A worker has died with it; if it is the job that kills workers, that has to be counted."""
    async with crashing_app(client, monkeypatch, Process(dies_at=1)) as app:
        customer = app.customer()
        jobs = [await app.send(customer)]
        await app.deliver()
        assert (app.crashes, app.rows(customer, "j_")) == (1, [])
        await app.pass_time(VISIBLE_AGAIN_S, step_s=VISIBLE_AGAIN_S)
        assert app.process.operations[0] == "table.merge_and_insert j"
        await _finish(app, customer, jobs)


async def test_a_record_that_exists_is_no_lost_lease(worker: Worker) -> None:
    """The first write of an attempt that was not claimed is made without that record, whose key it leaves alone."""
    customer, ledger = worker.customer().name, worker.ledger
    claim = {"fingerprint": "f", "submitted_at": now(), "exists": True}
    lease = await ledger.claim(customer, "job", **claim)
    assert isinstance(lease, Lease)
    await ledger.release(lease, RetryLater("It waits."))
    record = Row(customer, "m_2026-11-30_job_x_1", {"outcome": "answered"})
    await worker.table.insert(record)

    lease = await ledger.claim(customer, "job", **claim, buys=False)
    assert isinstance(lease, Lease)
    await ledger.complete(lease, b"{}", status="succeeded", usage=[record])

    assert "done" == worker.table.rows[customer, "j_job"].values["state"]

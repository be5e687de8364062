"""Batches and their lines are removed with their jobs; what an unfinished job names stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from local.provider.faults import LOST, BatchFault, error
from shared import clock
from shared.retention.sweep import Sweep
from tests.support.patience import PatientApp, patient_app
from tests.support.patient_budgets import monthly, put, total

DAY_S = 86_400


@pytest.fixture
async def at(client, monkeypatch):
    """The patient app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def sweep(at: PatientApp, *, days: int) -> None:
    """Let days pass, and remove what is old by then."""
    at.clock.advance(days * DAY_S)
    services = at.worker.services
    made = Sweep(services.table, services.blobs, services.settings, services.schedule)
    assert "complete" == await made.run(clock.now())


async def test_lines_and_batches_go_with_their_jobs(at: PatientApp) -> None:
    """With what says that their answers are on record, with large bodies, and with their group; records stay."""
    customer = at.customer()
    large = await at.send(customer, input={"prompt": "x" * 70_000})
    jobs = [large, await at.send(customer), await at.send(customer, "multi_chat", input={"prompts": ["1", "2"]})]
    await at.finish(jobs)
    young = await at.send(customer)
    await at.finish([young])
    before = {prefix: len(at.rows(customer, prefix)) for prefix in ("p_", "l_", "g_", "m_line", "u_")}

    await sweep(at, days=20)
    kept = {prefix: len(at.rows(customer, prefix)) for prefix in before}
    await sweep(at, days=20)

    assert before == kept == {"p_": 2, "l_": 5, "g_": 1, "m_line": 5, "u_": 5}
    assert {"u_"} == {prefix for prefix in before if at.rows(customer, prefix)}
    assert {} == at.memory.blobs.blobs


async def test_what_says_that_late_answers_and_doubles_are_on_record_goes_too(at: PatientApp) -> None:
    """Of a batch that was read too late, of which the provider has had two."""
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 1800
    account.faults.batches.add(BatchFault(list_late_s=1200))
    account.faults.route("batches.create", LOST)
    jobs = [await at.send(customer, options={"deadline_s": 7200}) for _ in range(3)]
    await at.pass_time(1000)
    account.faults.route("batches.get", error(503), None)
    await at.finish(jobs)
    account.faults.clear()
    await at.pass_time(3600)
    assert {"done"} == {row["state"] for row in at.rows(customer, "p_")}
    markers = {prefix: bool(at.rows(customer, prefix)) for prefix in ("m_line", "m_late", "m_double")}
    assert set(markers.values()) == {True}

    await sweep(at, days=20)
    await sweep(at, days=20)

    assert {"u_"} == {prefix for prefix in ("p_", "l_", "u_", *markers) if at.rows(customer, prefix)}


@pytest.mark.parametrize("is_alive", [True, False])
async def test_a_job_that_waits_for_a_batch_is_not_abandoned_while_that_lives(at: PatientApp, is_alive: bool) -> None:
    """However old it is. Once nothing continues it, it goes with its lines, and what it has reserved is spent."""
    customer = at.customer()
    await put(at, customer, main=monthly("1000000"))
    at.accounts[customer].durations.in_progress_s = 7200
    job = await at.send(customer)
    await at.pass_time(600)
    reserved = total(at.memory.table, customer, "main").reserved
    if not is_alive:
        await change(at, customer, "p_", state="done")

    await sweep(at, days=60)
    await sweep(at, days=1)

    assert is_alive == bool(at.rows(customer, "j_")) == bool(at.rows(customer, "l_")) == bool(at.rows(customer, "p_"))
    after = total(at.memory.table, customer, "main")
    assert ((0, reserved) if is_alive else (reserved, 0)) == (after.spent, after.reserved)
    assert job


async def test_an_abandoned_job_whose_lines_were_never_sent_frees_what_it_has_reserved(at: PatientApp) -> None:
    customer = at.customer()
    await put(at, customer, main=monthly("1000000"))
    await at.send(customer)
    await at.deliver()
    await change(at, customer, "p_", state="done")
    await change(at, customer, "l_", status=0, error_code="not_sent")

    await sweep(at, days=60)

    assert [] == at.rows(customer, "j_")
    assert (0, 0) == total(at.memory.table, customer, "main")


async def change(at: PatientApp, customer: str, prefix: str, **values: object) -> None:
    """Change rows behind the app's back."""
    table = at.memory.table
    for (partition, key), row in list(table.rows.items()):
        if partition == customer and key.startswith(prefix):
            await table.merge(replace(row, values=values))

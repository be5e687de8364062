"""Patient jobs whose workers are killed at any operation, beside any fault of their provider."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import pytest

from local.provider.account import Account
from local.provider.faults import CUT, HANG, HANG_AFTER, LOST, RESET, BatchFault, CallFault, error
from shared.batches import gathering, provider_api, records
from shared.billing.customer_records import CustomerRecords
from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.fakes import Fault as StorageFault
from tests.support.patient_budgets import monthly, total, used
from tests.support.worker_crashes import CrashingApp, Process, crashing_app

AFTERWARDS_S = 3600.0
"""In which whatever is still under way would go wrong."""


async def _chat(app: CrashingApp, customer: str) -> list[str]:
    return [await app.send(customer, job_id=f"job-{number}") for number in range(2)]


async def _chat_with_budget(app: CrashingApp, customer: str) -> list[str]:
    budgets = {"main": monthly("1000000")}
    change = CustomerRecords(app.stored.table).change
    await change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")
    return await _chat(app, customer)


async def _multi_chat(app: CrashingApp, customer: str) -> list[str]:
    """One job whose lines join two batches."""
    prompts = [f"Say number {number}." for number in range(45)]
    return [await app.send(customer, "multi_chat", input={"prompts": prompts})]


async def _summarize(app: CrashingApp, customer: str) -> list[str]:
    """One job of two rounds."""
    text = "\n\n".join(f"Paragraph {number}. " + "Words follow words in it. " * 40 for number in range(900))
    return [await app.send(customer, "summarize", input={"text": text[:45_000]})]


async def _respond(app: CrashingApp, customer: str) -> list[str]:
    return [await app.send(customer, "respond", job_id=f"job-{n}", input={"input": f"Say {n}."}) for n in range(2)]


JOBS: Mapping[str, Callable[[CrashingApp, str], Awaitable[list[str]]]] = {
    "chat": _chat,
    "chat with a budget": _chat_with_budget,
    "multi_chat": _multi_chat,
    "summarize": _summarize,
    "respond": _respond,
}


MANY_LINES = frozenset({"multi_chat", "summarize"})


class Fault(NamedTuple):
    """A fault of the provider; whether all jobs succeed all the same, and how many calls stay without an answer."""

    add: Callable[[Account], None]
    succeeded: bool = True
    unanswered: int = 0


def _none(_: Account) -> None:
    pass


def _route_fault(route: str, name: str, times: int) -> Fault:
    def add(account: Account) -> None:
        account.faults.route(route, ROUTE_FAULTS[name], times)
        if route == "batches.list":  # asked only if the answer to a creation got lost
            account.faults.route("batches.create", LOST)

    return Fault(add)


def _batch_fault(*faults: BatchFault, lost: bool = False, **expected: int) -> Fault:
    def add(account: Account) -> None:
        for fault in faults:
            account.faults.batches.add(fault)
        if lost:
            account.faults.route("batches.create", LOST)

    return Fault(add, **expected)  # type: ignore[arg-type]


def _call_fault(fault: CallFault, *, succeeded: bool = True) -> Fault:
    return Fault(lambda account: account.faults.calls.add(fault), succeeded)


ROUTE_FAULTS = {
    "lost": LOST,
    "reset": RESET,
    "cut": CUT,
    "hang": HANG,
    "hang_after": HANG_AFTER,
    "429": error(429),
    "500": error(500),
    "503": error(503, retry_after_s=120),
    "408": error(408),
}
ROUTES = ("files.create", "files.get", "batches.create", "batches.list", "batches.get", "files.content", "files.delete")
FAULTS = {
    **{
        f"{route} {name} {times}": _route_fault(route, name, times)
        for route in ROUTES
        for name in ROUTE_FAULTS
        for times in (1, 3)
    },
    "odd output": _batch_fault(BatchFault(shuffle=True, duplicates=3, bom=True)),
    "validating for long": _batch_fault(BatchFault(validating_s=7200)),
    "expired with half": _batch_fault(BatchFault(expire_share=0.5)),
    "no room": _batch_fault(BatchFault(fail_code="token_limit_exceeded")),
    "errors only": _batch_fault(BatchFault(errors_only=True)),
    "lost and listed late": _batch_fault(BatchFault(list_late_s=100), lost=True),
    "a line missing": _batch_fault(BatchFault(missing=1), succeeded=False, unanswered=1),
    "a line 500": _call_fault(CallFault(500)),
    "a line 429": _call_fault(CallFault(429, "rate_limit_exceeded")),
    "a line filtered": _call_fault(CallFault(200), succeeded=False),
}
NO_FAULT = Fault(_none)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_api, "REQUEST_S", 0.3)
    monkeypatch.setattr(provider_api, "STALL_S", 0.3)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (records, gathering):
        monkeypatch.setattr(module, "MAX_LINES", 40)


Live = Callable[..., Awaitable[Process]]


@pytest.fixture
def live(client, monkeypatch) -> Live:
    """Runs jobs of a kind from the queue to their results, and checks what came of them."""

    async def run(kind: str, process: Process, fault: Fault = NO_FAULT) -> Process:
        async with crashing_app(client, monkeypatch, process) as app:
            customer = app.customer()
            fault.add(app.accounts[customer])
            jobs = await JOBS[kind](app, customer)
            await app.deliver()
            await app.finish(jobs)
            await app.pass_time(AFTERWARDS_S)
            assert app.crashes == (process.dies_at > 0)
            app.check(customer, jobs, succeeded=fault.succeeded, unanswered=fault.unanswered)
            if "budget" in kind:
                assert total(app.stored.table, customer, "main") == (used(app.stored.table, customer), 0)
        return process

    return run


async def test_a_worker_may_die_at_any_operation(live: Live) -> None:
    """Nothing is bought twice, lost or left out of the records. Here at a fifth of them, of which half are made."""
    operations = (await live("chat", Process())).operations
    assert len(operations) > 30
    for number in range(1, len(operations) + 1, 5):
        await live(["chat", "respond"][number % 3 == 0], Process(number, after=number % 2 == 0))


@pytest.mark.parametrize("name", ["batches.create lost 1", "expired with half", "a line missing"])
async def test_a_worker_may_die_beside_a_fault_of_the_provider(live: Live, name: str) -> None:
    """See above; some operations."""
    operations = (await live("chat", Process(), FAULTS[name])).operations
    for number in range(8, len(operations) + 1, 16):
        await live("chat", Process(number, after=number % 2 == 0), FAULTS[name])


@pytest.fixture
def live_beside_storage_faults(client, monkeypatch) -> Callable[..., Awaitable[bool]]:
    """As `live`, with a fault of the table after so many writes; returns whether there were so many."""

    async def run(kind: str, writes: int, fault: StorageFault, times: int) -> bool:
        monkeypatch.setattr(gathering, "_RETRY_S", (0.001,) * 3)
        async with crashing_app(client, monkeypatch, Process()) as app:
            customer, faults = app.customer(), app.stored.table.faults
            jobs = await JOBS[kind](app, customer)
            faults.extend([*[None] * writes, *[fault] * times])
            await app.deliver()
            await app.finish(jobs)
            happened = len(faults) < times
            await app.pass_time(AFTERWARDS_S)
            # A claim whose answer got lost looks like one whose worker died, and too many of these give a job up.
            is_given_up = fault is StorageFault.LOST and times > MAX_FAILED_ATTEMPTS
            app.check(customer, jobs, succeeded=not is_given_up)
        return happened

    return run


@pytest.mark.usefixtures("short_storage_waits")
@pytest.mark.parametrize("fault", StorageFault)
async def test_storage_may_fail_at_any_write(live_beside_storage_faults, fault: StorageFault) -> None:
    """See above; at some writes."""
    for writes in range(list(StorageFault).index(fault), 18, 8):
        assert await live_beside_storage_faults("chat", writes, fault, 1)


@pytest.mark.long
@pytest.mark.usefixtures("short_storage_waits")
@pytest.mark.parametrize("fault", StorageFault)
@pytest.mark.parametrize(("kind", "times"), [*((kind, 1) for kind in JOBS), ("chat", 8)])
async def test_storage_may_fail_at_any_write_for_long(
    live_beside_storage_faults, kind: str, fault: StorageFault, times: int
) -> None:
    """See above. Of the many writes of a job of many lines, each fault happens to every other."""
    step = 2 if kind in MANY_LINES else 1
    writes = list(StorageFault).index(fault) % step
    while await live_beside_storage_faults(kind, writes, fault, times):
        writes += step
    assert writes > 15


@pytest.mark.long
@pytest.mark.parametrize("kind", JOBS)
async def test_a_worker_may_die_at_any_operation_made_or_not(live: Live, kind: str) -> None:
    """See above. Of the many operations of a job of many lines, which are alike, every other one is made."""
    operations = (await live(kind, Process())).operations
    for number in range(1, len(operations) + 1):
        for after in (number % 2 == 0,) if kind in MANY_LINES else (False, True):
            await live(kind, Process(number, after=after))


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
async def test_a_worker_may_die_at_any_operation_beside_any_fault(live: Live, name: str) -> None:
    """See above. At an operation of a kind of job."""
    fault, chance = FAULTS[name], random.Random(name)
    kind = chance.choice(["chat", "chat", "multi_chat", "summarize"])
    operations = (await live(kind, Process(), fault)).operations
    dies_at = chance.randrange(1, len(operations) + 1)
    await live(kind, Process(dies_at, after=chance.random() < 0.5), fault)

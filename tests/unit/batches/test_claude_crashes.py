"""Jobs in Claude's batches whose workers are killed at any operation, beside any fault of Anthropic's API."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from local.provider.account import Account
from local.provider.faults import CUT, HANG, HANG_AFTER, LOST, RESET, BatchFault, CallFault, error
from shared.batches import claude_batches, gathering, provider_api, records
from shared.billing.customer_records import CustomerRecords
from tests.support.patient_budgets import monthly, total, used
from tests.support.sampled import Sampled
from tests.support.worker_crashes import CrashingApp, Process, crashing_app

AFTERWARDS_S = 3600.0
"""In which whatever is still under way would go wrong."""


class Fault(NamedTuple):
    """A fault of the provider; whether all jobs succeed all the same, and how many calls stay without an answer."""

    add: Callable[[Account], None]
    succeeded: bool = True
    unanswered: int = 0


def _route_fault(route: str, name: str, times: int) -> Fault:
    def add(account: Account) -> None:
        account.faults.route(route, ROUTE_FAULTS[name], times)
        if route == "message_batches.list":  # asked only if the answer to a creation got lost
            account.faults.route("message_batches.create", LOST)

    return Fault(add)


def _batch_fault(fault: BatchFault, *, lost: bool = False, succeeded: bool = True, unanswered: int = 0) -> Fault:
    def add(account: Account) -> None:
        account.faults.batches.add(fault)
        if lost:
            account.faults.route("message_batches.create", LOST)

    return Fault(add, succeeded, unanswered)


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
    "529": error(529),
    "503": error(503, retry_after_s=120),
    "408": error(408),
}
ROUTES = ("create", "list", "get", "results")
FAULTS = {
    **{
        f"{route} {name} {times}": _route_fault(f"message_batches.{route}", name, times)
        for route in ROUTES
        for name in ROUTE_FAULTS
        for times in (1, 3)
    },
    "odd results": _batch_fault(BatchFault(shuffle=True, duplicates=3, bom=True)),
    "long": _batch_fault(BatchFault(validating_s=7200)),
    "expired with half": _batch_fault(BatchFault(expire_share=0.5)),
    "errored all": _batch_fault(BatchFault(errors_only=True)),
    "lost and listed late": _batch_fault(BatchFault(list_late_s=100), lost=True),
    "lost and long": _batch_fault(BatchFault(in_progress_s=7200), lost=True),
    "lost and expired": _batch_fault(BatchFault(expire_share=0.5), lost=True),
    "lost and errored all": _batch_fault(BatchFault(errors_only=True), lost=True),
    "lost and odd": _batch_fault(BatchFault(shuffle=True, duplicates=3, bom=True), lost=True),
    "a line missing": _batch_fault(BatchFault(missing=1), succeeded=False, unanswered=1),
    "a line 529": _call_fault(CallFault(529)),
    "a line 429": _call_fault(CallFault(429)),
    "a line refused": _call_fault(CallFault(200), succeeded=False),
}
NO_FAULT = Fault(lambda _: None)


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
    """Runs jobs from the queue to their results, and checks what came of them."""

    async def run(process: Process, fault: Fault = NO_FAULT, kind: str = "chat") -> Process:
        async with crashing_app(client, monkeypatch, process) as app:
            customer = app.customer(style="anthropic")
            account = app.accounts[customer]
            fault.add(account)
            jobs = await _send(app, customer, kind)
            await app.deliver()
            await app.finish(jobs)
            await app.pass_time(AFTERWARDS_S)
            assert app.crashes == (process.dies_at > 0)
            app.check(customer, jobs, succeeded=fault.succeeded, unanswered=fault.unanswered)
            if kind == "chat with a budget":
                assert total(app.stored.table, customer, "main") == (used(app.stored.table, customer), 0)
        return process

    return run


async def _send(app: CrashingApp, customer: str, kind: str) -> list[str]:
    if kind == "chat with a budget":
        change = CustomerRecords(app.stored.table).change
        budgets = {"main": monthly("1000000")}
        await change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")
    if kind == "multi_chat":
        prompts = [f"Say number {number}." for number in range(45)]
        return [await app.send(customer, "multi_chat", input={"prompts": prompts})]
    return [await app.send(customer, job_id=f"job-{number}") for number in range(2)]


KINDS = ("chat", "chat with a budget", "multi_chat")


async def test_a_worker_may_die_at_any_operation(live: Live) -> None:
    """Nothing is bought twice, lost or left out of the records. Here at a fifth of them, of which half are made."""
    operations = (await live(Process())).operations
    assert len(operations) > 20
    for number in range(1, len(operations) + 1, 5):
        await live(Process(number, after=number % 2 == 0))


@pytest.mark.parametrize("name", ["create lost 1", "lost and expired", "a line missing"])
async def test_a_worker_may_die_beside_a_fault_of_the_provider(live: Live, name: str) -> None:
    """See above; some operations."""
    operations = (await live(Process(), FAULTS[name])).operations
    for number in range(8, len(operations) + 1, 12):
        await live(Process(number, after=number % 2 == 0), FAULTS[name])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_may_die_at_any_operation_made_or_not(live: Live, kind: str) -> None:
    """See above. Of the many operations of a job of many lines, which are alike, every other one is made."""
    operations = (await live(Process(), kind=kind)).operations
    for number in range(1, len(operations) + 1):
        for after in (number % 2 == 0,) if kind == "multi_chat" else (False, True):
            await live(Process(number, after=after), kind=kind)


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
async def test_a_worker_may_die_at_any_operation_beside_any_fault(live: Live, name: str) -> None:
    """See above. At an operation."""
    fault, chance = FAULTS[name], random.Random(name)
    kind = chance.choice(["chat", "chat", "multi_chat"])
    operations = (await live(Process(), fault, kind)).operations
    dies_at = chance.randrange(1, len(operations) + 1)
    await live(Process(dies_at, after=chance.random() < 0.5), fault, kind)


def test_a_creation_ends_within_the_lease() -> None:
    """Another worker's turn begins afterwards, with the list."""
    assert claude_batches.CREATE_S + 2 * 10 < records.LEASE_S


@pytest.mark.parametrize("name", ["", "create lost 1"])
async def test_a_worker_may_stop_at_any_operation(client, monkeypatch, sampled: Sampled, name: str) -> None:
    """A deploy begins no creation that it might not end. Here at some operations."""
    for stops_at in sampled(range(2, 30, 5), share=2):
        async with crashing_app(client, monkeypatch, Process(stops_at=stops_at)) as app:
            customer = app.customer(style="anthropic")
            FAULTS.get(name, NO_FAULT).add(app.accounts[customer])
            jobs = await _send(app, customer, "chat")
            await app.deliver()
            await app.finish(jobs)
            await app.pass_time(AFTERWARDS_S)
            assert app.crashes == 1
            app.check(customer, jobs)


async def test_a_worker_that_stood_still_creates_no_batch(client, monkeypatch) -> None:
    """Another one may have taken the batch over: what was about to be sent is not."""
    async with crashing_app(client, monkeypatch, Process()) as app:
        customer = app.customer(style="anthropic")
        account, create = app.accounts[customer], claude_batches.ClaudeBatches.create
        paused: list[bool] = []

        async def late(*args, **options):
            if not paused:
                paused.append(True)
                app.clock.advance(records.LEASE_S)
            return await create(*args, **options)

        monkeypatch.setattr(claude_batches.ClaudeBatches, "create", late)
        jobs = await _send(app, customer, "chat")
        await app.deliver()
        while not paused:
            await app.pass_time(60)
        assert account.calls("message_batches.create") == []
        await app.finish(jobs)
        await app.pass_time(AFTERWARDS_S)
        app.check(customer, jobs)

"""
Jobs of `respond` whose workers are killed at any operation, beside any fault of their provider.

Whether a response exists is not known from the step that says that it is about to be created until the one that names
it. A worker that dies in between, or a provider that does not answer then, leaves one call on record as `unanswered`;
it is bought again unless the provider's event names it.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from local.provider.account import Account
from local.provider.faults import CUT, HANG, HANG_AFTER, LOST, RESET, CallFault, ResponseFault, error
from shared.jobs import batch_context, pending_response, response_requests
from tests.support.cheapest_runs import without_flex
from tests.support.fakes import Fault as StorageFault
from tests.support.response_jobs import EventfulApp, eventful_app, finish, in_doubt, send_response
from tests.support.sampled import Sampled
from tests.support.worker_crashes import Process

LEFT = "w_default"
AFTERWARDS_S = 600.0
"""In which whatever is still under way would go wrong."""


class Kind(NamedTuple):
    """How a job is bought, what its provider does meanwhile, and how many calls get no answer all the same."""

    options: Mapping[str, Any] = {}
    prepare: Callable[[Account], None] = lambda _: None
    has_batches: bool = True
    step_s: float = 15
    unanswered: int = 0
    action: str = "respond"
    calls_directly: bool = False


def _slow_batches(account: Account) -> None:
    account.durations.in_progress_s = 80_000


def _slow_response(account: Account) -> None:
    account.faults.responses.add(ResponseFault("completed", in_progress_s=80_000))


def _slow_response_without_flex(account: Account) -> None:
    without_flex(account)
    _slow_response(account)


STANDARD = Kind()
KINDS: Mapping[str, Kind] = {
    "list price after a batch": Kind({"processing": "cheapest"}, _slow_batches, step_s=60),
    "window": Kind({"processing": "background", "deadline_s": 90_000}),
    "chat in a window": Kind({"processing": "background", "deadline_s": 90_000}, action="chat"),
    "cheapest window": Kind({"processing": "cheapest", "deadline_s": 90_000}, has_batches=False),
    "list price after a window": Kind(
        {"processing": "cheapest", "deadline_s": 10_800}, _slow_response, has_batches=False, step_s=60, unanswered=1
    ),
    "cheapest chat": Kind(
        {"processing": "cheapest", "deadline_s": 90_000},
        without_flex,
        has_batches=False,
        action="chat",
        calls_directly=True,
    ),
    "chat at list price after a window": Kind(
        {"processing": "cheapest", "deadline_s": 10_800},
        _slow_response_without_flex,
        has_batches=False,
        step_s=60,
        unanswered=1,
        action="chat",
        calls_directly=True,
    ),
}


class Fault(NamedTuple):
    """A fault of the provider; what becomes of the job, and how many calls get no answer at least."""

    add: Callable[[Account], None]
    status: str = "succeeded"
    unanswered: int = 0


def _route_fault(route: str, name: str, times: int) -> Fault:
    def add(account: Account) -> None:
        account.faults.route(route, ROUTE_FAULTS[name], times)

    is_lost = route == "responses.create" and name in UNKNOWN
    return Fault(add, unanswered=times if is_lost else 0)


def _response_fault(status: str, *, unanswered: int = 0, result: str = "succeeded", **seconds: float) -> Fault:
    fault = ResponseFault(status, **seconds)  # type: ignore[arg-type]
    return Fault(lambda account: account.faults.responses.add(fault), result, unanswered)


ROUTE_FAULTS = {
    "lost": LOST,
    "reset": RESET,
    "cut": CUT,
    "hang": HANG,
    "hang_after": HANG_AFTER,
    "429": error(429),
    "429 for long": error(429, retry_after_s=200),
    "500": error(500),
    "503": error(503, retry_after_s=120),
    "502": error(502),
}
UNKNOWN = frozenset({"lost", "reset", "cut", "hang", "hang_after", "502"})
"""Those after which it is not known whether a response was created."""
FAULTS: Mapping[str, Fault] = {
    **{
        f"{route} {name} {times}": _route_fault(route, name, times)
        for route in ("responses.create", "responses.get")
        for name in ROUTE_FAULTS
        for times in (1, 3)
    },
    "in progress for long": _response_fault("completed", in_progress_s=1500),
    "failed": _response_fault("failed", unanswered=1, result="failed"),
    "incomplete": _response_fault("incomplete"),
    "refused when it runs": Fault(
        lambda account: account.faults.calls.add(CallFault(429, "rate_limit_exceeded")), "failed", 1
    ),
    "filtered": Fault(lambda account: account.faults.calls.add(CallFault(200)), "partial"),
}
SOME_FAULTS = ("responses.create lost 3", "responses.create 503 1", "responses.get cut 1", "failed", "incomplete")
"""One or two of each sort."""
NO_FAULT = Fault(lambda _: None)


COUNTS: Mapping[bool, Counter[str]] = {False: Counter(), True: Counter()}
"""What was counted, without events and with them: docs/promises.md has it."""


@pytest.fixture(scope="module", autouse=True)
def _printed_counts() -> Iterator[None]:
    yield
    print(*(f"\n{'with' if hears else 'without'} events: {dict(counts)}" for hears, counts in COUNTS.items()))  # noqa: T201


def count(app: EventfulApp, customer: str, jobs: int, *, hears: bool) -> None:
    """Count what has happened to jobs whose books were checked."""
    twice = app.accounts[customer].journal.bought_twice()
    bought_twice = sum(twice.values()) - len(twice)
    COUNTS[hears].update(jobs=jobs, killed=app.crashes, bought_twice=bought_twice, in_doubt=app.died_in_doubt)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_requests, "REQUEST_S", 0.3)
    monkeypatch.setattr(pending_response, "_LAST_WAIT_S", 0.01)


Live = Callable[..., Awaitable[Process]]


@pytest.fixture
def live(client, monkeypatch) -> Live:
    """Runs a job from the queue to its result, and checks what came of it. `hears`: the provider sends events."""

    async def run(process: Process, fault: Fault = NO_FAULT, *, hears: bool = False, kind: Kind = STANDARD) -> Process:
        if not kind.has_batches:  # in time
            monkeypatch.setattr(batch_context, "MIN_BATCH_S", 1e9)
        async with eventful_app(client, monkeypatch, process) as app:
            if hears:
                app.listen()
            customer = app.customer()
            fault.add(app.accounts[customer])
            kind.prepare(app.accounts[customer])
            options = {"timeout_s": 0.3, "retry_delay_ms": 1, "deadline_s": 7200, **kind.options}
            job = await send_response(app, customer, kind.action, options=options)
            app.in_doubt = lambda: in_doubt(app, customer)
            await app.deliver()
            await finish(app, [job], within_s=11_000, step_s=kind.step_s)
            await app.pass_time(AFTERWARDS_S, step_s=60)
            # Looks of old responses are at whole minutes, so that one more or less is made.
            assert app.crashes == (0 < process.dies_at <= len(process.operations))
            # What is bought again may not meet the fault that the first one met.
            expected = {fault.status, *(["succeeded"] if app.died_in_doubt else [])}
            assert app.result(job)["status"] in expected
            own = {"hears": hears, "calls_directly": kind.calls_directly}
            app.check_books(customer, [job], at_least=fault.unanswered + kind.unanswered, **own)
            count(app, customer, 1, hears=hears)
        return process

    return run


@pytest.mark.parametrize("hears", [False, True])
async def test_a_worker_may_die_at_any_operation(live: Live, sampled: Sampled, *, hears: bool) -> None:
    """Nothing is lost or left out of the records, and nothing bought twice but in the window; with events, nothing."""
    operations = (await live(Process(), hears=hears)).operations
    assert len(operations) == 22
    for number, after in sampled(itertools.product(range(1, len(operations) + 1), (False, True))):
        await live(Process(number, after=after), hears=hears)


@pytest.mark.parametrize("name", ["window", "cheapest window"])
async def test_a_worker_may_die_at_any_operation_of_a_patient_job(live: Live, name: str) -> None:
    """See above; at two of the operations, of which one is made."""
    operations = (await live(Process(), kind=KINDS[name])).operations
    for after, number in enumerate(random.Random(name).sample(range(1, len(operations) + 1), 2)):
        await live(Process(number, after=bool(after)), kind=KINDS[name])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("hears", [False, True])
@pytest.mark.parametrize("name", KINDS)
async def test_a_worker_may_die_at_any_operation_of_a_patient_job_made_or_not(
    live: Live, name: str, *, hears: bool
) -> None:
    """See above; half of the operations with events, half without, or 24 of them: most are looks at a batch."""
    operations = (await live(Process(), hears=hears, kind=KINDS[name])).operations
    numbers = range(1 + hears, len(operations) + 1, 2)
    for number in random.Random(name).sample(numbers, min(len(numbers), 24)):
        await live(Process(number, after=number % 4 > 1), hears=hears, kind=KINDS[name])


@pytest.mark.parametrize("name", SOME_FAULTS)
async def test_a_worker_may_die_beside_a_fault_of_the_provider(live: Live, name: str) -> None:
    """See above; right before the operation that ends the job."""
    operations = (await live(Process(), FAULTS[name])).operations
    await live(Process(_last_before_the_end(operations), after=True), FAULTS[name])


def _last_before_the_end(operations: Sequence[str]) -> int:
    return max(number for number, name in enumerate(operations) if name == "table.merge_and_insert j")


@pytest.mark.long
@pytest.mark.timeout(900)  # some faults take a third of a second each
@pytest.mark.parametrize("hears", [False, True])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_worker_may_die_at_any_operation_beside_any_fault(live: Live, name: str, *, hears: bool) -> None:
    """
    See above; at two operations, which differ from fault to fault, one made and one not, and without events right
    before the one that ends the job.
    """
    fault, chance = FAULTS[name], random.Random(f"{name} {hears}")
    operations = (await live(Process(), fault, hears=hears)).operations
    for after, number in enumerate(chance.sample(range(1, len(operations) + 1), 2)):
        await live(Process(number, after=bool(after)), fault, hears=hears)
    if not hears:
        await live(Process(_last_before_the_end(operations), after=True), fault)


Many = Callable[..., Awaitable[EventfulApp]]


@pytest.fixture
def live_many(client, monkeypatch) -> Many:
    """Runs jobs of one connection whose responses end one after the other, and checks what came of them."""

    async def run(process: Process, *, loses: int = 0, twice: bool = False, hears: bool = False) -> EventfulApp:
        async with eventful_app(client, monkeypatch, process) as app:
            if hears:
                app.listen()
            app.loses, app.delivers_twice = loses, twice
            customer = app.customer()
            for seconds in (1, 20, 20, 90):  # within ADOPT_WINDOW_S
                fault = ResponseFault("completed", in_progress_s=seconds)
                app.accounts[customer].faults.responses.add(fault)
            app.in_doubt = lambda: in_doubt(app, customer)
            jobs = [await send_response(app, customer, job_id=f"job-{number}") for number in range(4)]
            await app.deliver()
            await finish(app, jobs, within_s=1800)
            await app.pass_time(AFTERWARDS_S, step_s=60)
            assert {app.result(job)["status"] for job in jobs} == {"succeeded"}
            app.check_books(customer, jobs, hears=hears)
            count(app, customer, len(jobs), hears=hears)
            left = {key.removeprefix(LEFT)[0] for _, key in app.stored.table.rows if key.startswith(LEFT)}
            assert left <= ({"=", "~"} if app.crashes else set())  # the sweep deletes them; nobody looks at them
        return app

    return run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hears", [False, True])
async def test_a_worker_may_die_while_many_wait(live_many: Many, sampled: Sampled, *, hears: bool) -> None:
    """At any operation of the jobs or their poll: half of them with events, half without."""
    process = Process()
    await live_many(process, hears=hears)
    for number in sampled(range(1 + hears, len(process.operations) + 1, 2), share=19):
        await live_many(Process(number, after=number % 4 > 1), hears=hears)


@pytest.mark.parametrize("twice", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_any_message_may_get_lost(live_many: Many, sampled: Sampled, *, twice: bool) -> None:
    """Of a job's or of the poll's: its job goes on all the same, minutes later."""
    for number in sampled(itertools.count(1)):
        if (await live_many(Process(), loses=number, twice=twice)).loses > 0:
            break
    assert number > 10


@pytest.fixture
def live_beside_storage_faults(client, monkeypatch) -> Callable[..., Awaitable[bool]]:
    """As `live`, with a fault of the table after so many writes; returns whether there were so many."""

    async def run(writes: int, fault: StorageFault, times: int) -> bool:
        async with eventful_app(client, monkeypatch, Process()) as app:
            customer, faults = app.customer(), app.stored.table.faults
            job = await send_response(app, customer)
            faults.extend([*[None] * writes, *[fault] * times])
            await app.deliver()
            await finish(app, [job])
            happened = len(faults) < times
            await app.pass_time(AFTERWARDS_S, step_s=60)
            assert "succeeded" == app.result(job)["status"]
            app.check_books(customer, [job])
            count(app, customer, 1, hears=False)
        return happened

    return run


@pytest.mark.usefixtures("short_storage_waits")
@pytest.mark.parametrize("fault", StorageFault)
async def test_storage_may_fail_at_any_write(live_beside_storage_faults, sampled: Sampled, fault: StorageFault) -> None:
    """See above."""
    for writes in sampled(itertools.count()):
        if not await live_beside_storage_faults(writes, fault, 1):
            break
    assert writes >= 9

"""A customer's share of a worker, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.errors import Throttled
from shared.jobs import admission as module
from shared.jobs.admission import (
    MAX_DELAY_S,
    MAX_EXPECTED_WAIT_S,
    MAX_HELD,
    WORKER_CONCURRENCY,
    ConnectionLimit,
    Limiter,
)
from tests.support.manual_clock import ManualClock

HOST = json.loads((Path(__file__).parents[3] / "host.json").read_text(encoding="utf-8"))
MAX_SHARE = WORKER_CONCURRENCY // 2
"""Jobs that a customer may have on a worker if it is alone there."""
MIN_DELAY_S = 0.9
"""With the jitter of a requeued message, about the second that a queue can hide it at least."""


@dataclass
class LimiterHarness:
    """A limiter, its clock, and the jobs that it has admitted."""

    clock: ManualClock = field(default_factory=ManualClock)
    jobs: dict[str, list[AbstractContextManager[ConnectionLimit]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limiter = Limiter(clock=self.clock)

    def admit(self, customer: str, connection: str = "default") -> float | None:
        """Admit a job, or return the seconds that it is requeued for."""
        job = self.limiter.admit(customer, connection)
        try:
            job.__enter__()
        except Throttled as throttled:
            return throttled.delay_s
        self.jobs.setdefault(customer, []).append(job)
        return None

    def end(self, customer: str, *, after_s: float = 0) -> None:
        """End a job of a customer."""
        self.clock.advance(after_s)
        self.jobs[customer].pop().__exit__(None, None, None)

    async def hold(self, customer: str) -> None:
        """Hold a job until there is room, and admit it."""
        await self.limiter.wait_for_room(customer, "default")
        assert self.admit(customer) is None

    def admitted(self, customer: str) -> int:
        """Return how many jobs of a customer are admitted."""
        return len(self.jobs.get(customer, []))

    def fill(self, customer: str, connection: str = "default", *, job_seconds: float | None = None) -> int:
        """Admit jobs until there is no room; return how many jobs of the customer are admitted then."""
        if job_seconds is not None:
            self.limiter.of(customer, connection).job_seconds = job_seconds
        while self.admit(customer, connection) is None:
            pass
        return self.admitted(customer)


async def settled() -> None:
    """Let all tasks run that can."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
def harness() -> LimiterHarness:
    """A new limiter."""
    return LimiterHarness()


def test_the_host_fetches_whatever_is_running_and_held():
    """The jobs of a few customers, running and held, are never so many that the host fetches no further messages."""
    assert HOST["extensions"]["queues"]["newBatchThreshold"] >= WORKER_CONCURRENCY + MAX_HELD


@pytest.mark.parametrize(
    ("seconds", "more"),
    [(0.01, MAX_SHARE - DEFAULT_CONCURRENCY), (0.5, 16), (1, 8), (4, 2), (9, 0), (60, 0)],
)
def test_a_job_that_would_wait_briefly_is_admitted(harness: LimiterHarness, seconds: float, more: int):
    """
    Beyond the concurrency, jobs are admitted that wait for half a second at most, up to half of the worker, however
    many connections their customer has. A connection whose jobs take long does not delay another one.
    """
    assert DEFAULT_CONCURRENCY + more == harness.fill("a", job_seconds=seconds)
    assert more == 0 or more * seconds / DEFAULT_CONCURRENCY <= MAX_EXPECTED_WAIT_S
    assert MAX_SHARE == harness.fill("a", "other", job_seconds=0.01)


@given(st.data())
@settings(max_examples=150)
def test_a_new_customer_is_always_admitted(data: st.DataObject):
    """Whatever the others do, a customer without a job is admitted while there are fewer customers than slots."""
    harness = LimiterHarness()
    names = [f"c{number}" for number in range(data.draw(st.integers(1, WORKER_CONCURRENCY - 1)))]
    actions = st.tuples(st.sampled_from(names), st.sampled_from(["admit", "admit", "fill", "end"]), st.floats(0, 90))
    for name, action, seconds in data.draw(st.lists(actions, max_size=60)):
        if action == "fill":
            harness.fill(name)
        elif action == "admit":
            before = harness.admitted(name)
            assert harness.admit(name) is None or before > 0
        elif harness.admitted(name):
            harness.end(name, after_s=seconds)

    assert harness.admit("new") is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
@settings(max_examples=100)
def test_a_few_customers_never_take_every_slot(order: list[int]):
    """While there are a few customers, in whatever order they came, one slot is free for one more."""
    harness = LimiterHarness()
    for number in order:
        harness.fill(f"c{number}", job_seconds=0.01)

    assert sum(len(jobs) for jobs in harness.jobs.values()) < WORKER_CONCURRENCY


def test_shares_become_equal(harness: LimiterHarness):
    """When the jobs that came first have ended, three customers have as many jobs each."""
    names = ("a", "b", "c")
    for name in names:
        harness.limiter.of(name, "default").job_seconds = 0.01
    for _ in range(WORKER_CONCURRENCY * 4):
        for name in names:
            harness.admit(name)
            if harness.admitted(name) > WORKER_CONCURRENCY // 4:
                harness.end(name)

    assert [WORKER_CONCURRENCY // 4] * 3 == [harness.admitted(name) for name in names]


def test_a_customer_without_jobs_takes_no_share(harness: LimiterHarness):
    """When a customer's last job has ended, others get its slots."""
    harness.limiter.of("b", "default").job_seconds = 0.01
    harness.admit("b")
    together = harness.fill("a", job_seconds=0.01)
    harness.end("b")

    assert together < MAX_SHARE == harness.fill("a")
    while harness.admitted("a"):
        harness.end("a")
    assert {} == harness.limiter._jobs.taken


@pytest.mark.parametrize(
    ("concurrency", "seconds", "first", "step"),
    [(1, 16, 24, 12), (DEFAULT_CONCURRENCY, 16, 1.5, 0.75), (DEFAULT_CONCURRENCY, 0.01, MIN_DELAY_S, 0)],
)
def test_throttled_jobs_return_one_after_the_other(
    harness: LimiterHarness, concurrency: int, seconds: float, first: float, step: float
):
    """
    Each is requeued for longer than the one before, by three quarters of what a job takes of the limit: late, it would
    leave the connection idle. A queue can't hide it for less than MIN_DELAY_S. Jobs that are back do not count.
    """
    harness.limiter.of("a", "default", concurrency)
    harness.fill("a", job_seconds=seconds)  # the one that found no room is the first to return

    delays = [harness.admit("a") or 0 for _ in range(8)]

    assert pytest.approx([first + number * step for number in range(8)]) == delays
    harness.clock.advance(max(delays))
    assert (harness.admit("a") or 0) <= delays[0]


def test_no_delay_is_long(harness: LimiterHarness):
    """However many jobs wait, none is requeued for more than MAX_DELAY_S, and they do not return together."""
    harness.fill("a", job_seconds=60)
    delays = [harness.admit("a") or 0 for _ in range(5000)]

    late = [delay for delay in delays if delay > MAX_DELAY_S / 2]
    assert max(delays) <= MAX_DELAY_S
    assert min(delays) >= MIN_DELAY_S
    assert len(set(late)) > 0.9 * len(late) > 4000


def test_the_duration_of_jobs_is_learned(harness: LimiterHarness):
    """
    It starts at 0.3 s; the last job has a fifth of the weight in its moving average. After some slow jobs, jobs
    beyond the concurrency are requeued; after quick ones they are admitted.
    """
    limit = harness.limiter.of("a", "default")
    before = limit.job_seconds
    harness.admit("a")
    harness.end("a", after_s=10.3)
    assert (0.3, pytest.approx(2.3)) == (before, limit.job_seconds)

    for seconds, expected in ((120, DEFAULT_CONCURRENCY), (0, MAX_SHARE)):
        for _ in range(40):
            harness.admit("a")
            harness.end("a", after_s=seconds)
        assert expected == harness.fill("a")
        for _ in range(expected):
            harness.end("a")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """The limits of connections that were idle longest are forgotten, and their jobs end all the same."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    harness = LimiterHarness()
    for number in range(50):
        harness.admit(f"c{number}")

    assert 10 == len(harness.limiter._limits)
    for customer in list(harness.jobs):
        harness.end(customer)
    assert {} == harness.limiter._jobs.taken


def test_answered_calls_are_counted_by_model_and_url(harness: LimiterHarness):
    """The counters of one connection are bounded, too: beyond that, they start anew."""
    limit = harness.limiter.of("a", "default")
    for number in range(module._MAX_COUNTERS + 1):
        limit.count_answer(("gpt-4o", f"https://a/{number}"))
    assert module._MAX_COUNTERS + 1 == len(limit.answered)
    limit.count_answer(("gpt-4o", "https://a/0"))

    assert {("gpt-4o", "https://a/0"): 1} == limit.answered


async def test_a_changed_concurrency_takes_effect(harness: LimiterHarness):
    """If the secret gets another `max_concurrency`, calls and jobs are limited to that."""
    limit = harness.limiter.of("a", "default", 2)
    assert 2 == harness.fill("a", job_seconds=600)
    async with limit.calls, limit.calls:
        assert limit.calls.locked()

        limit = harness.limiter.of("a", "default", 5)

        assert not limit.calls.locked()
        assert 5 == harness.fill("a")
    assert limit is harness.limiter.of("a", "default")
    assert 5 == limit.concurrency


async def test_two_concurrencies_at_once_have_a_semaphore_each():
    """While attempts with the old and the new secret overlap, no more calls run than the two allow together."""
    limiter, running, peak = Limiter(), 0, 0

    async def call(concurrency: int) -> None:
        nonlocal running, peak
        async with limiter.of("a", "default", concurrency).calls:
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(call(2 + 2 * (number % 2)) for number in range(40)))

    assert 4 < peak <= 2 + 4


def test_a_throttled_customer_is_logged_once_a_minute(harness: LimiterHarness, caplog: pytest.LogCaptureFixture):
    """One line says how many jobs were requeued, however many are."""
    caplog.set_level(logging.WARNING, "customer_ai_jobs")
    harness.fill("a", job_seconds=600)
    for _ in range(100):
        harness.admit("a")
    harness.clock.advance(61)
    harness.admit("a")

    assert [
        "customer_throttled customer=a connection=default jobs=16 requeued=1",
        "customer_throttled customer=a connection=default jobs=16 requeued=102",
    ] == [record.getMessage() for record in caplog.records]


async def test_a_requeued_job_is_held_until_there_is_room(harness: LimiterHarness):
    """It is admitted as soon as a job of its connection has ended."""
    harness.fill("a", job_seconds=600)
    waiting = asyncio.create_task(harness.limiter.wait_for_room("a", "default"))
    await asyncio.sleep(0)

    assert not waiting.done()
    harness.end("a")
    async with asyncio.timeout(module.MAX_HOLD_S / 2):
        await waiting

    assert harness.admit("a") is None


async def test_each_job_that_ends_wakes_one_that_is_held(harness: LimiterHarness):
    """In the order in which they came, and a customer's that has no room is passed over."""
    harness.fill("a", job_seconds=600)
    harness.fill("b", job_seconds=600)
    held = [asyncio.create_task(harness.hold(name)) for name in ("b", "a", "a", "a")]
    await asyncio.sleep(0)
    for count in (1, 2):
        harness.end("a")
        await settled()
        assert [False, True, count > 1, False] == [task.done() for task in held]

    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert {} == harness.limiter._turns
    assert 0 == harness.limiter.of("a", "default").held


async def test_room_never_stays_unused_beside_held_jobs(harness: LimiterHarness):
    """
    Each job that is held is woken once there is room for it: also if several end at once, the one that was woken is
    cancelled or is not admitted after all, or the connection now allows more calls.
    """
    harness.fill("a", job_seconds=600)
    held = [asyncio.create_task(harness.hold("a")) for _ in range(9)]
    gone = asyncio.create_task(harness.limiter.wait_for_room("a", "default"))
    held += [asyncio.create_task(harness.hold("a")) for _ in range(3)]
    await settled()

    def waiting() -> int:
        return sum(not task.done() for task in held)

    for _ in range(3):
        harness.end("a")
    await settled()
    assert 9 == waiting()
    harness.end("a")
    held[3].cancel()  # woken, but it has not run yet
    await settled()
    assert 7 == waiting()
    harness.limiter.of("a", "default", DEFAULT_CONCURRENCY + 5)
    await settled()
    assert gone.done()
    assert 2 == waiting()

    for _ in range(2):
        harness.end("a")
    await settled()
    assert 0 == waiting()
    assert 0 == harness.limiter.of("a", "default").held


async def test_a_throttled_job_comes_back_after_those_that_are_held(harness: LimiterHarness):
    """Until these have run there is no room for it, but they are not held longer than MAX_HOLD_S."""
    harness.fill("a", job_seconds=1.6)
    jobs = harness.admitted("a")
    held = [asyncio.create_task(harness.limiter.wait_for_room("a", "default")) for _ in range(20)]
    await asyncio.sleep(0)
    each_s = 1.6 / jobs
    harness.clock.advance(100)

    assert pytest.approx(20.75 * each_s) == harness.admit("a")
    harness.clock.advance(100)
    harness.limiter.of("a", "default").job_seconds = 600
    assert pytest.approx(module.MAX_HOLD_S + 0.75 * 600 / jobs) == harness.admit("a")
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_no_job_is_held_for_long(harness: LimiterHarness, monkeypatch: pytest.MonkeyPatch):
    """
    If there is no room in time, it is requeued; and beyond its customer's share of MAX_HELD, it is requeued at once.
    Another customer's jobs are still held.
    """
    monkeypatch.setattr(module, "MAX_HOLD_S", 0.05)
    share = MAX_HELD // 2
    harness.fill("a", job_seconds=600)
    harness.fill("b", job_seconds=600)
    held = [asyncio.create_task(harness.limiter.wait_for_room("a", "default")) for _ in range(share)]
    await asyncio.sleep(0)

    await harness.limiter.wait_for_room("a", "default")
    other = asyncio.create_task(harness.limiter.wait_for_room("b", "default"))
    await asyncio.sleep(0)

    assert not any(task.done() for task in [*held, other])
    await asyncio.gather(*held, other)
    assert harness.admit("a") is not None
    assert {} == harness.limiter.held.taken

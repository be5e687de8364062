"""A customer's share of a worker: by a clock that stands still until it is told, and through the pipeline."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import now, rfc3339
from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.errors import Throttled
from shared.jobs import admission as module
from shared.jobs.admission import MAX_DELAY_S, MAX_EXPECTED_WAIT_S, MAX_HELD, WORKER_CONCURRENCY, Limiter
from shared.jobs.message import Delivery
from tests.support.blocking_endpoint import Held
from tests.support.endpoint import completion
from tests.support.harness import World
from tests.support.workers import worker_of

HOST = json.loads((Path(__file__).parents[3] / "host.json").read_text(encoding="utf-8"))
FAIR = max(1, WORKER_CONCURRENCY // 2)
"""Jobs that a customer may have here when it is alone."""


SHORTEST_S = 0.9
"""With the jitter of a message that goes back, about the second that a queue hides it at least."""


@dataclass
class Clock:
    """Seconds, which go by when they are told to."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        """The seconds."""
        return self.seconds


@dataclass
class Hall:
    """Limiter, a clock, and the jobs that were let in."""

    clock: Clock = field(default_factory=Clock)
    jobs: dict[str, list[AbstractContextManager[None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limiter = Limiter(clock=self.clock)

    def enter(self, customer: str, connection: str = "default") -> float | None:
        """Lets a job in, or gives the seconds that it is sent away for."""
        job = self.limiter.admit(customer, connection)
        try:
            job.__enter__()
        except Throttled as full:
            return full.delay_s
        self.jobs.setdefault(customer, []).append(job)
        return None

    def leave(self, customer: str, *, after_s: float = 0) -> None:
        """Ends a job of a customer's."""
        self.clock.seconds += after_s
        self.jobs[customer].pop().__exit__(None, None, None)

    def here(self, customer: str) -> int:
        """How many of its jobs are here."""
        return len(self.jobs.get(customer, []))

    def fill(self, customer: str) -> int:
        """Lets in as many as there is room for; gives how many are here then."""
        while self.enter(customer) is None:
            pass
        return self.here(customer)


def test_the_hosts_slots_are_those_that_are_shared():
    """What is shared out is what host.json lets the host hand to a worker at once."""
    queues = HOST["extensions"]["queues"]

    assert queues["batchSize"] + queues["newBatchThreshold"] == WORKER_CONCURRENCY


def test_a_lane_takes_as_many_as_its_width():
    """Where jobs take long, no more are let in than have a call at once."""
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 60

    assert DEFAULT_CONCURRENCY == hall.fill("a")


@pytest.mark.parametrize(
    ("seconds", "more"), [(0.01, FAIR - DEFAULT_CONCURRENCY), (1, FAIR - DEFAULT_CONCURRENCY), (4, 8), (16, 2), (33, 0)]
)
def test_a_short_wait_is_waited_here(seconds: float, more: int):
    """Beyond the width come those that wait for two seconds at most, as far as the customer's share goes."""
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = seconds

    assert DEFAULT_CONCURRENCY + more == hall.fill("a")
    assert more == 0 or more * seconds / DEFAULT_CONCURRENCY <= MAX_EXPECTED_WAIT_S


def test_a_customer_has_half_of_the_worker_at_most():
    """However quick its jobs are and however many connections it has, half of the slots are left to others."""
    hall = Hall()
    for name in ("one", "two", "three"):
        hall.limiter.of("a", name).job_seconds = 0.01
        while hall.enter("a", name) is None:
            pass

    assert FAIR == hall.here("a")


def test_a_lane_is_a_connections_own():
    """One connection whose jobs take long does not hold up another of the same customer's."""
    hall = Hall()
    hall.limiter.of("a", "slow").job_seconds = 600
    while hall.enter("a", "slow") is None:
        pass

    assert DEFAULT_CONCURRENCY == hall.here("a")
    assert hall.enter("a", "quick") is None


@given(st.data())
@settings(max_examples=150)
def test_a_newcomer_is_always_let_in(data: st.DataObject):
    """Whatever the others do, a customer without a job here is let in while fewer customers than slots are."""
    hall = Hall()
    names = [f"c{number}" for number in range(data.draw(st.integers(1, WORKER_CONCURRENCY - 1)))]
    deeds = st.tuples(st.sampled_from(names), st.sampled_from(["enter", "enter", "fill", "leave"]), st.floats(0, 90))
    for name, deed, seconds in data.draw(st.lists(deeds, max_size=60)):
        if deed == "fill":
            hall.fill(name)
        elif deed == "enter":
            before = hall.here(name)
            assert hall.enter(name) is None or before > 0
        elif hall.here(name):
            hall.leave(name, after_s=seconds)

    assert hall.enter("newcomer") is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
@settings(max_examples=100)
def test_a_few_customers_never_take_every_slot(order: list[int]):
    """While a few customers are here, however they came, there is a slot of the host's left for one more."""
    hall = Hall()
    for number in order:
        hall.limiter.of(f"c{number}", "default").job_seconds = 0.01
        hall.fill(f"c{number}")

    assert sum(len(jobs) for jobs in hall.jobs.values()) < WORKER_CONCURRENCY


def test_shares_are_alike_in_time():
    """When those that were here first have gone, each of three customers has what the others have."""
    hall, names = Hall(), ("a", "b", "c")
    for name in names:
        hall.limiter.of(name, "default").job_seconds = 0.01
    for _ in range(WORKER_CONCURRENCY * 4):
        for name in names:
            hall.enter(name)
            if hall.here(name) > WORKER_CONCURRENCY // 4:
                hall.leave(name)

    assert [WORKER_CONCURRENCY // 4] * 3 == [hall.here(name) for name in names]


def test_a_customer_that_has_gone_leaves_its_share():
    """Its slots are others' again when its last job has ended."""
    hall = Hall()
    for name in ("a", "b"):
        hall.limiter.of(name, "default").job_seconds = 0.01
    hall.enter("b")
    together = hall.fill("a")
    hall.leave("b")

    assert together < FAIR == hall.fill("a")
    while hall.here("a"):
        hall.leave("a")
    assert {} == hall.limiter._jobs


def test_those_sent_away_come_back_one_after_the_other():
    """Each is sent away for longer than the one before, always by as much: less than what a turn in the limit takes."""
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 16
    hall.fill("a")
    delays = [hall.enter("a") or 0 for _ in range(100)]

    steps = {round(later - earlier, 6) for earlier, later in pairwise(delays[1:])}
    (step,) = steps
    assert 0.5 * 16 / DEFAULT_CONCURRENCY <= step <= 16 / DEFAULT_CONCURRENCY
    assert delays[0] >= SHORTEST_S


def test_delays_shrink_when_those_sent_away_have_come_back():
    """After their time the ones that were sent away count no more."""
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 16
    hall.fill("a")
    delays = [hall.enter("a") or 0 for _ in range(100)]
    hall.clock.seconds += max(delays)

    assert (hall.enter("a") or 0) <= delays[0]


def test_nobody_is_sent_away_for_very_long():
    """However many wait, none is sent away for more than some minutes, and they do not come back together."""
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 60
    hall.fill("a")
    delays = [hall.enter("a") or 0 for _ in range(5000)]

    late = [delay for delay in delays if delay > MAX_DELAY_S / 2]
    assert max(delays) <= MAX_DELAY_S
    assert min(delays) >= SHORTEST_S
    assert len(set(late)) > 0.9 * len(late) > 4000


def test_how_long_jobs_take_is_learned():
    """After some slow jobs, those that come beyond the width are sent away; after quick ones they wait here."""
    hall = Hall()
    for seconds, expected in ((120, DEFAULT_CONCURRENCY), (0, FAIR)):
        for _ in range(40):
            hall.enter("a")
            hall.leave("a", after_s=seconds)
        assert expected == hall.fill("a")
        for _ in range(expected):
            hall.leave("a")


def test_what_is_kept_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """Limiter of connections that were idle longest are forgotten, and the jobs in them end all the same."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    hall = Hall()
    hall.enter("first")
    for number in range(50):
        hall.enter(f"c{number}")

    assert 10 == len(hall.limiter._limits)
    for customer in list(hall.jobs):
        hall.leave(customer)
    assert {} == hall.limiter._jobs


async def test_a_changed_width_takes_effect():
    """When the secret says another `max_concurrency`, calls and jobs are bounded by that."""
    hall = Hall()
    limit = hall.limiter.of("a", "default", 2)
    limit.job_seconds = 600
    assert 2 == hall.fill("a")
    async with limit.calls, limit.calls:
        assert limit.calls.locked()

        limit = hall.limiter.of("a", "default", 5)

        assert not limit.calls.locked()
        assert 5 == hall.fill("a")
    assert limit is hall.limiter.of("a", "default")
    assert 5 == limit.concurrency


def test_the_log_tells_of_a_full_lane_once_a_minute(caplog: pytest.LogCaptureFixture):
    """One line says how many were sent away, however many are."""
    caplog.set_level(logging.WARNING, "customer_ai_jobs")
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 600
    hall.fill("a")
    for _ in range(100):
        hall.enter("a")
    hall.clock.seconds += 61
    hall.enter("a")

    assert [
        "customer_throttled customer=a connection=default jobs=16 requeued=1",
        "customer_throttled customer=a connection=default jobs=16 requeued=102",
    ] == [record.getMessage() for record in caplog.records]


async def test_two_widths_at_once_have_a_gate_each():
    """While runs with the old and the new secret take turns, no more calls are under way than the two allow."""
    limiter, under_way, most = Limiter(), 0, 0

    async def call(width: int) -> None:
        nonlocal under_way, most
        async with limiter.of("a", "default", width).calls:
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(call(2 + 2 * (number % 2)) for number in range(40)))

    assert 4 < most <= 2 + 4


async def test_one_that_has_been_away_waits_in_hand_for_room():
    """It is let in as soon as a job of its limit has ended."""
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 600
    hall.fill("a")
    waiting = asyncio.create_task(hall.limiter.wait_for_room("a", "default"))
    await asyncio.sleep(0)

    assert not waiting.done()
    hall.leave("a")
    await waiting

    assert hall.enter("a") is None


async def test_nobody_waits_in_hand_for_long(monkeypatch: pytest.MonkeyPatch):
    """Where there is no room in time, it goes back; and beyond so many at once, it does so at once."""
    monkeypatch.setattr(module, "MAX_HOLD_S", 0.05)
    hall = Hall()
    hall.limiter.of("a", "default").job_seconds = 600
    hall.fill("a")
    waiting = [asyncio.create_task(hall.limiter.wait_for_room("a", "default")) for _ in range(MAX_HELD)]
    await asyncio.sleep(0)

    await hall.limiter.wait_for_room("a", "default")

    assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    assert hall.enter("a") is not None


async def test_a_full_lane_puts_the_job_back_untouched(world: World):
    """
    The next job of a customer whose limit is full goes back with the time it was first submitted: it has no row,
    no attempt, and has bought nothing. Another customer's job runs at once.
    """
    worker, calls = worker_of(world), [Held(), Held()]
    busy, other = world.customer(max_concurrency=2), world.customer()
    await worker.run(busy)  # so that the lane's width is known
    worker.services.limiter.of(busy.name, "default").job_seconds = 60
    busy.account.received.clear()
    busy.account.will_answer(*calls)
    runs = [asyncio.create_task(worker.run(busy, job_id=f"in-{number}")) for number in range(2)]
    for call in calls:
        await call.asked.wait()
    submitted_at = now() - timedelta(seconds=40)

    told = await worker.deliver(busy, job_id="out", metadata={"a": "b"}, submitted_at=submitted_at)
    result = await worker.run(other)

    ((body, delay_s),) = worker.requeued()
    job = json.loads(body)
    assert told is None
    assert {"submitted_at": rfc3339(submitted_at)} == job.pop("_envelope")
    assert busy.job(job_id="out", metadata={"a": "b"}) == job
    assert delay_s >= SHORTEST_S
    assert (busy.name, "j_out") not in worker.table.rows
    assert ("succeeded", 2) == (result["status"], len(busy.account.received))
    for call in calls:
        call.end.set()
    await asyncio.gather(*runs)

    late = await worker.run(busy, body)

    assert ("succeeded", 1, "out") == (late["status"], late["attempts"], late["job_id"])
    assert rfc3339(submitted_at) == late["submitted_at"]


async def test_a_job_that_comes_back_is_kept_in_hand_until_there_is_room(world: World):
    """It runs as soon as the one before it has ended, and does not go through the queue again."""
    worker, first = worker_of(world), Held()
    customer = world.customer(max_concurrency=1)
    await worker.run(customer)  # so that the lane's width is known
    worker.services.limiter.of(customer.name, "default").job_seconds = 60
    customer.account.will_answer(first)
    running = asyncio.create_task(worker.run(customer, job_id="first"))
    await first.asked.wait()
    assert await worker.deliver(customer, job_id="second", submitted_at=now() - timedelta(seconds=40)) is None
    ((body, _),) = worker.requeued()
    second = asyncio.create_task(worker.run(customer, body))
    while not worker.services.limiter._held:  # noqa: ASYNC110  # a count cannot tell
        await asyncio.sleep(0)

    first.end.set()

    assert ["first", "second"] == [(await job)["job_id"] for job in (running, second)]
    assert [] == worker.requeued()


async def test_a_deadline_that_comes_in_hand_ends_the_job(world: World, monkeypatch: pytest.MonkeyPatch):
    """A job whose deadline passes while it is kept in hand is not sent away once more."""
    monkeypatch.setattr(module, "MAX_HOLD_S", 0.3)
    worker, customer = worker_of(world), world.customer()
    limit = worker.services.limiter.of(customer.name, "default")
    limit.jobs, limit.job_seconds = 1000, 60
    came = {"_envelope": {"submitted_at": rfc3339(now() - timedelta(seconds=10))}}

    told = await worker.deliver(customer, json.dumps(customer.job(options={"deadline_s": 10.2}) | came).encode())

    assert "timeout" == (told or {})["error"]["code"]
    assert [] == worker.requeued()


async def test_a_full_lane_holds_no_job_beyond_its_deadline(world: World):
    """A job whose deadline has passed is not put back again for want of room: it ends."""
    worker, customer = worker_of(world), world.customer()
    limit = worker.services.limiter.of(customer.name, "default")
    limit.jobs, limit.job_seconds = 1000, 60

    early = await worker.deliver(customer, job_id="late", options={"deadline_s": 30})
    ((body, _),) = worker.requeued()
    message = Delivery(body, "another", now())
    moved = json.loads(body)
    moved["_envelope"]["submitted_at"] = rfc3339(now() - timedelta(seconds=31))
    told = await worker.services.worker.process(replace(message, body=json.dumps(moved).encode()))

    assert early is None
    assert told is not None
    assert "timeout" == json.loads(told)["error"]["code"]
    assert [] == customer.account.received


async def test_a_job_that_fills_its_message_goes_back_in_a_smaller_one(world: World):
    """A job that leaves no room in its message for a word of ours goes back with its input in a blob of its own."""
    worker, customer = worker_of(world), world.customer()
    limit = worker.services.limiter.of(customer.name, "default")
    limit.jobs, limit.job_seconds = 1000, 60
    frame = len(_packed(customer.job(job_id="full", input={"prompt": ""})))
    body = _packed(customer.job(job_id="full", input={"prompt": "x" * (49_152 - frame)}))

    told = await worker.deliver(customer, body)

    ((moved, _),) = worker.requeued()
    limit.jobs, limit.job_seconds = 0, 1
    assert told is None
    assert len(moved) < 1000
    result = await worker.run(customer, moved)
    assert ("succeeded", "full") == (result["status"], result["job_id"])
    assert "x" * (49_152 - frame) == customer.account.received[0].json["messages"][0]["content"]
    assert result == await worker.run(customer, body)  # another copy of the first message is no conflict


def _packed(job: dict) -> bytes:
    return json.dumps(job, separators=(",", ":")).encode()


async def test_calls_of_a_connection_are_bounded(world: World):
    """However many jobs are let in, no more calls than `max_concurrency` are under way at once."""
    worker, customer = worker_of(world), world.customer(max_concurrency=3)
    under_way, most, full = 0, 0, asyncio.Event()

    async def count(request, given):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            full.set()
        try:
            await asyncio.wait_for(full.wait(), 30)
            return await given(request)
        finally:
            under_way -= 1

    customer.account.around = count
    customer.account.will_answer(*[completion(after_s=0.02)] * 20)

    results = await asyncio.gather(*(worker.run(customer, job_id=f"j-{number}") for number in range(12)))

    assert {"succeeded"} == {result["status"] for result in results}
    assert 3 == most

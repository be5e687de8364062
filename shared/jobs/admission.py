"""
A customer's share of this worker: how many of its jobs are admitted, and how many calls a connection has in flight.

A job that finds no room is held for a moment. If there is still none, or too many jobs are held, it is requeued, for
about as long as the jobs before it will take: so one customer's full queue passes through a worker quickly, and
another's single job, behind it, is run at once. The host never hands over so many jobs that it stops fetching.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.errors import Throttled
from shared.event_names import CUSTOMER_THROTTLED, NAMESPACE
from shared.lru import LRU
from shared.shares import Shares

WORKER_CONCURRENCY = 512
"""Jobs that a worker runs at once."""
PATIENT_JOBS = "(patient)"
"""Where jobs are admitted that wait for a batch, and so make no call: no connection has this name."""
PATIENT_CONCURRENCY = 256
"""Of a customer's jobs there."""
MAX_EXPECTED_WAIT_S = 0.5
"""A job that will not wait longer than this for a call is admitted: it is claimed by the time that there is one."""
MAX_DELAY_S = 120.0
"""The longest that a job is requeued for: by then there may be more workers."""
MAX_HOLD_S = 5.0
"""The longest that a job is held until there is room."""
MAX_HELD = 256
"""
Jobs that are held at once. With those that run, they are no more than host.json's `newBatchThreshold`: as long as no
more jobs than that are in its hands, the host fetches further messages, and another customer's job is among them.
"""
MAX_ENTRIES = 10_000
"""Connections whose limits a worker keeps."""
_MAX_COUNTERS = 1000
"""Models and URLs of a connection whose answered calls are counted."""
_EARLY = 0.75
_MIN_DELAY_S = 0.9
"""With the jitter of a requeued message, the one second that a queue can hide it at least."""
_LAST_JOB_WEIGHT = 0.2
"""Of the last job, in the moving average of how long jobs take."""
_LOG_EVERY_S = 60.0

log = logging.getLogger(NAMESPACE)


@dataclass(slots=True)
class ConnectionLimit:
    """The concurrency limit of one connection, and the state of its jobs on this worker."""

    concurrency: int
    calls: asyncio.Semaphore
    """`async with` it around each call."""
    semaphores: dict[int, asyncio.Semaphore]
    """One for each concurrency that there has been: attempts with two versions of a secret can overlap."""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls that were answered, by model and URL."""
    jobs: int = 0
    held: int = 0
    job_seconds: float = 0.3
    """About how long a job takes. Before any has ended, a guess that brings jobs back early rather than late."""
    last_return: float = float("-inf")
    """When the last of the requeued jobs comes back, on the limiter's clock."""
    requeued: int = 0
    logged_at: float = float("-inf")

    def count_answer(self, key: tuple[str, str]) -> None:
        """Count an answered call to a model and URL."""
        if len(self.answered) > _MAX_COUNTERS:
            self.answered.clear()
        self.answered[key] += 1


@dataclass(slots=True)
class Limiter:
    """The limits of a worker's connections. `clock` counts seconds."""

    clock: Callable[[], float] = time.monotonic
    _limits: LRU[tuple[str, str], ConnectionLimit] = field(default_factory=lambda: LRU(MAX_ENTRIES))
    _jobs: Shares = field(default_factory=lambda: Shares(WORKER_CONCURRENCY))
    held: Shares = field(default_factory=lambda: Shares(MAX_HELD))
    """The jobs that are held, by customer."""
    _turns: dict[asyncio.Event, tuple[str, ConnectionLimit]] = field(default_factory=dict)
    """Those that are held, in their order."""

    def of(self, customer: str, connection: str, concurrency: int | None = None) -> ConnectionLimit:
        """Return the connection's limit. `concurrency`: the calls that it allows at once, if that is known."""
        key = (customer, connection)
        limit = self._limits.get(key)
        if limit is None:
            usual = PATIENT_CONCURRENCY if connection == PATIENT_JOBS else DEFAULT_CONCURRENCY
            limit = _new_limit(concurrency or usual)
            self._limits.set(key, limit)
        elif concurrency is not None and concurrency != limit.concurrency:  # the secret has changed
            limit.concurrency = concurrency
            limit.calls = limit.semaphores.setdefault(concurrency, asyncio.Semaphore(concurrency))
            self._wake_one()
        return limit

    @contextmanager
    def admit(self, customer: str, connection: str) -> Iterator[ConnectionLimit]:
        """Count one job for the block. Raises Throttled if there is no room for it on this worker."""
        limit = self.of(customer, connection)
        if not self._has_room(customer, limit):
            raise self._throttled(customer, connection, limit)
        limit.jobs += 1
        self._jobs.add(customer)
        started_at = self.clock()
        try:
            yield limit
        finally:
            limit.jobs -= 1
            self._jobs.give_back(customer)
            limit.job_seconds += _LAST_JOB_WEIGHT * (self.clock() - started_at - limit.job_seconds)
            self._wake_one()

    async def wait_for_room(self, customer: str, connection: str) -> None:
        """Hold a job until there is room: some seconds at most, and not many jobs at once."""
        limit = self.of(customer, connection)
        if self._has_room(customer, limit):
            return
        with self.held.tried(customer) as is_held, contextlib.suppress(TimeoutError):
            if is_held:
                turn = asyncio.Event()
                limit.held += 1
                try:
                    async with asyncio.timeout(MAX_HOLD_S):
                        self._turns[turn] = customer, limit
                        while not self._has_room(customer, limit):
                            turn.clear()
                            self._wake_one()  # another may have the room that this one was woken for in vain
                            await turn.wait()
                finally:
                    self._turns.pop(turn, None)
                    limit.held -= 1
                    self._wake_one()

    def _wake_one(self) -> None:
        """
        Wake the first held job that has room now.

        That one wakes the next when it stops waiting, for whatever reason. So no job stays held while there is room
        for it, however many have ended at once.
        """
        full = set[int]()
        for turn, (customer, limit) in self._turns.items():
            if id(limit) in full:
                continue
            if self._has_room(customer, limit):
                turn.set()
                return
            full.add(id(limit))

    def _has_room(self, customer: str, limit: ConnectionLimit) -> bool:
        ahead = limit.jobs - limit.concurrency + 1
        expected_wait_s = ahead * limit.job_seconds / limit.concurrency
        # A customer without a job gets one in any case: the host hands over no more than a worker can run.
        is_in_share = not self._jobs.taken[customer] or self._jobs.has_room(customer)
        return is_in_share and (ahead <= 0 or expected_wait_s <= MAX_EXPECTED_WAIT_S)

    def _throttled(self, customer: str, connection: str, limit: ConnectionLimit) -> Throttled:
        at = self.clock()
        # Each comes back after all that are held or were requeued before: not many at once, and few in vain. A little
        # early rather than late: one that is early is requeued once more, one that is late left the connection idle.
        each_s = limit.job_seconds / max(limit.jobs, 1)
        returns_at = max(limit.last_return, at + min(limit.held * each_s, MAX_HOLD_S)) + _EARLY * each_s
        delay_s = max(returns_at - at, _MIN_DELAY_S)
        if delay_s <= MAX_DELAY_S:
            limit.last_return = returns_at
        else:
            delay_s = random.uniform(0.5, 1) * MAX_DELAY_S  # noqa: S311  # not a secret
        limit.requeued += 1
        if at - limit.logged_at > _LOG_EVERY_S:
            limit.logged_at = at
            log.warning(
                "%s customer=%s connection=%s jobs=%d requeued=%d",
                CUSTOMER_THROTTLED,
                customer,
                connection,
                limit.jobs,
                limit.requeued,
            )
        return Throttled(f"Customer {customer} has {limit.jobs} jobs on this worker.", delay_s)


def _new_limit(concurrency: int) -> ConnectionLimit:
    calls = asyncio.Semaphore(concurrency)
    return ConnectionLimit(concurrency, calls, {concurrency: calls})

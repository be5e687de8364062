"""
A customer's share of this worker: how many of its jobs are let in, and how many calls a connection has in flight.

A job that finds no room goes back into the queue, for about as long as those before it will take: one
customer's full queue then passes through a worker quickly, and another's single job waits seconds. A job that comes
back and finds no room still is kept in hand for a moment: a worker whose slots are taken fetches no further
messages, and leaves them to one that has room.
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
from shared.event_names import CUSTOMER_THROTTLED
from shared.lru import LRU

SLOTS = 64
"""Jobs that the host hands to a worker at once: host.json's `batchSize` and `newBatchThreshold` together."""
PATIENCE_S = 2.0
"""A job that will not have to wait longer than this in its lane is let in."""
LONGEST_TURN_S = 120.0
"""The longest that a job is sent away: by then more workers may have come."""
IN_HAND_S = 5.0
"""The longest that a job which has been away is kept in hand for room: the pause of an idle host's polling."""
MOST_IN_HAND = 16
"""Jobs in hand at once: the other slots pass on what comes for the first time."""
MAX_ENTRIES = 10_000
"""Lanes that a worker keeps."""
_EARLY = 0.75
_SHORTEST_TURN_S = 0.9
"""With the jitter of a message that goes back, the one second that a queue can hide it at least."""
_WEIGHT = 0.2
"""Of the last job in the mean of how long jobs take."""
_TOLD_EVERY_S = 60.0

log = logging.getLogger("customer_ai_jobs")


@dataclass(slots=True)
class Lane:
    """One connection's lane."""

    width: int
    calls: asyncio.Semaphore
    """`async with` it around each call."""
    gates: dict[int, asyncio.Semaphore]
    """That of each width that there has been: runs with two versions of a secret may take turns for minutes."""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls that were answered, by model and address."""
    jobs: int = 0
    seconds: float = 1.0
    """How long a job takes, about."""
    turn: float = float("-inf")
    """When the last of those that were sent away comes back."""
    turned_away: int = 0
    told: float = float("-inf")


@dataclass(slots=True)
class Limiter:
    """The lanes of a worker; those of connections that are idle are forgotten first. `ticks`: a clock of seconds."""

    ticks: Callable[[], float] = time.monotonic
    _lanes: LRU[tuple[str, str], Lane] = field(default_factory=lambda: LRU(MAX_ENTRIES))
    _jobs: Counter[str] = field(default_factory=Counter)
    _in_hand: int = 0
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, whenever a job has ended."""

    def of(self, customer: str, connection: str, width: int | None = None) -> Lane:
        """The connection's lane. `width` is its `max_concurrency`, where it is known and set."""
        key = (customer, connection)
        lane = self._lanes.get(key)
        if lane is None:
            lane = _lane(width or DEFAULT_CONCURRENCY)
            self._lanes.set(key, lane)
        elif width is not None and width != lane.width:  # the secret has changed; runs with the old one go on beside
            lane.width, lane.calls = width, lane.gates.setdefault(width, asyncio.Semaphore(width))
        return lane

    @contextmanager
    def admitted(self, customer: str, connection: str) -> Iterator[None]:
        """Counts one job in for the block. Raises Throttled where there is no room for it on this worker."""
        lane = self.of(customer, connection)
        if not self._has_room(customer, lane):
            raise self._full(customer, connection, lane)
        lane.jobs += 1
        self._jobs[customer] += 1
        since = self.ticks()
        try:
            yield
        finally:
            lane.jobs -= 1
            self._jobs[customer] -= 1
            if not self._jobs[customer]:
                del self._jobs[customer]
            lane.seconds += _WEIGHT * (self.ticks() - since - lane.seconds)
            self._left.set()
            self._left = asyncio.Event()

    async def wait_in_hand(self, customer: str, connection: str) -> None:
        """Waits for room, for a job that has been away before: some seconds at most, and not with many others."""
        if self._in_hand >= MOST_IN_HAND:
            return
        self._in_hand += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IN_HAND_S):
                    while not self._has_room(customer, self.of(customer, connection)):
                        await self._left.wait()
        finally:
            self._in_hand -= 1

    def _has_room(self, customer: str, lane: Lane) -> bool:
        # Half of what the others leave, so that there is always room for one more customer.
        own = self._jobs.get(customer, 0)
        share = max(1, (SLOTS - sum(self._jobs.values()) + own) // 2)
        ahead = lane.jobs - lane.width + 1
        return own < share and (ahead <= 0 or ahead * lane.seconds / lane.width <= PATIENCE_S)

    def _full(self, customer: str, connection: str, lane: Lane) -> Throttled:
        moment = self.ticks()
        # Each gets the turn after all that are away: not many come back at once, and few in vain. Rather a little
        # early than late: who comes too early is sent away once more, who comes late has left the lane idle.
        turn = max(lane.turn, moment) + _EARLY * lane.seconds / max(lane.jobs, 1)
        delay = max(turn - moment, _SHORTEST_TURN_S)
        if delay <= LONGEST_TURN_S:
            lane.turn = turn
        else:
            delay = random.uniform(0.5, 1) * LONGEST_TURN_S  # noqa: S311  # no secret hangs on it
        lane.turned_away += 1
        if moment - lane.told > _TOLD_EVERY_S:
            lane.told = moment
            log.warning(
                "%s customer=%s connection=%s jobs=%d requeued=%d",
                CUSTOMER_THROTTLED,
                customer,
                connection,
                lane.jobs,
                lane.turned_away,
            )
        return Throttled(f"Customer {customer} has {lane.jobs} jobs on this worker.", delay)


def _lane(width: int) -> Lane:
    calls = asyncio.Semaphore(width)
    return Lane(width, calls, {width: calls})

"""
A customer's share of this worker: how many of its jobs are let in, and how many calls a connection has in flight.

A job that finds no room goes back into the queue, for about as long as those before it will take: one
customer's full queue then passes through a worker quickly, and another's single job waits seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.errors import LaneFull

WIDTH = 16
"""Calls at once where the connection sets no `max_concurrency`."""
SLOTS = 64
"""Jobs that the host hands to a worker at once: host.json's `batchSize` and `newBatchThreshold` together."""
PATIENCE_S = 2.0
"""A job that will not have to wait longer than this in its lane is let in."""
LONGEST_TURN_S = 120.0
"""The longest that a job is sent away: by then more workers may have come."""
KEPT = 10_000
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
    jobs: int = 0
    seconds: float = 1.0
    """How long a job takes, about."""
    away: list[float] = field(default_factory=list)
    """When those that were sent away come back, a heap."""
    turned_away: int = 0
    told: float = float("-inf")


@dataclass(slots=True)
class Lanes:
    """The lanes of a worker; those of connections that are idle are forgotten first. `ticks`: a clock of seconds."""

    ticks: Callable[[], float] = time.monotonic
    _lanes: OrderedDict[tuple[str, str], Lane] = field(default_factory=OrderedDict)
    _jobs: Counter[str] = field(default_factory=Counter)

    def of(self, customer: str, connection: str, width: int | None = None) -> Lane:
        """The connection's lane. `width` is its `max_concurrency`, where it is known and set."""
        key = (customer, connection)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _lane(width or WIDTH)
            if len(self._lanes) > KEPT:
                self._lanes.popitem(last=False)
        elif width is not None and width != lane.width:  # the secret has changed; calls in flight end in the old one
            lane.width, lane.calls = width, asyncio.Semaphore(width)
        self._lanes.move_to_end(key)
        return lane

    @contextmanager
    def admitted(self, customer: str, connection: str) -> Iterator[None]:
        """Counts one job in for the block. Raises LaneFull where there is no room for it on this worker."""
        lane = self.of(customer, connection)
        # Half of what the others leave, so that there is always room for one more customer.
        share = max(1, (SLOTS - sum(self._jobs.values()) + self._jobs[customer]) // 2)
        ahead = lane.jobs - lane.width + 1
        waits = ahead > 0 and ahead * lane.seconds / lane.width > PATIENCE_S
        if self._jobs[customer] >= share or waits:
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

    def _full(self, customer: str, connection: str, lane: Lane) -> LaneFull:
        if not self._jobs[customer]:
            del self._jobs[customer]
        moment = self.ticks()
        while lane.away and lane.away[0] <= moment:
            heapq.heappop(lane.away)
        # Each gets the turn after all that are away: not many come back at once, and few in vain. Rather a little
        # early than late: who comes too early is sent away once more, who comes late has left the lane idle.
        delay = max(_EARLY * (len(lane.away) + 1) * lane.seconds / max(lane.jobs, 1), _SHORTEST_TURN_S)
        if delay > LONGEST_TURN_S:
            delay = random.uniform(0.5, 1) * LONGEST_TURN_S  # noqa: S311  # no secret hangs on it
        heapq.heappush(lane.away, moment + delay)
        lane.turned_away += 1
        if moment - lane.told > _TOLD_EVERY_S:
            lane.told = moment
            log.warning(
                "lane_full customer=%s connection=%s jobs=%d put_back=%d",
                customer,
                connection,
                lane.jobs,
                lane.turned_away,
            )
        return LaneFull(f"Customer {customer} has {lane.jobs} jobs on this worker.", delay)


def _lane(width: int) -> Lane:
    return Lane(width, asyncio.Semaphore(width))

"""How many calls a customer's connection has in flight on this worker, and no more."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

WIDTH = 16
"""Calls at once where the connection sets no `max_concurrency`."""
KEPT = 10_000


class Lanes:
    """One semaphore a connection; those of connections that are idle are forgotten first."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[tuple[str, str, int], asyncio.Semaphore] = OrderedDict()

    def of(self, customer: str, connection: str, width: int | None) -> asyncio.Semaphore:
        """The connection's lane: `async with` it around each call. `width` is its `max_concurrency`."""
        key = (customer, connection, width or WIDTH)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = asyncio.Semaphore(key[2])
            if len(self._lanes) > KEPT:
                self._lanes.popitem(last=False)
        self._lanes.move_to_end(key)
        return lane

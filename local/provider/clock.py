"""The endpoint's time: a clock that a test moves, and timers that go by whichever clock there is."""

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Clock = Callable[[], float]
"""Returns the time, in seconds since 1970."""

TICK_S = 0.02
"""How often the timers look at the clock, in real seconds; a request looks as well."""


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only if a test moves it. It begins in November 2026."""

    seconds: float = 1_795_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let that many seconds pass."""
        self.seconds += seconds


@dataclass(slots=True)
class Timers:
    """Calls that are due at a time of `clock`. Each gets the time that it was due at, however late it is."""

    clock: Clock
    _calls: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def at(self, due: float, call: Callable[[float], None]) -> None:
        """Call `call` once the clock shows `due`."""
        heapq.heappush(self._calls, (due, next(self._numbers), call))

    async def run_due(self, limit_s: float = math.inf) -> None:
        """Make the calls that are due, in their order, and those that they make due; for so many real seconds."""
        ends_at = time.monotonic() + limit_s
        while self._is_due() and time.monotonic() < ends_at:
            async with (
                self._turn
            ):  # a call each time round the loop, however many wait: what else runs isn't kept waiting
                if self._is_due():
                    due, _, call = heapq.heappop(self._calls)
                    call(due)
                await asyncio.sleep(0)

    def _is_due(self) -> bool:
        return bool(self._calls) and self._calls[0][0] <= self.clock()

    async def run(self) -> None:
        """Make calls as they become due, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            await self.run_due()

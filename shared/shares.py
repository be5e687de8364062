"""
How a worker divides what it has little of among customers: jobs, sockets, memory, slots. One rule for all of it.

A customer that has nothing gets something while anything is left. One that has something gets more if it then has no
more than half of what the others leave. So one customer alone gets half, and there is always room for several more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Shares:
    """The shares of one thing, of which there is `total`. Use it on one event loop."""

    total: int
    taken: Counter[str] = field(default_factory=Counter)
    """What each customer has; no entry for one that has nothing."""
    _used: int = 0
    _waiting: list[_Turn] = field(default_factory=list)

    def has_room(self, customer: str, amount: int = 1) -> bool:
        """Return whether the customer can take so much now."""
        own = self.taken[customer]  # a Counter adds no entry for this
        left = self.total - self._used
        return amount <= left and (not own or own + amount <= (left + own) // 2)

    def take(self, customer: str, amount: int = 1) -> bool:
        """Take so much if there is room, and return whether there was."""
        is_taken = self.has_room(customer, amount)
        if is_taken:
            self.add(customer, amount)
        return is_taken

    def add(self, customer: str, amount: int = 1) -> None:
        """Take so much, whether there is room or not."""
        self.taken[customer] += amount
        self._used += amount

    def give_back(self, customer: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self.taken[customer] -= amount
        self._used -= amount
        if not self.taken[customer]:
            del self.taken[customer]
        if self._waiting:
            self._grant()

    async def wait(self, customer: str, amount: int = 1) -> None:
        """Take so much as soon as there is room. `amount` is at most `total`."""
        if not self._waiting and self.has_room(customer, amount):
            self.add(customer, amount)
            return
        turn = _Turn(customer, amount, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._grant()  # it may have been the one that the others waited for
            else:
                self.give_back(customer, amount)
            raise

    async def reserve(self, customer: str, amount: int) -> Reservation:
        """As `wait`; it is given back when nothing refers to the returned object any more."""
        await self.wait(customer, amount)
        return Reservation(self, customer, amount)

    @contextlib.contextmanager
    def tried(self, customer: str, amount: int = 1) -> Iterator[bool]:
        """Take so much for the block if there is room; the value is whether there was."""
        is_taken = self.take(customer, amount)
        try:
            yield is_taken
        finally:
            if is_taken:
                self.give_back(customer, amount)

    def _grant(self) -> None:
        for turn in tuple(self._waiting):
            if self.take(turn.customer, turn.amount):
                self._waiting.remove(turn)
                if not turn.granted.cancelled():
                    turn.granted.set_result(None)
            elif not self.taken[turn.customer]:
                return  # a customer that has nothing is not overtaken by those who need less


@dataclass(eq=False, slots=True)
class _Turn:
    """Somebody who waits."""

    customer: str
    amount: int
    granted: asyncio.Future[None]


class Reservation:
    """What somebody has taken, until nothing refers to this object any more."""

    def __init__(self, shares: Shares, customer: str, amount: int) -> None:
        self._shares, self._customer, self._amount = shares, customer, amount
        self._loop = asyncio.get_running_loop()

    def shrink(self, amount: int) -> None:
        """Keep only so much."""
        if amount < self._amount:
            self._shares.give_back(self._customer, self._amount - amount)
            self._amount = amount

    def __del__(self) -> None:
        # Whatever thread this is, and whether or not the loop has ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._shares.give_back, self._customer, self._amount)

"""Storage whose user dies at one of its operations, and in which those of others come in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

_SCANS = frozenset({"scan"})


class WorkerDied(BaseException):
    """The worker that used Storage is gone: nothing that it does about errors is done any more."""


@dataclass
class Fate:
    """When a worker dies: at its operation `dies_at`, `after` that was made or before. 0: never."""

    dies_at: int = 0
    after: bool = False
    chance: random.Random | None = None
    """Lets others run before an operation, as chance has it."""
    operations: int = field(default=0, init=False)
    has_died: bool = field(default=False, init=False)

    async def begin(self) -> int:
        """Begin an operation; return its number."""
        if self.has_died:
            raise WorkerDied
        self.operations += 1
        number = self.operations
        for _ in range(self.chance.randrange(4) if self.chance is not None else 0):
            await asyncio.sleep(0)
        if number == self.dies_at and not self.after:
            self._die()
        return number

    def end(self, number: int) -> None:
        """End an operation."""
        if number == self.dies_at or self.has_died:
            self._die()

    def _die(self) -> NoReturn:
        self.has_died = True
        raise WorkerDied


class Mortal:
    """A table, blobs, or a client of endpoints, as the worker with this fate sees them."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store, self._fate = store, fate

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name in _SCANS:
            return self._scanning(operation)
        if not asyncio.iscoroutinefunction(operation):
            return operation

        async def run(*args: Any, **options: Any) -> Any:
            number = await self._fate.begin()
            result = await operation(*args, **options)
            self._fate.end(number)
            return result

        return run

    def _scanning(self, operation: Any) -> Any:
        async def run(*args: Any) -> AsyncIterator[Any]:
            number = await self._fate.begin()
            async for row in operation(*args):
                yield row
            self._fate.end(number)

        return run

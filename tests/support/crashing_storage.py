"""Storage whose user dies at one of its operations, and in which those of others come in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

_SCANS = frozenset({"scan"})


class WorkerDied(Exception):
    """The worker that used Storage is gone."""


@dataclass
class Fate:
    """When a worker dies: at its operation `dies_at`, `after` that was made or before. 0: never."""

    dies_at: int = 0
    after: bool = False
    chance: random.Random | None = None
    """Lets others run before an operation, as chance has it."""
    operations: int = field(default=0, init=False)

    async def before(self) -> None:
        """Begin an operation."""
        self.operations += 1
        for _ in range(self.chance.randrange(4) if self.chance is not None else 0):
            await asyncio.sleep(0)
        if self.operations == self.dies_at and not self.after:
            raise WorkerDied

    def end(self) -> None:
        """End an operation."""
        if self.operations == self.dies_at:
            raise WorkerDied


class Mortal:
    """A table, or blobs, as the worker with this fate sees them."""

    def __init__(self, store: Any, fate: Fate) -> None:
        self._store, self._fate = store, fate

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name in _SCANS:
            return self._scanning(operation)
        if not asyncio.iscoroutinefunction(operation):
            return operation

        async def run(*args: Any, **options: Any) -> Any:
            await self._fate.before()
            result = await operation(*args, **options)
            self._fate.end()
            return result

        return run

    def _scanning(self, operation: Any) -> Any:
        async def run(*args: Any) -> AsyncIterator[Any]:
            await self._fate.before()
            async for row in operation(*args):
                yield row
            self._fate.end()

        return run

"""Time for attempts that passes only while they sleep, so that the speed of the machine makes no difference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.jobs import attempt, ledger


class SimulatedTime:
    """Replaces `asyncio` in the attempt's module. `time` is its current time."""

    def __init__(self) -> None:
        self.time = now()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def get_running_loop(self) -> SimulatedTime:
        """Return what an attempt uses of its loop: `call_later`."""
        return self

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.Task[None]:
        """Call back after so many seconds. Return what cancels that."""

        async def call() -> None:
            await self.sleep(seconds)
            callback()

        return asyncio.create_task(call())

    async def sleep(self, seconds: float) -> None:
        """Let the seconds pass, and others run."""
        self.time += timedelta(seconds=seconds)
        await asyncio.sleep(0.005)

    async def wait(self, seconds: float) -> None:
        """Wait until so many seconds have passed."""
        end = self.time + timedelta(seconds=seconds)
        while self.time < end:  # noqa: ASYNC110  # the attempts move it
            await asyncio.sleep(0)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Use this time in attempts and in the ledger."""
        monkeypatch.setattr(attempt, "asyncio", self)
        monkeypatch.setattr(ledger, "now", lambda: self.time)

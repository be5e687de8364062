"""
The stop of this worker: what is done between SIGTERM and its end (docs/promises.md, *Deploys*).

The host waits ten seconds for what runs. From the signal on, no job is claimed and no call begins: a job that waits is
released and requeued for now. A call that is under way may end, and its answer is stored. What has not ended after
CALLS_S is cut off, and recorded as `unanswered`. Left alone, the signal would end the process at once.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

from shared.errors import RetryLater, StorageUnavailable, UpstreamFacts
from shared.storage.base import MAX_HIDDEN_S

GRACE_S = 9.5
"""Seconds until all functions have ended: the host grants ten. What telemetry has not sent yet follows."""
CALLS_S = 7.0
"""Of these, the seconds that calls under way may take. The rest is for writing, of hundreds of jobs at once."""
_LAST_ANSWERS_S = 0.3
"""In which the worker's own thread sends the host the answers of the last functions."""


class WorkerStopping(RetryLater):
    """This worker stops, so another one continues the job. The delay keeps the two from playing ping-pong with it."""

    usual_delay_s = 1


class CallCutOff(WorkerStopping):
    """The stop has cut a call off that was sent."""

    facts = UpstreamFacts(unanswered=True)


class Call:
    """A call, with the waits before and between its tries. It is among `calls` while it lasts."""

    def __init__(self, drain: Drain, calls: set[Call]) -> None:
        self.timeout = asyncio.timeout(None)
        self.is_sent = False
        """Whether a try of it is under way: sent, or being sent. Until then it waits for an address or a socket."""
        self._drain, self._calls = drain, calls

    async def __aenter__(self) -> Self:
        self._drain.check()
        await self.timeout.__aenter__()
        self._calls.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.discard(self)
        try:
            await self.timeout.__aexit__(kind, error, trace)
            if isinstance(error, TimeoutError):
                raise error
        except TimeoutError:
            self._drain.check()  # it was the stop that has ended its wait
            raise

    def begin(self) -> None:
        """Call this before the first byte of a try. Raises WorkerStopping: then nothing may be sent any more."""
        self._drain.check()
        self.is_sent = True

    def one_try(self) -> AbstractContextManager[None]:
        """Wrap each try in it. If the stop ends it, raises CallCutOff, or WorkerStopping if nothing was sent."""
        self._drain.check()
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        was_sent, self.is_sent = self.is_sent, False
        if isinstance(error, asyncio.CancelledError) and self.timeout.expired():
            if was_sent:
                raise CallCutOff("The worker stopped during a call, which may have been billed.") from None
            raise WorkerStopping("The worker stops.") from None

    async def wait(self, seconds: float) -> float:
        """Wait before another try. Return the seconds that the stop has left of the wait, 0 if it is over."""
        if self._drain.is_stopping:
            return max(seconds, WorkerStopping.usual_delay_s)
        ends_at = time.monotonic() + seconds
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if not self.timeout.expired():
                raise
            return max(ends_at - time.monotonic(), WorkerStopping.usual_delay_s)
        return 0

    def interrupt(self) -> None:
        """End the call, or its wait, now."""
        if not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time())


class Drain:
    """Whether this worker stops, and what still runs on it."""

    def __init__(self, *, calls_s: float = CALLS_S, grace_s: float = GRACE_S) -> None:
        self.is_stopping = False
        self._calls_s, self._grace_s = calls_s, grace_s
        self._calls = set[Call]()
        self._invocations = set[asyncio.Task[Any]]()

    def check(self) -> None:
        """Raise WorkerStopping if nothing new may begin."""
        if self.is_stopping:
            raise WorkerStopping("The worker stops.")

    def join(self) -> None:
        """Have the stop wait for the current task: in Azure's worker, it ends when the host's answer is on its way."""
        task = asyncio.current_task()
        if task is not None and task not in self._invocations:
            self._invocations.add(task)
            task.add_done_callback(self._invocations.discard)

    def call(self) -> Call:
        """Wrap a call in it, and its waits. Raises WorkerStopping if the worker stops, or does so while it waits."""
        return Call(self, self._calls)

    async def hand_over(self, reason: RetryLater, requeue: Callable[[RetryLater], Awaitable[None]]) -> RetryLater:
        """
        During the stop, have a job requeued before it is released, which then says so in its row. Return the reason.

        Its message may come again, minutes later: then the row says that another one has taken its place. That must be
        sent before. After a long wait, the schedule has the next one, which it takes of a released job only.
        """
        if self.is_stopping and reason.delay_s <= MAX_HIDDEN_S:
            with suppress(StorageUnavailable):  # it is tried again after the release
                await requeue(reason)
                return _requeued(reason)
        return reason

    async def stop(self) -> None:
        """Begin nothing more, and wait until nothing runs any more: for the grace at most."""
        self.is_stopping = True
        for call in self._calls:
            if not call.is_sent:
                call.interrupt()
        if await self._ended(self._calls_s):
            return
        for call in self._calls:
            call.interrupt()
        await self._ended(self._grace_s - self._calls_s)

    async def _ended(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while self._invocations:
                    await asyncio.wait(self._invocations)
        except TimeoutError:
            return False
        return True


def _requeued(reason: RetryLater) -> RetryLater:
    # A copy: another job, which is not requeued, may wait for the very same reason.
    copy = type(reason).__new__(type(reason), *reason.args)
    vars(copy).update(vars(reason), is_requeued=True)
    return copy


def on_sigterm(stop: Callable[[], Awaitable[None]]) -> None:
    """
    Have SIGTERM wait for `stop`, and then do what it would have done without this. Call it within the running loop.

    A second signal changes nothing. Does nothing where nobody can handle signals, or where this one is ignored.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        return
    loop, stops = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def take_course() -> None:
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)

    async def stop_first() -> None:
        try:
            await stop()
            await asyncio.sleep(_LAST_ANSWERS_S)
        finally:
            take_course()

    def begin() -> None:
        if not stops:
            stops.add(loop.create_task(stop_first()))

    def handle(_number: int, _frame: FrameType | None) -> None:
        if loop.is_closed():
            take_course()
        else:
            loop.call_soon_threadsafe(begin)

    signal.signal(signal.SIGTERM, handle)

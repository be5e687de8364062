"""What happens in a run: honest customers who send at their own pace, and hostile ones who keep the app busy."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle

from local.soak.doors import Doors
from local.soak.hostile.attacks import BACKLOG, LARGE, STEADY, Attack
from local.soak.hostile.floods import FLOODS, Floods
from local.soak.monitor import Monitor
from local.soak.plan import PlannedJob
from local.soak.stack import SoakStack

HONEST_PER_SECOND = 10
"""A quarter of what two workers do on two cores: what is measured is the way of a job, not a queue."""
_PAUSE_S = 1.0
_PROGRESS_S = 5.0


@dataclass
class Scene:
    """
    A running stack and all who send to it.

    The honest customers send whatever happens. The hostile ones send the next burst when the last one has its results:
    so they keep the workers busy with what is hostile, and not the machine with what nobody has processed yet.
    """

    stack: SoakStack
    doors: Doors
    floods: Floods
    receiver: str
    """Where callbacks are left to hang."""
    planned: list[PlannedJob]
    """All jobs, which grow by the hostile ones as they are sent."""
    watch: Monitor
    print: Callable[[str], None]
    sent: Counter[str] = field(default_factory=Counter)
    """What each attack and each flood sent."""
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, messages: Sequence[PlannedJob], backlog: int) -> None:
        """The honest jobs beside the hostile ones. Returns when everything is processed."""
        if backlog:
            await self._send_backlog(backlog)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_turns(LARGE))
            for attack in STEADY:
                group.create_task(self._take_turns([attack]))
            for name in FLOODS:
                group.create_task(self._flood(name))
            try:
                await self.play_honestly(messages)
            finally:
                self._ending.set()
        await self.finish()

    async def play_storm(self, bursts: int) -> None:
        """All that is large at once, so many bursts of it, from as many customers. Returns when it is processed."""
        self.print("a storm of large answers")
        async with asyncio.TaskGroup() as group:
            for attack in LARGE:
                group.create_task(self._send(attack, bursts * attack.burst))
        await self.finish()

    async def play_honestly(self, messages: Sequence[PlannedJob]) -> None:
        """Send the honest jobs at their pace, and wait for their results."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, job in enumerate(messages):
                await asyncio.sleep(start + number / HONEST_PER_SECOND - time.monotonic())
                group.create_task(self.doors.send(job))
        await self._results(messages)

    async def finish(self) -> None:
        """Wait until everything that was sent is processed."""
        self.print("waiting for the last results")
        await self._results(self.planned)
        await self.stack.drained()

    async def print_progress(self) -> None:
        """Print the progress every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_PROGRESS_S)
            done, entries = len(self.stack.storage.result_at), len(self.stack.endpoint.journal.entries)
            mib = max(self.watch.together_mib.values(), default=0.0)
            self.print(f"{done:,} of {len(self.planned):,} jobs have a result, {entries:,} requests, {mib:,.0f} MiB")

    async def _take_turns(self, attacks: Sequence[Attack]) -> None:
        for attack in cycle(attacks):
            if self._ending.is_set():
                return
            await self._send(attack, attack.burst)
            await self._pause(_PAUSE_S)

    async def _send(self, attack: Attack, number: int) -> None:
        first = self.sent[attack.name] + 1
        jobs = [attack.job(first + each, self.receiver) for each in range(number)]
        self.planned += jobs
        self.sent[attack.name] += number
        await asyncio.gather(*map(self.floods.wait if attack.waits else self.doors.send, jobs))
        await self._results(jobs)

    async def _flood(self, name: str) -> None:
        every_s, send = FLOODS[name]
        for number in count():
            if self._ending.is_set():
                return
            self.sent[name] += 1
            await send(self.floods, number)
            await self._pause(every_s)

    async def _send_backlog(self, length: int) -> None:
        """Send a backlog, and wait until the workers have received all of it once."""
        jobs = [BACKLOG.job(number, self.receiver) for number in range(1, length + 1)]
        self.planned += jobs
        self.sent[BACKLOG.name] += length
        await self.stack.storage.send(jobs)
        while await self.stack.storage.has_visible_jobs():  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def _results(self, jobs: Sequence[PlannedJob]) -> None:
        keys = {job.key for job in jobs}
        await self.stack.storage.wait_until(lambda: keys <= self.stack.storage.result_at.keys())

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

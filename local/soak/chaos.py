"""What happens to the workers and to the customers' keys while the jobs run."""

import asyncio
import contextlib
import dataclasses
import os
import random
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from local.soak.endpoint import AiEndpoint
from local.stack.customers import Customer, onboard
from local.stack.hosts import Hosts
from local.vault.server import Vault

_PAUSE_S = 0.02
_OVERLAP_S = 0.5
"""Both keys are good for so long, as when a customer rotates with care."""
Told = Callable[[float], Awaitable[None]]
"""Waits until this share of the jobs is told."""


class Killer:
    """Kills workers at random, as the platform does: SIGKILL, with all that they have in flight."""

    def __init__(self, hosts: Hosts, seed: int, tell: Callable[[str], None]) -> None:
        self.killed: dict[int, float] = {}
        """Process ids and when they were killed, on `time.monotonic`."""
        self._hosts = hosts
        self._chance = random.Random(f"{seed} kills")  # noqa: S311  # repeatable on purpose
        self._tell = tell

    async def kill(self, count: int, told: Told) -> None:
        """So many kills, each by chance in its own part of the first four fifths of the jobs."""
        for number in range(count):
            share = 0.8 * (number + self._chance.random()) / count
            await told(share)
            while not self._alive():  # noqa: ASYNC110
                await asyncio.sleep(_PAUSE_S)
            instance = self._chance.choice(self._alive())
            pid = self._hosts.processes[instance].pid
            self.killed[pid] = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            self._tell(f"killed worker {instance}, process {pid}")

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """No worker does anything as long as the block runs: a queue can be filled meanwhile."""
        pids = [self._hosts.processes[instance].pid for instance in self._alive()]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def _alive(self) -> list[int]:
        return [number for number, process in self._hosts.processes.items() if process.pid not in self.killed]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def rotate(
    customers: Sequence[Customer], endpoint: AiEndpoint, vault: Vault, tell: Callable[[str], None]
) -> None:
    """Gives customers new keys: the vault has them first, then the endpoint stops taking the old ones."""
    renewed = [dataclasses.replace(customer, key=f"soak-{secrets.token_urlsafe(24)}") for customer in customers]
    for customer in renewed:
        endpoint.admit(customer)
    await onboard(vault, endpoint.url, *renewed)
    await asyncio.sleep(_OVERLAP_S)
    for customer in customers:
        endpoint.retire(customer)
    tell(f"rotated the keys of {len(customers)} customers; the old ones are refused now")

"""What a soak does to the workers and to the customers' keys while jobs run."""

import asyncio
import contextlib
import dataclasses
import os
import random
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from local.soak.endpoint import FaultyEndpoint
from local.stack.customers import Customer, onboard
from local.stack.hosts import Hosts
from local.vault.server import Vault

_POLL_S = 0.02
_OVERLAP_S = 0.5
"""How long both keys are accepted, as in a careful rotation."""
WaitForShare = Callable[[float], Awaitable[None]]
"""Waits until this share of the jobs has a result."""


class Killer:
    """Kills random workers as the platform does: SIGKILL, with all jobs in flight."""

    def __init__(self, hosts: Hosts, seed: int, log: Callable[[str], None]) -> None:
        self.killed: dict[int, float] = {}
        """Killed processes, and when, on `time.monotonic`."""
        self._hosts = hosts
        self._chance = random.Random(f"{seed} kills")  # noqa: S311 -- repeatable on purpose
        self._log = log

    async def kill(self, count: int, wait_for_share: WaitForShare) -> None:
        """Kill `count` workers, spread at random over the first four fifths of the jobs."""
        for number in range(count):
            share = 0.8 * (number + self._chance.random()) / count
            await wait_for_share(share)
            while not self._alive():  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
            instance = self._chance.choice(self._alive())
            pid = self._hosts.processes[instance].pid
            self.killed[pid] = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            self._log(f"killed worker {instance}, process {pid}")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause all workers until the block ends, so that a queue can be filled."""
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


async def rotate_keys(
    customers: Sequence[Customer], endpoint: FaultyEndpoint, vault: Vault, log: Callable[[str], None]
) -> None:
    """Rotate the keys of customers: the vault gets the new ones first, then the endpoint rejects the old ones."""
    renewed = [dataclasses.replace(customer, key=f"soak-{secrets.token_urlsafe(24)}") for customer in customers]
    for customer in renewed:
        endpoint.accept_key(customer)
    await onboard(vault, endpoint.url, *renewed)
    await asyncio.sleep(_OVERLAP_S)
    for customer in customers:
        endpoint.reject_key(customer)
    log(f"rotated the keys of {len(customers)} customers; the endpoint rejects the old ones")

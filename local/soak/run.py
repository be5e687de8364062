"""
A soak from start to exit code: many jobs of many customers on several workers, while the endpoint fails, workers
are killed and keys are rotated; then the endpoint's journal of calls is compared with the results and the bills.

`plan` makes the jobs, `endpoint` answers them and keeps the `journal`, `chaos` kills workers and rotates keys,
`storage` sends jobs and collects results, `reconciliation` compares (pure), `report` prints. It runs on a stack of
its own, leaves nothing behind, and is bounded by a number of jobs and by seconds.
"""

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.paths import PROJECT
from local.soak import endpoint as endpoints
from local.soak.chaos import Killer, rotate
from local.soak.endpoint import AiEndpoint
from local.soak.evidence import Evidence, named_blobs
from local.soak.log import Log
from local.soak.plan import Planned, make_customers, plan_backlog, plan_jobs, with_duplicates
from local.soak.reconciliation import reconcile
from local.soak.report import lines, measure
from local.soak.storage import Storage, open_storage
from local.stack import azurite, hosts
from local.stack.customers import Customer, onboard
from local.stack.node import NotInstalled
from local.stack.processes import ProcessFailed
from local.stack.stack import NAMES, app_settings, bypass_proxy_for_loopback, create_storage
from local.vault import server as vault
from local.vault.server import Vault

LEASE_S = 10
"""The least that the app takes: after so long a dead worker's job is taken over."""
VISIBILITY_TIMEOUT_S = 8
"""Seconds after which a dead host's messages come back; Azure has 600."""
_TOLD_EVERY_S = 3.0
_MODEL_S = (1.5, 2.5)
"""Seconds of a call in the phase of fairness, as a model takes: calls and not Storage are what is short then."""
_SETTINGS = {
    "LEASE_SECONDS": str(LEASE_S),
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:05",
}
_QUEUES = (NAMES["JOBS_QUEUE"], f"{NAMES['JOBS_QUEUE']}-poison", NAMES["RESULTS_QUEUE"])


@dataclass(slots=True)
class Soak:
    """A running soak: its parts, and what it has sent so far."""

    arguments: argparse.Namespace
    endpoint: AiEndpoint
    vault: Vault
    workers: hosts.Hosts
    storage: Storage
    killer: Killer
    log: Log
    tell: Callable[[str], None]
    until: float
    planned: list[Planned]

    async def crowd(self, customers: Sequence[Customer]) -> bool:
        """The phase with faults, kills and a rotation. False where time ran out."""
        seed = self.arguments.seed
        jobs = plan_jobs(seed, self.arguments.jobs, customers)
        messages = with_duplicates(seed, jobs)
        self.planned += jobs
        self.tell(
            f"sending {len(jobs):,} jobs of {len(customers)} customers, {len(messages) - len(jobs)} of them twice"
        )

        async def told(share: float) -> None:
            await self.storage.until(lambda: len(self.storage.answered) >= share * len(jobs))

        half = (len(messages) + 1) // 2

        async def send() -> None:
            """Half before the rotation, so that workers know the old keys, and half after it."""
            await self.storage.send(messages[:half])
            await told(0.25)
            await rotate(customers[::3], self.endpoint, self.vault, self.tell)
            await self.storage.send(messages[half:])

        return await self._in_time(
            send(),
            self.killer.kill(self.arguments.kills, told),
            self._all_told(),
        )

    async def queue_up(self, heavy: Customer, light: Customer) -> dict[str, Any]:
        """The phase of fairness: one customer's long queue, and another's single job behind it. Figures in seconds."""
        jobs = plan_backlog(self.arguments.seed, self.arguments.backlog, heavy.id)
        (single,) = plan_backlog(self.arguments.seed, 1, light.id)
        self.endpoint.faulty, self.endpoint.takes_s = False, _MODEL_S
        self.planned += [*jobs, single]
        self.tell(f"fairness: {len(jobs):,} jobs of one customer, then one of another")
        with self.killer.halted():
            await self._in_time(self.storage.send(jobs))
        began = time.monotonic()
        await self._in_time(self.storage.send([single]), self._all_told())
        sent, answered = self.storage.sent_at, self.storage.answered
        if single.key not in answered or any(job.key not in answered for job in jobs):
            return {}
        last = max(answered[job.key] for job in jobs)
        return {
            "backlog of the heavy customer": len(jobs),
            "the backlog took": round(last - began, 2),
            "the other's job took": round(answered[single.key] - sent[single.key], 2),
        }

    async def settle(self) -> None:
        """Waits until duplicates are through, too, and the endpoint has dealt with every call."""

        async def quiet() -> None:
            while await self.storage.waiting(*_QUEUES) or self.endpoint.journal.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.2)

        self.tell("waiting for the last duplicates")
        if not await self._in_time(quiet()):
            self.tell("messages are left in the queues")

    async def evidence(self) -> Evidence:
        """Everything that is known now."""
        told = list(self.storage.told)
        blobs = await self.storage.read_blobs(blob for one in told for blob in named_blobs(one.result))
        usage, jobs = await self.storage.rows("u_", "u`"), await self.storage.rows("j_", "j`")
        kills = list(self.killer.killed.values())
        return Evidence(self.planned, told, self.endpoint.journal.entries, usage, jobs, blobs, kills, self.log.errors)

    async def say_progress(self) -> None:
        """Tells how far it is, until cancelled."""
        while True:
            await asyncio.sleep(_TOLD_EVERY_S)
            calls = len(self.endpoint.journal.entries)
            self.tell(f"{len(self.storage.answered):,} of {len(self.planned):,} jobs have a result, {calls:,} calls")

    async def _all_told(self) -> None:
        await self.storage.until(lambda: len(self.storage.answered) >= len(self.planned))

    async def _in_time(self, *works: Awaitable[None]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.until - time.monotonic())), asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(_awaited(work))
            return True
        return False


async def run(arguments: argparse.Namespace) -> int:
    """Runs a soak and gives the exit code: 0 where nothing is that must not be."""
    began = time.monotonic()

    def tell(sentence: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {sentence}", flush=True)

    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    tell(f"seed {arguments.seed}; starting Storage, Key Vault, the AI endpoint and {arguments.workers} workers")
    try:
        figures, complaints = await _soak(arguments, tell)
    except (NotInstalled, ProcessFailed) as exc:
        print(exc)
        return 1
    print("\n".join(["", *lines(figures, complaints), ""]))
    if arguments.json:
        counts = {name: len(said) for name, said in complaints.items()}
        report = {"seed": arguments.seed, "figures": figures, "must be 0": counts}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    wrong = [name for name, said in complaints.items() if said]
    if wrong:
        print(f"FAILED with seed {arguments.seed}: {', '.join(wrong)}.")
        return 1
    print(f"Everything is accounted for (seed {arguments.seed}).")
    return 0


async def _soak(
    arguments: argparse.Namespace, tell: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    bypass_proxy_for_loopback()
    customers = make_customers(arguments.customers + 2)
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        account = await parts.enter_async_context(azurite.start(folder / "azurite"))
        safe = await parts.enter_async_context(vault.start(folder))
        answers = await parts.enter_async_context(endpoints.start(arguments.seed))
        for customer in customers:
            answers.admit(customer)
        await create_storage(account.connection_string)
        await onboard(safe, answers.url, *customers)
        settings = app_settings(account, safe) | _SETTINGS
        log = Log()
        workers = await parts.enter_async_context(
            hosts.start(
                arguments.workers,
                PROJECT,
                settings,
                hosts.free_port(),
                log.read,
                visibility_timeout_s=VISIBILITY_TIMEOUT_S,
            )
        )
        storage = await parts.enter_async_context(open_storage(account.connection_string))
        killer = Killer(workers, arguments.seed, tell)
        until = time.monotonic() + arguments.seconds
        soak = Soak(arguments, answers, safe, workers, storage, killer, log, tell, until, [])
        helpers = [asyncio.create_task(storage.gather()), asyncio.create_task(soak.say_progress())]
        try:
            finished = await soak.crowd(customers[:-2])
            first = [job.key for job in soak.planned]
            fairness = await soak.queue_up(*customers[-2:]) if finished and arguments.backlog else {}
            await soak.settle()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        seen = await soak.evidence()
    events = {"log events": dict(sorted(log.events.items()))}
    return measure(seen, storage.sent_at, first) | events | fairness, reconcile(seen)


async def _awaited(work: Awaitable[None]) -> None:
    await work

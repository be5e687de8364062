"""
A soak from start to exit code: many jobs of many customers on several workers, while the endpoint fails, workers are
killed and keys are rotated; then the endpoint's journal is compared with the results and the usage records.

`plan` makes the jobs, `endpoint` responds and keeps the `journal`, `chaos` kills workers and rotates keys, `storage`
sends jobs and collects results, `reconciliation` compares (pure), `report` formats. A soak runs on its own `stack`,
leaves nothing behind, and is limited by a number of jobs and by seconds. `hostile` is the soak with hostile customers.
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from local.soak.chaos import Killer, rotate_keys
from local.soak.hostile import run as hostile_run
from local.soak.plan import PlannedJob, make_customers, plan_backlog, plan_jobs, with_duplicates
from local.soak.reconciliation import reconcile
from local.soak.report import lines, measure
from local.soak.stack import SoakStack, open_stack
from local.stack.customers import Customer
from local.stack.node import NotInstalled
from local.stack.processes import ProcessFailed

_PROGRESS_S = 3.0
_MODEL_S = (1.5, 2.5)
"""Seconds of a call in the fairness phase, as a model takes, so that calls and not Storage are the limit."""


@dataclass(slots=True)
class Soak:
    """A running soak: its parts, and the jobs that it has planned so far."""

    arguments: argparse.Namespace
    stack: SoakStack
    killer: Killer
    print: Callable[[str], None]
    deadline: float
    planned: list[PlannedJob]

    async def run_with_faults(self, customers: Sequence[Customer]) -> bool:
        """The phase with faults, kills and a rotation. Returns False if time ran out."""
        seed = self.arguments.seed
        jobs = plan_jobs(seed, self.arguments.jobs, customers)
        messages = with_duplicates(seed, jobs)
        self.planned += jobs
        self.print(
            f"sending {len(jobs):,} jobs of {len(customers)} customers, {len(messages) - len(jobs)} of them twice"
        )

        async def wait_for_share(share: float) -> None:
            await self.stack.storage.wait_until(lambda: len(self.stack.storage.result_at) >= share * len(jobs))

        half = (len(messages) + 1) // 2

        async def send() -> None:
            """Half before the rotation, so that workers have cached the old keys, and half after it."""
            await self.stack.storage.send(messages[:half])
            await wait_for_share(0.25)
            await rotate_keys(customers[::3], self.stack.endpoint, self.stack.vault, self.print)
            await self.stack.storage.send(messages[half:])

        return await self._in_time(
            send(),
            self.killer.kill(self.arguments.kills, wait_for_share),
            self._all_results(),
        )

    async def run_backlog(self, heavy: Customer, light: Customer) -> dict[str, Any]:
        """The fairness phase: one customer's backlog, then another customer's single job. Figures in seconds."""
        jobs = plan_backlog(self.arguments.seed, self.arguments.backlog, heavy.id)
        (single,) = plan_backlog(self.arguments.seed, 1, light.id)
        self.stack.endpoint.faulty, self.stack.endpoint.duration_s = False, _MODEL_S
        self.planned += [*jobs, single]
        self.print(f"fairness: {len(jobs):,} jobs of one customer, then one job of another")
        with self.killer.paused():
            await self._in_time(self.stack.storage.send(jobs))
        start = time.monotonic()
        await self._in_time(self.stack.storage.send([single]), self._all_results())
        sent_at, result_at = self.stack.storage.sent_at, self.stack.storage.result_at
        if single.key not in result_at or any(job.key not in result_at for job in jobs):
            return {}
        end = max(result_at[job.key] for job in jobs)
        return {
            "backlog, jobs of one customer": len(jobs),
            "backlog, seconds": round(end - start, 2),
            "another customer's job, seconds": round(result_at[single.key] - sent_at[single.key], 2),
        }

    async def drain(self) -> None:
        """Wait until duplicates are processed, too, and the endpoint has ended every request."""
        self.print("waiting for the last duplicates")
        if not await self._in_time(self.stack.drained()):
            self.print("the queues are not empty")

    async def print_progress(self) -> None:
        """Print the progress every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_PROGRESS_S)
            requests = len(self.stack.endpoint.journal.entries)
            done = len(self.stack.storage.result_at)
            self.print(f"{done:,} of {len(self.planned):,} jobs have a result, {requests:,} requests")

    async def _all_results(self) -> None:
        await self.stack.storage.wait_until(lambda: len(self.stack.storage.result_at) >= len(self.planned))

    async def _in_time(self, *works: Awaitable[None]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())), asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(_await(work))
            return True
        return False


async def run(arguments: argparse.Namespace) -> int:
    """Run a soak. Returns the exit code: 0 if no check found a violation."""
    start = time.monotonic()

    def print_line(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    print_line(f"seed {arguments.seed}: starting Storage, Key Vault, the AI endpoint and {arguments.workers} workers")
    try:
        soak = hostile_run.run if arguments.hostile else _soak
        figures, violations = await soak(arguments, print_line)
    except (NotInstalled, ProcessFailed) as exc:
        print(exc)
        return 1
    print("\n".join(["", *lines(figures, violations), ""]))
    if arguments.json:
        counts = {name: len(sentences) for name, sentences in violations.items()}
        report = {"seed": arguments.seed, "figures": figures, "must be 0": counts}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = [name for name, sentences in violations.items() if sentences]
    if failed:
        print(f"FAILED with seed {arguments.seed}: {', '.join(failed)}.")
        return 1
    print(f"Every call is accounted for (seed {arguments.seed}).")
    return 0


async def _soak(
    arguments: argparse.Namespace, print_line: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    customers = make_customers(arguments.customers + 2)
    async with open_stack(arguments.seed, customers, arguments.workers) as stack:
        killer = Killer(stack.workers, arguments.seed, print_line)
        soak = Soak(arguments, stack, killer, print_line, time.monotonic() + arguments.seconds, [])
        progress = asyncio.create_task(soak.print_progress())
        try:
            finished = await soak.run_with_faults(customers[:-2])
            with_faults = [job.key for job in soak.planned]
            fairness = await soak.run_backlog(*customers[-2:]) if finished and arguments.backlog else {}
            await soak.drain()
        finally:
            progress.cancel()
            await asyncio.gather(progress, return_exceptions=True)
        evidence = await stack.evidence(soak.planned, list(killer.killed.values()))
    events = {"log events": dict(sorted(stack.log.events.items()))}
    return measure(evidence, stack.storage.sent_at, with_faults) | events | fairness, reconcile(evidence)


async def _await(work: Awaitable[None]) -> None:
    await work

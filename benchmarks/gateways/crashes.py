"""
What is kept when each side is killed in the middle of its calls, started again, and used on as its users would.

The endpoint's journal says what was bought; each side's own durable record says what it knows of. A caller of a proxy,
or of the SDK's process, repeats what got no answer. This product's jobs are messages of a queue, which delivers them
again.
"""

import asyncio
import contextlib
import os
import signal
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import aiohttp

from benchmarks.blocks import spread
from benchmarks.endpoint import call_tag
from benchmarks.gateways.accounts import Kept, account, bought_by
from benchmarks.messages import message
from local.paths import PROJECT
from local.soak.evidence import counted_records, outcome_of
from local.soak.stack import LEASE_S, VISIBILITY_TIMEOUT_S
from local.soak.storage import open_storage
from local.stack import hosts

CUSTOMERS = 20
_IN_FLIGHT = 32
_LIMIT_S = 180
_POLL_S = 0.01
_AGAIN_S = 0.2
Journal = Callable[[], Awaitable[Mapping[str, str]]]
"""Reads the endpoint's journal: the tag of each response, by its id."""


class Killable(Protocol):
    """A side that can be called, killed and started again."""

    async def start(self) -> None:
        """Start it, and wait until it is ready."""

    async def kill(self) -> None:
        """End it with SIGKILL."""

    async def call(self, number: int, tag: str) -> None:
        """One call of a customer. Raises OSError or aiohttp.ClientError if it gets no answer."""

    async def recorded(self) -> set[str] | None:
        """The responses' ids in its durable record."""


async def measure_calls(name: str, side: Killable, journal: Journal, count: int) -> dict[str, Any]:
    """The figures of a running side that is called, killed after half of the calls, and started again."""
    remaining = enumerate([call_tag(name, number) for number in range(count)])
    answered: set[str] = set()
    kills = 0

    async def work(_: int) -> None:
        number, tag = next(remaining)
        while True:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                await side.call(number % CUSTOMERS, tag)
                answered.add(tag)
                return
            await asyncio.sleep(_AGAIN_S)

    async def crash() -> None:
        await _until_half_is_bought(name, journal, count)
        nonlocal kills
        await side.kill()
        kills += 1
        await side.start()

    await _limited(spread(work, count, _IN_FLIGHT, CUSTOMERS), crash())
    kept = Kept(answered, await side.recorded(), Counter())
    return {"kills": kills, **account(name, count, await journal(), kept)}


async def measure_jobs(name: str, environment: Mapping[str, str], journal: Journal, count: int) -> dict[str, Any]:
    """The figures of this product: its worker is killed after half of the calls, and started again as Azure does."""
    remaining = enumerate([call_tag(name, number) for number in range(count)])
    settings = {
        **environment,
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "LEASE_SECONDS": str(LEASE_S),
        "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:05",
    }
    log: list[str] = []
    worker = hosts.start(1, PROJECT, settings, hosts.free_port(), log.append, visibility_timeout_s=VISIBILITY_TIMEOUT_S)
    async with open_storage(environment["JobStorage"]) as storage, worker as workers:
        collecting = asyncio.create_task(storage.collect())

        async def work(_: int) -> None:
            number, tag = next(remaining)
            await storage.send_text(b64encode(message(number % CUSTOMERS, tag)).decode())
            await storage.wait_until(lambda: any(each.key[1] == tag for each in storage.messages))

        async def crash() -> None:
            await _until_half_is_bought(name, journal, count)
            os.killpg(workers.processes[0].pid, signal.SIGKILL)

        try:
            await _limited(spread(work, count, _IN_FLIGHT, CUSTOMERS), crash())
        finally:
            collecting.cancel()
        records = counted_records(await storage.rows("u"), await storage.rows("m"))
        answers = {str(row.get("request_id")) for row in records if outcome_of(row) != "unanswered"}
        unanswered = Counter(str(row["job_id"]) for row in records if outcome_of(row) == "unanswered")
        succeeded = {each.key[1] for each in storage.messages if each.result.get("status") == "succeeded"}
    kills = sum("was killed by SIGKILL" in line for line in log)
    return {"kills": kills, **account(name, count, await journal(), Kept(succeeded, answers, unanswered))}


class SdkProcess:
    """A program of the customer's own that calls through OpenAI's client."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._child: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.gateways.sdk_process"),
            env=dict(self._environment),
            cwd=PROJECT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._child.stdout is not None  # noqa: S101  # it is a pipe
        await self._child.stdout.readline()
        self._reader = asyncio.create_task(self._read(self._child.stdout))

    async def kill(self) -> None:
        """End it. Its calls in flight fail."""
        if self._child is None or self._reader is None:
            return
        self._child.kill()
        await self._child.wait()
        await self._reader
        for future in self._waiting.values():
            future.set_exception(ConnectionError("the process ended"))
        self._waiting.clear()
        self._child = None

    async def call(self, number: int, tag: str) -> None:
        """One call. Raises ConnectionError if the process ends first, or has ended."""
        if self._child is None or self._child.stdin is None:
            raise ConnectionError("the process has ended")
        self._waiting[tag] = future = asyncio.get_running_loop().create_future()
        self._child.stdin.write(f"{number} {tag}\n".encode())
        await future

    async def recorded(self) -> None:
        """It has no record."""

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            self._waiting.pop(line.decode().strip()).set_result(None)


@contextlib.asynccontextmanager
async def sdk_process(environment: Mapping[str, str]) -> AsyncIterator[SdkProcess]:
    """A running process, until the block ends."""
    process = SdkProcess(environment)
    await process.start()
    try:
        yield process
    finally:
        await process.kill()


async def _until_half_is_bought(name: str, journal: Journal, count: int) -> None:
    while len(bought_by(name, await journal())) < count / 2:  # noqa: ASYNC110  # another process's journal
        await asyncio.sleep(_POLL_S)


async def _limited(*parts: Awaitable[object]) -> None:
    """Run the parts. What takes too long is ended: its calls count as not answered."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LIMIT_S):
            await asyncio.gather(*parts)

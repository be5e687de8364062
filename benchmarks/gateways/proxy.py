"""A peer that is a server between the callers and the endpoint, called over HTTP as its users call it."""

import asyncio
import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.blocks import spread
from benchmarks.environment import RunFailed
from benchmarks.messages import MODEL, conversation
from benchmarks.process_group import used
from local.stack.hosts import free_port
from local.stack.processes import Process, ProcessFailed

_START_S = 120
_POLL_S = 0.1


class Proxy(ABC):
    """A server between the callers and the endpoint, which can be killed and started again."""

    notes: str = ""
    not_counted: Sequence[str] = ()
    """What the command lines of children have whose CPU and memory are not the proxy's."""

    def __init__(self, name: str, version: str, http: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self.name, self.version = name, version
        self.url = f"http://127.0.0.1:{free_port()}"
        self.urls = urls
        self.http = http
        self._process: Process | None = None
        self._calls = 0

    async def start(self) -> None:
        """Start it, and wait until it is ready. Raises ProcessFailed."""
        command, environment, path = self.program()
        self._process = await Process.start(self.name, command, env={**os.environ, **environment})
        await self._process.ready([""], _START_S)  # any line
        deadline = time.monotonic() + _START_S
        while not await self._responds(path):
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} did not respond within {_START_S} s.")
            await asyncio.sleep(_POLL_S)
        await self.opened()

    async def kill(self) -> None:
        """End it and its children as a lost machine does."""
        assert self._process is not None  # noqa: S101  # it has been started
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.ended()

    async def stop(self) -> None:
        """Stop it in order."""
        if self._process is not None:
            await self._process.stop()

    async def call(self, number: int, tag: str = "") -> None:
        """One chat of the customer with this number. Raises aiohttp.ClientError if it gets no answer."""
        body = {"model": MODEL, "messages": conversation(tag)}
        url = f"{self.url}/v1/chat/completions"
        async with self.http.post(url, json=body, headers=self.headers(number), raise_for_status=True) as response:
            answer = await response.json()
        if not answer["choices"][0]["message"]["content"]:
            raise ProcessFailed(f"{self.name} returned no answer.")
        self._calls += 1

    async def block(self, count: int, in_flight: int, customers: int) -> dict[str, Any]:
        """
        The figures of `count` calls, as of `benchmarks.blocks`; the CPU counts until all calls are on record.

        Raises RunFailed if they don't come on record.
        """
        assert self._process is not None  # noqa: S101  # it has been started
        await spread(self.call, max(customers, in_flight), in_flight, customers)
        await self.recorded(self._calls)
        before, all_before = used(self._process.pid, without=self.not_counted), used(self._process.pid)
        start = time.perf_counter()
        latencies, _ = await spread(self.call, count, in_flight, customers)
        wall_s = time.perf_counter() - start
        records = await self.recorded(self._calls)
        if records is not None and len(records) < self._calls:
            raise RunFailed(f"{self.name} has {len(records)} records of {self._calls} calls.")
        after, all_after = used(self._process.pid, without=self.not_counted), used(self._process.pid)
        cpu_s = after.cpu_s - before.cpu_s
        return {
            "cpu_s": cpu_s,
            "beside_s": all_after.cpu_s - all_before.cpu_s - cpu_s,
            "wall_s": wall_s,
            "latencies_s": latencies,
            "memory_mb": after.memory_mb,
        }

    async def _responds(self, path: str) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self.http.get(f"{self.url}{path}") as response:
                return response.ok
        return False

    @abstractmethod
    def program(self) -> tuple[list[str | Path], Mapping[str, str], str]:
        """The command, its environment, and a path that responds once it is ready."""

    @abstractmethod
    def headers(self, number: int) -> Mapping[str, str]:
        """What a call of this customer has."""

    @abstractmethod
    async def opened(self) -> None:
        """What an operator does once it runs."""

    @abstractmethod
    async def recorded(self, expected: int | None = None) -> set[str] | None:
        """
        The responses' ids in its durable record, once there are as many as `expected`, or no more come; None if it has
        no record.
        """

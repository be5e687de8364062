"""Deploys under load: real host processes get SIGTERM, one after the other, while jobs run on them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from local.stack.azurite import Azurite
from local.stack.processes import Process
from local.vault.server import Vault
from tests.support.endpoint import Answer, Endpoint
from tests.support.harness import Customer, Harness, open_harness

pytestmark = [pytest.mark.long, pytest.mark.timeout(450)]  # forty seconds on an idle machine

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 50
DEPLOYS = 20
CUSTOMERS = 5
MANY = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}}


@dataclass
class Load:
    """Jobs of some customers, whose calls take `call_s` seconds each; and the host that runs them."""

    harness: Harness
    call_s: float
    customers: list[Customer] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    """The jobs by their ids, each with the calls that it needs."""
    under_way: int = 0
    are_many: asyncio.Event = field(default_factory=asyncio.Event)
    """Calls end once there are as many as the test waits for, however slow the machine."""
    results: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for _ in range(CUSTOMERS):
            customer = self.harness.customer(max_concurrency=12)  # fewer than it has calls: some wait
            customer.account.around = self._answer
            self.customers.append(customer)

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        self.under_way += 1
        try:
            await self.are_many.wait()
            await asyncio.sleep(self.call_s)
            return await answer(request)
        finally:
            self.under_way -= 1

    async def send(self, number: int) -> None:
        """Send so many jobs, every fifth one of three calls. Their calls wait for `wait_for_calls`."""
        self.are_many.clear()
        queue = self.harness.queues.get_queue_client(self.harness.environment["JOBS_QUEUE"])
        bodies = []
        for _ in range(number):
            job_id, is_of_many = f"job-{len(self.sent)}", not len(self.sent) // CUSTOMERS % 5
            customer = self.customers[len(self.sent) % CUSTOMERS]
            self.sent[job_id] = 3 if is_of_many else 1
            bodies.append(customer.body(job_id=job_id, **(MANY if is_of_many else {})))
        await asyncio.gather(*(queue.send_message(base64.b64encode(body).decode()) for body in bodies))

    async def take_results(self) -> None:
        """Take what is in the results queue."""
        bodies = await self.harness.messages(self.harness.environment["RESULTS_QUEUE"])
        self.results += map(json.loads, bodies)

    async def wait_for_calls(self, number: int) -> None:
        """Wait until so many calls are under way."""
        async with self._halting(150):
            while self.under_way < number:  # noqa: ASYNC110  # hosts are other processes
                await asyncio.sleep(0.02)
        self.are_many.set()

    async def wait_for_results(self) -> None:
        """Wait until each job has a result."""
        async with self._halting(150):
            while len({result["job_id"] for result in self.results}) < len(self.sent):
                await self.take_results()
                await asyncio.sleep(0.05)
            await self.take_results()

    async def outcomes(self) -> Counter[str]:
        """Return how many usage records have each outcome."""
        records = [record for customer in self.customers for record in await customer.usage()]
        return Counter(record["outcome"] for record in records)

    def calls(self) -> int:
        """Return how many calls the endpoint has got."""
        return sum(len(customer.account.received) for customer in self.customers)

    @contextlib.asynccontextmanager
    async def _halting(self, within_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(within_s):
                yield
        except TimeoutError:
            raise AssertionError("\n".join(["The hosts came to a halt.", *self.lines[-60:]])) from None

    async def start(self) -> Process:
        """
        Start a host of the app. A message that it holds when it dies would come back after ten minutes: nobody here
        waits for one.
        """
        command = [sys.executable, "-m", "local.host", "--app", ROOT]
        environment = {**os.environ, **self.harness.environment}
        host = await Process.start("host", command, env=environment, cwd=ROOT, on_line=self.lines.append)
        await host.ready(["^host ready"], within=60)
        return host


async def tell_to_stop(host: Process) -> None:
    """Send SIGTERM to the host as Azure does, and wait until it has ended."""
    os.kill(host.pid, signal.SIGTERM)
    assert await host.ended() == "exited with code 0"


@pytest_asyncio.fixture
async def own(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A harness for hosts, which poll an idle queue often."""
    quick = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2"}
    async with open_harness(azurite, vault, endpoint, **quick) as opened:
        yield opened


async def test_twenty_deploys_buy_nothing_twice(own: Harness):
    """
    Before each one, at least 50 calls are under way; every second time, the new host is started when the old one has
    ended, else before that one gets SIGTERM. Each job has one result, each call is made once, and none is unanswered.
    """
    load = Load(own, call_s=1)
    host = await load.start()
    try:
        for number in range(DEPLOYS):
            is_rolling = number % 2 == 0
            old, host = host, await load.start() if is_rolling else host
            await load.send(IN_FLIGHT)
            await load.wait_for_calls(IN_FLIGHT)
            await tell_to_stop(old)
            if not is_rolling:
                host = await load.start()
        await load.wait_for_results()
    finally:
        await host.stop()

    assert {"succeeded"} == {result["status"] for result in load.results}
    assert Counter(dict.fromkeys(load.sent, 1)) == Counter(result["job_id"] for result in load.results)
    calls = sum(load.sent.values())
    assert (calls, {"answered": calls}) == (load.calls(), await load.outcomes())
    assert max(result["attempts"] for result in load.results) > 1  # some were handed over


async def test_calls_longer_than_the_grace_are_on_record(own: Harness):
    """
    The host ends within ten seconds. Each call that it cut off is on record as unanswered, and made again by the next
    host at once: no job waits for a lease or for its message to come back. Half as many are under way as above: on a
    machine that is too busy to release them all within the grace, the kill that follows leaves one record an attempt.
    """
    load = Load(own, call_s=600)
    old = await load.start()
    await load.send(IN_FLIGHT // 2)
    await load.wait_for_calls(IN_FLIGHT // 2)

    await tell_to_stop(old)

    cut_off, load.call_s = load.calls(), 0
    host = await load.start()
    try:
        await load.wait_for_results()
    finally:
        await host.stop()
    assert Counter(dict.fromkeys(load.sent, 1)) == Counter(result["job_id"] for result in load.results)
    calls = sum(load.sent.values())
    assert ({"answered": calls, "unanswered": cut_off}, calls + cut_off) == (await load.outcomes(), load.calls())
    assert {"succeeded"} == {result["status"] for result in load.results}

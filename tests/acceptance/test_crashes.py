"""
Nothing is lost and nothing is billed twice, wherever a worker dies: real host processes, killed while jobs are at each
of their steps.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from azure.storage.queue.aio import QueueClient

from local.stack.azurite import Azurite
from local.stack.processes import Process, running
from local.vault.server import Vault
from shared.contract.job import ACTIONS
from tests.support.endpoint import Endpoint
from tests.support.faults import (
    JOBS,
    BreakConnection,
    FaultProxy,
    FaultyHarness,
    Forward,
    Handler,
    ProxiedRequest,
    forwarded,
    open_faulty_harness,
)
from tests.support.harness import Customer
from tests.support.input_blobs import with_blobs
from tests.support.sampled import Sampled

ROOT = Path(__file__).parents[2]
PUBLISHED, STORED = "queue put results", "table transaction merge j"


@dataclass
class CrashPoint:
    """Holds a customer's request of that number until its worker is dead: before it is forwarded, or once answered."""

    proxy: FaultProxy
    customer: Customer
    number: int
    after: bool
    body: bytes = b""
    message_id: str = ""
    """The job's message, once it is sent."""
    worker_died: asyncio.Event = field(default_factory=asyncio.Event)
    name: str = ""
    """The request's; empty until the job has come that far."""
    succeeded: list[ProxiedRequest] = field(default_factory=list)
    """The requests that had succeeded when the worker died."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The customer's rows then."""
    _count: int = 0

    def __call__(self, _: ProxiedRequest) -> Handler:
        """See `FaultProxy.handlers`."""
        self._count += 1
        return self._hold if self._count == self.number else forwarded

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} request {self.number}, {self.name}"

    async def _hold(self, request: ProxiedRequest, forward: Forward) -> web.StreamResponse:
        if self.after:
            await forward()
        self.name = request.name
        await self.proxy.notify()
        await self.worker_died.wait()
        raise BreakConnection


@pytest_asyncio.fixture(scope="module")
async def faulty(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[FaultyHarness]:
    """A harness for hosts, which poll an idle queue often."""
    quick = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2"}
    async with open_faulty_harness(azurite, vault, endpoint, **quick) as opened:
        yield opened


SHORT = "chat with blob"
"""It makes all requests of a chat, too."""


async def test_a_worker_may_die_at_some_steps(faulty: FaultyHarness, sampled: Sampled):
    """
    As below, at a fifth of the points of one kind of job, whose messages then come to a worker in this process; or at
    all of them in the long tier.
    """
    await _die(faulty, SHORT, sampled, beside=not sampled.is_whole)


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind for kind in JOBS if kind != SHORT])
async def test_a_worker_may_die_at_any_step(faulty: FaultyHarness, kind: str):
    """
    A host is killed while jobs of a kind are before and after each request of their attempt, and another one takes them
    over: each job ends with one result, each call is recorded, and only calls that were answered and not stored are
    made again.
    """
    await _die(faulty, kind, Sampled())


async def _die(faulty: FaultyHarness, kind: str, sampled: Sampled, *, beside: bool = False) -> None:
    """Let a host die; what it leaves is taken over by another one, or, `beside`, by the worker of this process."""
    requests, calls = await _requests_of(faulty, kind)
    places = [(number, after) for number in range(1, len(requests) + 1) for after in (False, True)]
    points = [
        CrashPoint(faulty.proxy, _customer(faulty, kind), number, after) for number, after in sampled(places, share=5)
    ]
    for point in points:
        faulty.proxy.handlers[point.customer.name] = point
        await _send(faulty, point, kind)
    async with _host(faulty) as (process, lines):
        # Steps whose responses come together are stored together: a job of many calls may make fewer requests.
        await _wait_for(
            faulty, lambda: {each.customer.name for each in points if not each.name} <= _published(faulty), lines
        )
        os.kill(process.pid, signal.SIGKILL)
        await process.ended()
    points = [point for point in points if point.name]
    await asyncio.gather(*(_expire(faulty, point) for point in points))
    before = len(faulty.proxy.requests)

    if beside:
        await asyncio.gather(*(_redeliver(faulty, point) for point in points))
    else:
        async with _host(faulty) as (_, lines):
            names = {point.customer.name for point in points}
            await _wait_for(faulty, lambda: names <= _published(faulty, since=before), lines)

    assert points
    problems = {str(point): await _problems(faulty, point, calls) for point in points}
    assert {} == {where: wrong for where, wrong in problems.items() if wrong}


def test_every_action_has_a_row():
    """In the table of jobs whose requests fail and whose workers die."""
    assert set(ACTIONS) == {members.get("action", "chat") for members in JOBS.values()}


async def _expire(faulty: FaultyHarness, point: CrashPoint) -> None:
    """Wait until the dead host's requests have ended, and let the job's lease expire."""
    point.worker_died.set()
    name = point.customer.name
    await faulty.proxy.wait_for(lambda: all(request.ended for request in faulty.proxy.of(name)))
    point.succeeded = [request for request in faulty.proxy.of(name) if request.succeeded]
    point.rows = await point.customer.rows()
    await faulty.expire_leases(point.customer)


async def _problems(faulty: FaultyHarness, point: CrashPoint, calls: int) -> list[str]:
    """Return what is wrong with a job whose first worker died at this point."""
    seen, rows = faulty.proxy.of(point.customer.name), await point.customer.rows()
    results = {request.body for request in seen if request.name == PUBLISHED and request.succeeded}
    if len(results) != 1:
        return [f"{len(results)} results were published: {sorted(results)}"]
    result = json.loads(results.pop())
    (job,) = _rows(rows, "j_")
    usage = [(row["outcome"], row["calls"]) for row in _rows(rows, "u_")]
    again = sum(each.is_call for each in point.succeeded) - _stored_calls(point, result["action"])
    may_have_called = _may_have_called(point, result["action"])
    checks = {
        "status": (result["status"], "succeeded"),
        "state": (job["state"], "done"),
        "calls answered": (sum(request.succeeded for request in seen if request.is_call), calls + again),
        # While one response is being stored, others may come: of a job of many calls the records say how many.
        "calls made again": (again, _is_unstored(point) if calls == 1 else again),
        "usage": (sorted(usage), [("answered", 1)] * calls + [("unanswered", 0)] * may_have_called),
        "usage in the result": (result["usage"]["calls"], calls),
    }
    return [f"{name}: {actual!r}, not {right!r}" for name, (actual, right) in checks.items() if actual != right]


def _is_unstored(point: CrashPoint) -> bool:
    """Whether the call of a job of one call was answered and not stored at the crash: the one case of a second call."""
    unstored = False
    for request in point.succeeded:
        unstored = request.name != STORED and (unstored or request.is_call)
    return unstored


def _stored_calls(point: CrashPoint, action: str) -> int:
    """Return how many calls the dead worker had stored: by their usage records, or by the id of their response."""
    if action == "respond":
        return sum(row["RowKey"].endswith("~id1") for row in point.rows)
    return len(_rows(point.rows, "u_"))


def _may_have_called(point: CrashPoint, action: str) -> bool:
    """Return whether nobody knows which calls a dead worker had made: one record says that there may have been one."""
    steps = {row["RowKey"].rpartition("~")[2] for row in point.rows}
    if action == "respond":
        return "begin1" in steps and "id1" not in steps
    return [row["state"] for row in _rows(point.rows, "j_")] == ["running"] and "outcome" not in steps


def _rows(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["RowKey"].startswith(kind)]


def _published(faulty: FaultyHarness, *, since: int = 0) -> set[str]:
    """Return the customers whose job's result was published, by a request after so many."""
    requests = faulty.proxy.requests[since:]
    return {request.customer for request in requests if request.name == PUBLISHED and request.answered}


async def _requests_of(faulty: FaultyHarness, kind: str) -> tuple[list[str], int]:
    """Return the requests of an attempt without a crash, with the host's publishing, and how many calls they had."""
    customer = _customer(faulty, kind)
    await customer.run(**await with_blobs(customer, JOBS[kind]))
    requests = faulty.proxy.of(customer.name)
    calls = sum(each.is_call and each.succeeded for each in requests)
    return [*(each.name for each in requests), PUBLISHED], calls


def _customer(faulty: FaultyHarness, kind: str) -> Customer:
    return faulty.customer(kind, max_concurrency=1)  # so that a job's requests come in much the same order


async def _send(faulty: FaultyHarness, point: CrashPoint, kind: str) -> None:
    queue = faulty.harness.queues.get_queue_client(faulty.harness.environment["JOBS_QUEUE"])
    point.body = point.customer.body(**await with_blobs(point.customer, JOBS[kind]))
    point.message_id = (await queue.send_message(base64.b64encode(point.body).decode())).id


async def _redeliver(faulty: FaultyHarness, point: CrashPoint) -> None:
    """Deliver the job's message to the worker of this process, and publish the result as a host does."""
    environment = faulty.harness.environment
    result = await point.customer.deliver(point.body, message_id=point.message_id)
    assert result is not None
    results = QueueClient.from_connection_string(environment["JobStorage"], environment["RESULTS_QUEUE"])
    async with results:
        await results.send_message(base64.b64encode(result).decode())


async def _wait_for(faulty: FaultyHarness, condition: Callable[[], bool], lines: list[str]) -> None:
    try:
        async with asyncio.timeout(60):
            await faulty.proxy.wait_for(condition)
    except TimeoutError:
        raise AssertionError("\n".join(["The host came to a halt.", *lines])) from None


@asynccontextmanager
async def _host(faulty: FaultyHarness) -> AsyncIterator[tuple[Process, list[str]]]:
    """Run a host of the app; return it, and its output. A message that it has when it dies returns after 5 s."""
    lines: list[str] = []
    command = [sys.executable, "-m", "local.host", "--app", str(ROOT), "--visibility-timeout", "5"]
    environment = {**os.environ, **faulty.harness.environment}
    async with running("host", command, ready=["^host ready"], env=environment, cwd=ROOT, on_line=lines.append) as (
        process,
        _,
    ):
        yield process, lines

"""
Nothing is lost and nothing is paid for twice, wherever a worker dies: real host processes, killed while jobs
stand at every one of their steps.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from local.stack.azurite import Azurite
from local.stack.processes import Process, running
from local.vault.server import Vault
from tests.support.endpoint import Endpoint
from tests.support.faults import (
    JOBS,
    Behavior,
    Broken,
    Exchange,
    FaultyHarness,
    Forward,
    Interceptor,
    open_faulty_harness,
    passed,
)
from tests.support.harness import Customer

ROOT = Path(__file__).parents[2]
KINDS = ("chat", "chat with blob", "multi_chat of 3", "image")
PUBLISHED, STORED = "queue put results", "table transaction merge j"


@dataclass
class Stop:
    """Holds a customer's call of that number until its worker is dead: before it is let through, or once answered."""

    interceptor: Interceptor
    customer: Customer
    number: int
    after: bool
    death: asyncio.Event = field(default_factory=asyncio.Event)
    name: str = ""
    """The call's; empty as long as the job has not come so far."""
    finished: list[str] = field(default_factory=list)
    """The calls that had been answered at the death."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """What stood in the table then."""
    _count: int = 0

    def __call__(self, _: Exchange) -> Behavior:
        """See `Watch.deeds`."""
        self._count += 1
        return self._hold if self._count == self.number else passed

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} call {self.number}, {self.name}"

    async def _hold(self, exchange: Exchange, forward: Forward) -> web.StreamResponse:
        if self.after:
            await forward()
        self.name = exchange.name
        await self.interceptor.notify()
        await self.death.wait()
        raise Broken


@pytest_asyncio.fixture(scope="module")
async def faulty(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[FaultyHarness]:
    """A harness that hosts run in, which look often at an idle queue."""
    quick = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2"}
    async with open_faulty_harness(azurite, vault, endpoint, **quick) as opened:
        yield opened


LONG = ("chat", "image")  # the chat with a blob makes all calls of a chat, too


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long) if kind in LONG else kind for kind in KINDS]
)
async def test_a_worker_may_die_at_any_step(faulty: FaultyHarness, kind: str):
    """
    A host is killed while jobs of a kind stand before and after each call of their run, and another takes
    them over: each ends with one result, each call is recorded, and only what was answered and not yet
    stored is asked for again.
    """
    calls = await _clean(faulty, kind)
    stops = [
        Stop(faulty.interceptor, _customer(faulty), number, after)
        for number in range(1, len(calls) + 1)
        for after in (False, True)
    ]
    for stop in stops:
        faulty.interceptor.behaviors[stop.customer.name] = stop
        await _send(faulty, stop.customer, kind)
    async with _host(faulty) as (process, log_lines):
        # Steps whose answers come together are stored together: a job of many calls may get by with fewer.
        await _until(faulty, lambda: all(stop.name or _is_published(faulty, stop) for stop in stops), log_lines)
        os.kill(process.pid, signal.SIGKILL)
        await process.ended()
    stops = [stop for stop in stops if stop.name]
    await asyncio.gather(*(_bury(faulty, stop) for stop in stops))
    before = len(faulty.interceptor.exchanges)

    async with _host(faulty) as (_, log_lines):
        await _until(faulty, lambda: all(_is_published(faulty, stop, since=before) for stop in stops), log_lines)

    problems = {str(stop): await _faults(faulty, stop, calls) for stop in stops}
    assert {} == {where: faults for where, faults in problems.items() if faults}


async def _bury(faulty: FaultyHarness, stop: Stop) -> None:
    """Waits until what the dead host had under way is over, and lets the job's lease end."""
    stop.death.set()
    await faulty.interceptor.wait_until(
        lambda: all(exchange.over for exchange in faulty.interceptor.of(stop.customer.name))
    )
    stop.finished = [exchange.name for exchange in faulty.interceptor.of(stop.customer.name) if exchange.done]
    stop.rows = await stop.customer.rows()
    await faulty.end_lease(stop.customer)


async def _faults(faulty: FaultyHarness, stop: Stop, calls: Sequence[str]) -> list[str]:
    """What is not as it should be with a job whose first worker died at this stop."""
    seen, rows = faulty.interceptor.of(stop.customer.name), await stop.customer.rows()
    relayed = {exchange.body for exchange in seen if exchange.name == PUBLISHED and exchange.done}
    if len(relayed) != 1:
        return [f"{len(relayed)} results were told: {sorted(relayed)}"]
    result = json.loads(relayed.pop())
    (job,) = _rows(rows, "j_")
    usage = [(row["outcome"], row["calls"]) for row in _rows(rows, "u_")]
    clean, again = sum(map(_is_ai, calls)), sum(map(_is_ai, stop.finished)) - len(_rows(stop.rows, "u_"))
    # Nobody knows what a dead worker had asked for: one record says that it may have been something.
    died_running = [row["state"] for row in _rows(stop.rows, "j_")] == ["running"]
    may_be_billed = died_running and not any(row["RowKey"].endswith("~outcome") for row in stop.rows)
    expected = {
        "status": (result["status"], "succeeded"),
        "state": (job["state"], "done"),
        "answers bought": (sum(exchange.done for exchange in seen if exchange.service == "ai"), clean + again),
        # While one answer is being stored, others may come: of a job of many calls the records tell how many.
        "answers bought again": (again, _in_the_window(stop) if clean == 1 else again),
        "usage": (sorted(usage), [("answered", 1)] * clean + [("unanswered", 0)] * may_be_billed),
        "usage told": (result["usage"]["calls"], clean),
    }
    return [f"{name}: {problems!r}, not {right!r}" for name, (problems, right) in expected.items() if problems != right]


def _in_the_window(stop: Stop) -> bool:
    """Whether the answer of a job of one call was there at the death, but not stored: the one case of a second call."""
    window = False
    for name in stop.finished:
        window = name != STORED and (window or _is_ai(name))
    return window


def _is_ai(name: str) -> bool:
    return name.startswith("ai ")


def _rows(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["RowKey"].startswith(kind)]


def _is_published(faulty: FaultyHarness, stop: Stop, *, since: int = 0) -> bool:
    """Whether the job's result has been told, by a call after so many."""
    exchange = faulty.interceptor.exchanges[since:]
    return any(each.name == PUBLISHED and each.relayed and each.customer == stop.customer.name for each in exchange)


async def _clean(faulty: FaultyHarness, kind: str) -> list[str]:
    """The calls of a run in which all goes well, and the host's telling."""
    customer = _customer(faulty)
    await customer.run(**JOBS[kind])
    return [*(exchange.name for exchange in faulty.interceptor.of(customer.name)), PUBLISHED]


def _customer(faulty: FaultyHarness) -> Customer:
    return faulty.customer(max_concurrency=1)  # so that a job's calls come in much the same order


async def _send(faulty: FaultyHarness, customer: Customer, kind: str) -> None:
    queue = faulty.harness.queues.get_queue_client(faulty.harness.environment["JOBS_QUEUE"])
    body = json.dumps(customer.job(**JOBS[kind])).encode()
    await queue.send_message(base64.b64encode(body).decode())


async def _until(faulty: FaultyHarness, holds: Callable[[], bool], log_lines: list[str]) -> None:
    try:
        async with asyncio.timeout(60):
            await faulty.interceptor.wait_until(holds)
    except TimeoutError:
        raise AssertionError("\n".join(["The host came to a halt.", *log_lines])) from None


@asynccontextmanager
async def _host(faulty: FaultyHarness) -> AsyncIterator[tuple[Process, list[str]]]:
    """A host of the app, and what it says. A message that it had when it died comes back after five seconds."""
    log_lines: list[str] = []
    command = [sys.executable, "-m", "local.host", "--app", str(ROOT), "--visibility-timeout", "5"]
    environment = {**os.environ, **faulty.harness.environment}
    async with running("host", command, ready=["^host ready"], env=environment, cwd=ROOT, on_line=log_lines.append) as (
        it,
        _,
    ):
        yield it, log_lines

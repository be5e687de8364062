"""
Nothing is lost and nothing is paid for twice, whichever call outside goes wrong: each one of a job's run in
turn, in three ways, for different lengths of time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.connections import secret_cache
from shared.jobs import attempt as attempts
from shared.jobs.message import Delivery
from shared.storage import account
from tests.support.endpoint import Endpoint
from tests.support.faults import (
    JOBS,
    Behavior,
    Exchange,
    FaultyHarness,
    lost,
    open_faulty_harness,
    passed,
    refused,
    reset,
)
from tests.support.harness import Customer

ONCE, TWICE, ALIKE, ALL = "once", "twice", "all like it until the next delivery", "the whole service until then"
KINDS = {**JOBS, "chat told elsewhere": {"output": {"queue": "special"}}}
_STORAGE = ("table", "blob", "queue")
_MOST_DELIVERIES = 12
_DEATH = re.compile(r"~[0-9]+$")
_QUICK = {"retry_backoff_factor": 0.01, "initial_backoff": 0, "increment_base": 0, "random_jitter_range": 0}


@dataclass
class Trouble:
    """What goes wrong for one customer: its outside call of that number, and perhaps others after it."""

    number: int
    behavior: Behavior
    lasts: str
    over: bool = False
    _count: int = 0
    _first: Exchange | None = None
    _times: int = 0

    def __call__(self, exchange: Exchange) -> Behavior:
        """See `Watch.deeds`."""
        self._count += 1
        if self._count == self.number:
            self._first = exchange
        if self._first is None or self.over or not self._strikes(exchange, self._first):
            return passed
        self._times += 1
        return self.behavior

    @property
    def in_storage(self) -> bool:
        """Whether it is Storage that fails."""
        return self._first is not None and self._first.service in _STORAGE

    def _strikes(self, exchange: Exchange, first: Exchange) -> bool:
        if self.lasts == ALL:
            return exchange.service == first.service or (exchange.service in _STORAGE and self.in_storage)
        limit = {ONCE: 1, TWICE: 2}.get(self.lasts, self._times + 1)
        return exchange.name == first.name and self._times < limit


@pytest_asyncio.fixture(scope="module")
async def faulty(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[FaultyHarness]:
    """A harness whose calls can be made to fail. The waits between tries, and between deliveries, are cut short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account, "_RETRIES", account._RETRIES | _QUICK)
        patch.setattr(attempts, "STORAGE_WAITS_S", (0.01,) * 3)
        patch.setattr(secret_cache, "REREAD_S", 0.0)  # a requeued job comes later than that, but not here
        async with open_faulty_harness(azurite, vault, endpoint) as opened:
            yield opened


@pytest.mark.parametrize(
    "lasts", [ONCE, *(pytest.param(lasts, marks=pytest.mark.long) for lasts in (TWICE, ALIKE)), ALL]
)
@pytest.mark.parametrize("behavior", [refused, reset, lost], ids=lambda behavior: behavior.__name__)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_fails_loses_nothing_and_buys_nothing_twice(
    faulty: FaultyHarness, kind: str, behavior: Behavior, lasts: str
):
    """
    Whichever call of a job's run is refused, cut off, or done without an answer: the job ends with one
    result, and its usage records are what the endpoint answered.
    """
    clean = faulty.customer()
    await _drive(faulty, clean, kind, lasts)
    calls = [exchange.name for exchange in faulty.interceptor.of(clean.name)]

    problems = await asyncio.gather(
        *(_faults(faulty, kind, Trouble(number, behavior, lasts), calls) for number in range(1, len(calls) + 1))
    )

    assert {} == {f"{number} {calls[number - 1]}": faults for number, faults in enumerate(problems, 1) if faults}


async def _faults(faulty: FaultyHarness, kind: str, trouble: Trouble, clean: list[str]) -> list[str]:
    """What is not as it should be when a job has gone through this trouble."""
    customer = faulty.customer()
    faulty.interceptor.behaviors[customer.name] = trouble
    try:
        relayed = await _drive(faulty, customer, kind, trouble.lasts)
    except TimeoutError as exc:
        return [str(exc)]
    if len(set(relayed)) != 1:
        return [f"{len(set(relayed))} results were told"]
    result, rows = json.loads(relayed[0]), await customer.rows()
    usage = [row for row in rows if row["RowKey"].startswith("u_")]
    (job,) = [row for row in rows if row["RowKey"].startswith("j_")]
    calls = {
        outcome: sum(row["calls"] for row in usage if row["outcome"] == outcome)
        for outcome in ("answered", "lost", "unanswered")
    }
    unanswered = [row for row in usage if row["outcome"] == "unanswered"]
    # One record for a run that ended without a word, whatever it may have asked for.
    crashes = [row for row in unanswered if _DEATH.search(row["RowKey"])]
    request = faulty.interceptor.of(customer.name, "ai")
    answers = sum(exchange.relayed for exchange in request)
    cut = sum(not exchange.relayed for exchange in request) if trouble.behavior is not refused else 0
    beyond = answers - calls["answered"] - calls["lost"] + cut - len(unanswered)
    expected = {
        "status": (result["status"], "succeeded"),
        "state": (job["state"], "done"),
        # What passes by is sat out in the run.
        "attempts": (result["attempts"] == 1 or trouble.lasts not in {ONCE, TWICE}, True),
        "answered": (calls["answered"], sum(name.startswith("ai ") for name in clean)),
        "told": (result["usage"]["calls"], calls["answered"] + calls["lost"]),
        "calls without an answer": (calls["unanswered"], 0),
        "paid for, and not recorded": (max(0, beyond) if not crashes else 0, 0),
        "recorded, and not paid for": (max(0, len(unanswered) - len(crashes) - cut, calls["lost"] - answers), 0),
        # A run that Storage did not fail has told of all that it asked for.
        "deaths": (len(crashes) <= (result["attempts"] - 1 if trouble.in_storage else 0), True),
        "blobs": (await _blobs_hold(faulty, result), True),
    }
    return [f"{name}: {problems!r}, not {right!r}" for name, (problems, right) in expected.items() if problems != right]


async def _drive(faulty: FaultyHarness, customer: Customer, kind: str, lasts: str) -> list[bytes]:
    """
    Every result that was told, when no message is left: what is raised is delivered again, and what is put
    back is delivered next. Raises TimeoutError where that does not end.
    """
    # After a wait of eleven seconds a job is requeued: what lasts until the next delivery is not waited for.
    options = {"retry_delay_ms": 1 if lasts in {ONCE, TWICE} else 11_000, "exponential_backoff": False}
    members = {"options": options, **KINDS[kind]}
    if kind == "chat told elsewhere":
        members["output"] = {"queue": faulty.harness.environment["ALLOWED_RESULT_QUEUES"]}
    messages = deque([(str(uuid4()), json.dumps(customer.job(**members)).encode())])
    relayed: list[bytes] = []
    for _ in range(_MOST_DELIVERIES):
        message_id, body = messages.popleft()
        seen = len(faulty.interceptor.exchanges)
        try:
            answer = await faulty.harness.services.worker.process(Delivery(body, message_id, datetime.now(UTC)))
        except Exception:  # noqa: BLE001  # whatever it is, the host delivers the message again
            messages.appendleft((message_id, body))
            answer = None
        relayed += [answer] if answer else []
        sent = [
            exchange
            for exchange in faulty.interceptor.exchanges[seen:]
            if exchange.customer == customer.name and exchange.done
        ]
        messages += [(str(uuid4()), exchange.body) for exchange in sent if exchange.name == "queue put jobs"]
        relayed += [exchange.body for exchange in sent if exchange.name == "queue put special"]
        if not messages:
            return relayed
        await faulty.end_lease(customer)
        if isinstance(trouble := faulty.interceptor.behaviors.get(customer.name), Trouble):
            trouble.over = True
    raise TimeoutError(f"No end after {_MOST_DELIVERIES} deliveries.")


async def _blobs_hold(faulty: FaultyHarness, result: dict[str, Any]) -> bool:
    """Whether each blob that the result names holds what it says."""
    images = (result.get("output") or {}).get("images", [])
    for named in [result.get("output_blob"), *(image["blob"] for image in images)]:
        if named is None:
            continue
        client = faulty.harness.blobs.get_blob_client(named["container"], named["name"])
        data = await (await client.download_blob()).readall()
        if hashlib.sha256(data).hexdigest() != named["sha256"]:
            return False
    return True

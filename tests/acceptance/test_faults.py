"""
Nothing is lost and nothing is billed twice, whichever request fails: each request of a job's attempt in turn, in three
ways, for different lengths of time.
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
    FALLBACK,
    JOBS,
    FaultyHarness,
    Handler,
    ProxiedRequest,
    forwarded,
    lost,
    open_faulty_harness,
    refused,
    reset,
)
from tests.support.harness import Customer
from tests.support.input_blobs import with_blobs
from tests.support.sampled import Sampled

ONCE, TWICE = "once", "twice"
SAME, SERVICE = "all requests of that name until the next delivery", "the whole service until the next delivery"
GOES_ON = {"respond", FALLBACK}
"""Whose next attempt does what is left after a call without an answer, instead of making the call again."""
KINDS = {**JOBS, "chat with its own queue": {"output": {"queue": "special"}}}
SHORT = {
    *((kind, lost, SERVICE) for kind in ("chat", "respond")),
    *(("chat", handler, ONCE) for handler in (refused, reset, lost)),
}
"""In the default tier: the worst, a response that is lost for long, and what a chat meets most often."""
CHOSEN = {
    *((lost, lasts) for lasts in (ONCE, TWICE, SAME, SERVICE)),
    *((refused, lasts) for lasts in (TWICE, SERVICE)),
    (reset, SAME),
}
"""What jobs meet that are no chat: each kind of fault, and each length of time. A chat meets each fault for each."""
_STORAGE = ("table", "blob", "queue")
_MAX_DELIVERIES = 12
_PLACEHOLDER = re.compile(r"~[0-9]+$")
_PLACEHOLDER_OF_CREATION = re.compile(r"~[0-9]+$|_lost[0-9]+$")
"""If Storage fails, a response may have been about to be created."""
_QUICK = {"retry_backoff_factor": 0.01, "initial_backoff": 0, "increment_base": 0, "random_jitter_range": 0}
_FEW = {"retry_total": 2}
"""Of three tries, a fault that lasts twice fails two; more of them only meet the same fault again."""


@dataclass
class FaultPlan:
    """The faults of one customer: its request of that number fails, and perhaps others after it."""

    number: int
    handler: Handler
    lasts: str
    over: bool = False
    _count: int = 0
    _first: ProxiedRequest | None = None
    _times: int = 0

    def __call__(self, request: ProxiedRequest) -> Handler:
        """See `FaultProxy.handlers`."""
        self._count += 1
        if self._count == self.number:
            self._first = request
        if self._first is None or self.over or not self._applies(request, self._first):
            return forwarded
        self._times += 1
        return self.handler

    @property
    def in_storage(self) -> bool:
        """Whether it is Storage that fails."""
        return self._first is not None and self._first.service in _STORAGE

    def _applies(self, request: ProxiedRequest, first: ProxiedRequest) -> bool:
        if self.lasts == SERVICE:
            return request.service == first.service or (request.service in _STORAGE and self.in_storage)
        limit = {ONCE: 1, TWICE: 2}.get(self.lasts, self._times + 1)
        return request.name == first.name and self._times < limit


@pytest_asyncio.fixture(scope="module")
async def faulty(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[FaultyHarness]:
    """A harness whose requests can fail. The waits between tries, and between deliveries, are short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account, "_RETRIES", account._RETRIES | _QUICK | _FEW)
        patch.setattr(attempts, "STORAGE_WAITS_S", (0.01,))
        patch.setattr(secret_cache, "REREAD_S", 0.0)  # a requeued job returns later than that, but not here
        async with open_faulty_harness(azurite, vault, endpoint) as opened:
            yield opened


@pytest.mark.parametrize(
    ("kind", "handler", "lasts"),
    [
        pytest.param(kind, handler, lasts, marks=() if (kind, handler, lasts) in SHORT else pytest.mark.long)
        for kind in KINDS
        for handler in (refused, reset, lost)
        for lasts in (ONCE, TWICE, SAME, SERVICE)
        if kind == "chat" or (handler, lasts) in CHOSEN
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_failed_request_loses_nothing_and_buys_nothing_twice(
    faulty: FaultyHarness, kind: str, handler: Handler, lasts: str, sampled: Sampled
):
    """
    Whichever request of a job's attempt is refused, reset, or made without a response: the job ends with one result,
    and its usage records are what the endpoint answered.
    """
    customer = faulty.customer(kind)
    await _run(faulty, customer, kind, lasts)
    requests = faulty.proxy.of(customer.name)

    numbers = list(sampled(range(1, len(requests) + 1), share=3))
    problems = await asyncio.gather(
        *(_problems(faulty, kind, FaultPlan(number, handler, lasts), requests) for number in numbers)
    )

    by_request = zip(numbers, problems, strict=True)
    assert {} == {f"{number} {requests[number - 1].name}": wrong for number, wrong in by_request if wrong}


async def _problems(
    faulty: FaultyHarness, kind: str, plan: FaultPlan, expected_requests: list[ProxiedRequest]
) -> list[str]:
    """Return what is wrong with a job that has met these faults."""
    customer = faulty.customer(kind)
    faulty.proxy.handlers[customer.name] = plan
    try:
        results = await _run(faulty, customer, kind, plan.lasts)
    except TimeoutError as exc:
        return [str(exc)]
    if len(set(results)) != 1:
        return [f"{len(set(results))} results were published"]
    result, rows = json.loads(results[0]), await customer.rows()
    usage = [row for row in rows if row["RowKey"].startswith("u_")]
    (job,) = [row for row in rows if row["RowKey"].startswith("j_")]
    calls = {
        outcome: sum(row["calls"] for row in usage if row["outcome"] == outcome)
        for outcome in ("answered", "lost", "unanswered")
    }
    unanswered = [row for row in usage if row["outcome"] == "unanswered"]
    # One record for an attempt that left none of its own, whatever calls it may have made.
    pattern = _PLACEHOLDER_OF_CREATION if plan.in_storage else _PLACEHOLDER
    placeholders = [row for row in unanswered if pattern.search(row["RowKey"])]
    requests = [request for request in faulty.proxy.of(customer.name) if request.is_call]
    answers = sum(request.answered for request in requests)
    broken = sum(request.broken for request in requests)
    beyond = answers - calls["answered"] - calls["lost"] + broken - len(unanswered)
    checks = {
        "status": (result["status"], "succeeded"),
        "state": (job["state"], "done"),
        # The attempt waits for what passes.
        "attempts": (result["attempts"] == 1 or plan.lasts not in {ONCE, TWICE} or kind in GOES_ON, True),
        "answered": (calls["answered"], sum(each.is_call and each.succeeded for each in expected_requests)),
        "usage in the result": (result["usage"]["calls"], calls["answered"] + calls["lost"]),
        "calls without an answer": (calls["unanswered"], 0),
        "billed and not recorded": (max(0, beyond) if not placeholders else 0, 0),
        "recorded and not billed": (
            max(0, len(unanswered) - len(placeholders) - broken, calls["lost"] - answers),
            0,
        ),
        # An attempt that Storage did not fail has recorded all of its calls.
        "placeholders": (len(placeholders) <= (result["attempts"] - 1 if plan.in_storage else 0), True),
        "blobs": (await _blobs_are_right(faulty, result), True),
    }
    return [f"{name}: {actual!r}, not {right!r}" for name, (actual, right) in checks.items() if actual != right]


async def _run(faulty: FaultyHarness, customer: Customer, kind: str, lasts: str) -> list[bytes]:
    """
    Return every result that is published until no message is left. A message whose processing raises is delivered
    again, and a requeued one is delivered next. Raises TimeoutError if that does not end.
    """
    # A job with a delay of eleven seconds is requeued: what lasts until the next delivery is not waited for.
    options = {"retry_delay_ms": 1 if lasts in {ONCE, TWICE} else 11_000, "exponential_backoff": False}
    members = {"options": options, **await with_blobs(customer, KINDS[kind])}
    if kind == "chat with its own queue":
        members["output"] = {"queue": faulty.harness.environment["ALLOWED_RESULT_QUEUES"]}
    messages = deque([(str(uuid4()), customer.body(**members))])
    results: list[bytes] = []
    for _ in range(_MAX_DELIVERIES):
        message_id, body = messages.popleft()
        before = len(faulty.proxy.requests)
        try:
            result = await faulty.harness.services.worker.process(Delivery(body, message_id, datetime.now(UTC)))
        except Exception:  # noqa: BLE001  # whatever it is, the host delivers the message again
            messages.appendleft((message_id, body))
            result = None
        results += [result] if result else []
        sent = [each for each in faulty.proxy.requests[before:] if each.customer == customer.name and each.succeeded]
        messages += [(str(uuid4()), each.body) for each in sent if each.name == "queue put jobs"]
        results += [each.body for each in sent if each.name == "queue put special"]
        if not messages:
            return results
        await faulty.expire_leases(customer)
        if isinstance(plan := faulty.proxy.handlers.get(customer.name), FaultPlan):
            plan.over = True
    raise TimeoutError(f"No end after {_MAX_DELIVERIES} deliveries.")


async def _blobs_are_right(faulty: FaultyHarness, result: dict[str, Any]) -> bool:
    """Return whether each blob that the result names has the content that it says."""
    output = result.get("output") or {}
    for blob in [result.get("output_blob"), output.get("blob"), *(each["blob"] for each in output.get("images", []))]:
        if blob is None:
            continue
        client = faulty.harness.blobs.get_blob_client(blob["container"], blob["name"])
        data = await (await client.download_blob()).readall()
        if hashlib.sha256(data).hexdigest() != blob["sha256"]:
            return False
    return True

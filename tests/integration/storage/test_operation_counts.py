"""How many Storage operations a job takes, counted at a proxy. docs/promises.md has the same table."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from local.stack.azurite import Azurite
from local.vault.server import Vault
from tests.support.endpoint import Endpoint, completion, pixels
from tests.support.faults import FaultyHarness, open_faulty_harness
from tests.support.harness import Customer

CLAIM = "table transaction insert j"
STEP = DONE = "table transaction merge j"
CLOSED = "table merge j"
"""DONE for a job whose usage records were written with its steps."""

OPERATIONS: dict[str, list[str]] = {
    "chat": [CLAIM, DONE],
    "chat, its result also in a blob": [CLAIM, STEP, "blob put result.json", CLOSED],
    "chat, its answer too large for a message": [CLAIM, STEP, "blob put result.json", CLOSED],
    "chat, its answer too large for a row": [
        CLAIM,
        "blob put steps/outcome.json",
        STEP,
        "blob put result.json",
        CLOSED,
    ],
    "multi_chat of 3 prompts": [CLAIM, STEP, STEP, STEP, CLOSED],
    "image": [CLAIM, "blob put image-1.png", STEP, CLOSED],
    "summarize in one call": [CLAIM, STEP, CLOSED],
    "embed in one call": [CLAIM, DONE],
    "raw, JSON": [CLAIM, DONE],
    "raw, binary": [CLAIM, "blob put output.png", STEP, CLOSED],
    "a message that is not a valid job": [],
    "a job that is done, delivered again": [CLAIM, "table read j"],
}
"""
By kind of job: the Storage operations of its first attempt if nothing fails, in order. The message with the result and
those of the jobs queue are not among them, because the Functions host sends and receives them.

A worker also writes an empty blob before its first job that needs blobs, and then every five minutes at most. Steps
that end at the same time share a transaction, so 3 prompts take 1 to 3; here they end one after the other.
"""

_JOBS: dict[str, dict[str, Any]] = {
    "chat, its result also in a blob": {"output": {"blob": True}},
    "multi_chat of 3 prompts": {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}},
    "image": {"action": "image", "input": {"prompt": "A cat."}},
    "summarize in one call": {"action": "summarize", "input": {"text": "A text."}},
    "embed in one call": {"action": "embed", "input": {"texts": ["One.", "Two."]}},
    "raw, JSON": {"action": "raw", "input": {"path": "chat/completions", "json": {"messages": []}}},
    "raw, binary": {
        "action": "raw",
        "input": {"path": "audio/speech", "json": {"input": "Hello."}, "response_type": "binary"},
    },
    "a message that is not a valid job": {"input": {"prompt": 7}},
}


@pytest_asyncio.fixture(scope="module")
async def faulty(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[FaultyHarness]:
    """A harness whose Storage operations are recorded."""
    async with open_faulty_harness(azurite, vault, endpoint) as opened:
        yield opened


@pytest.mark.parametrize("kind", OPERATIONS)
async def test_a_job_takes_so_many_operations(faulty: FaultyHarness, kind: str):
    """The first attempt of a job of this kind makes these operations, in this order, and no others."""
    customer = faulty.customer()
    customer.account.will_answer(*_answers(kind, faulty, customer))
    members = {"job_id": "counted", **_JOBS.get(kind, {})}
    if kind == "a job that is done, delivered again":
        await customer.run(**members)
        faulty.proxy.requests.clear()

    result = await customer.run(**members)

    assert result["status"] == ("failed" if kind == "a message that is not a valid job" else "succeeded"), result
    assert OPERATIONS[kind] == [request.name for request in faulty.proxy.of(customer.name, "table", "blob", "queue")]


def _answers(
    kind: str, faulty: FaultyHarness, customer: Customer
) -> list[Callable[..., Awaitable[web.StreamResponse]]]:
    if kind == "chat, its answer too large for a message":
        return [completion("x" * 25_000)]  # the output contains it twice: as its text, and in the choices
    if kind == "chat, its answer too large for a row":
        return [completion("x" * 31_000)]
    if kind == "raw, binary":
        return [_picture]
    return [_after(faulty, customer, steps) for steps in range(3)] if kind.startswith("multi_chat") else []


async def _picture(_: web.Request) -> web.StreamResponse:
    return web.Response(body=pixels(), content_type="image/png")


def _after(faulty: FaultyHarness, customer: Customer, steps: int) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Answer once so many steps have been stored."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await faulty.proxy.wait_for(
            lambda: (
                sum(request.answered and request.name == STEP for request in faulty.proxy.of(customer.name)) >= steps
            )
        )
        return await completion()(request)

    return answer


def test_the_docs_have_the_same_table():
    """The table in docs/promises.md is this one."""
    page = (Path(__file__).parents[3] / "docs" / "promises.md").read_text(encoding="utf-8")
    shown = {
        kind: [] if which == "none" else re.findall(r"`([^`]+)`", which)
        for kind, _, which in re.findall(r"^\| ([^|]+) \| (\d+) \| ([^|]+) \|$", page, re.MULTILINE)
    }

    assert OPERATIONS == shown

"""How many Storage operations a job takes, counted at a proxy: as many as the table in docs/promises.md has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.contract.budget import Budget
from shared.contract.job import ACTIONS
from shared.jobs.batch_message import encode_poll_message
from tests.support.doc_samples import section
from tests.support.endpoint import Answer, Endpoint, after, completion, pixels, reply
from tests.support.faults import FALLBACK, FaultyHarness, open_faulty_harness
from tests.support.harness import Customer, decoded
from tests.support.input_blobs import with_blobs

PAGE = section("docs/promises.md", "What a job asks of Storage")
OPERATIONS = {
    kind: (int(count), re.findall(r"`([^`]+)`", which))
    for kind, count, which in re.findall(r"^\| ([^|]+) \| (\d+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
}
"""
By kind of job: the Storage operations of its first attempt if nothing fails, in order. The message with the result and
those of the jobs queue are not among them, because the Functions host sends and receives them.

A worker also reads a customer's row once in ten seconds and the pointer to the price book once a minute, and writes
an empty blob before its first job that needs blobs, and then every five minutes at most. Steps that end at the same
time share a transaction, so 3 prompts take 1 to 3; here they end one after the other.
"""
ROW = "table read customer"
BUDGETED = "chat, of a customer with a budget"
AGAIN = "a job that is done, delivered again"
WAITING, POLL = "respond, until it waits", "a look at all responses of a connection"
LOOK, LAST_LOOK = "respond, a look of its own that is too early", "respond, the last look"
BEFORE = {AGAIN, POLL, LOOK, LAST_LOOK}
"""Of which an attempt goes before the one that is counted."""
STATUS = {"a message that is not a valid job": "failed", WAITING: None, POLL: None, LOOK: None}
"""What comes of the attempt, if not success."""
JOBS: dict[str, dict[str, Any]] = {
    "chat": {},
    BUDGETED: {},
    "chat, its result also in a blob": {"output": {"blob": True}},
    "chat, its answer too large for a message": {},
    "chat, its answer too large for a row": {},
    "multi_chat of 3 prompts": {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}},
    "image": {"action": "image", "input": {"prompt": "A cat."}},
    "edit_image": {"action": "edit_image", "input": {"images": ["INPUTS/a.png"], "prompt": "A cat."}},
    "transcribe": {"action": "transcribe", "input": {"blob": "INPUTS/call.wav"}},
    "speak": {"action": "speak", "input": {"text": "Hello.", "voice": "alloy"}},
    "summarize in one call": {"action": "summarize", "input": {"text": "A text."}},
    "summarize a document": {"action": "summarize", "input": {"blob": "INPUTS/notes.md"}},
    "embed in one call": {"action": "embed", "input": {"texts": ["One.", "Two."]}},
    "raw, JSON": {"action": "raw", "input": {"path": "chat/completions", "json": {"messages": []}}},
    "raw, binary": {
        "action": "raw",
        "input": {"path": "audio/speech", "json": {"input": "Hello."}, "response_type": "binary"},
    },
    WAITING: {"action": "respond", "input": {"input": "Hello."}},
    POLL: {"action": "respond", "input": {"input": "Hello."}},
    LOOK: {"action": "respond", "input": {"input": "Hello."}},
    LAST_LOOK: {"action": "respond", "input": {"input": "Hello."}},
    FALLBACK: {"connection": ["default", "second"]},
    "a message that is not a valid job": {"input": {"prompt": 7}},
    AGAIN: {},
}


@pytest_asyncio.fixture(scope="module")
async def faulty(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[FaultyHarness]:
    """A harness whose Storage operations are recorded."""
    async with open_faulty_harness(azurite, vault, endpoint) as opened:
        yield opened


@pytest.mark.parametrize("kind", JOBS)
async def test_a_job_takes_so_many_operations(faulty: FaultyHarness, kind: str):
    """The first attempt of a job of this kind makes these operations, in this order, and no others."""
    customer = faulty.customer(kind)
    customer.account.will_answer(*_answers(kind, faulty, customer))
    members = {"job_id": "counted", **await with_blobs(customer, JOBS[kind])}
    body = customer.body(**members)
    if kind in BEFORE:
        await customer.deliver(body)
        row = await faulty.harness.services.table.read(customer.name, "j_counted")
        body = (row and row.values.get("wakeup")) or body
    if kind == BUDGETED:  # of which the worker knows a bucket
        budget = Budget(limit=Decimal(10**9), unit="tokens", period="month")
        records = faulty.harness.services.customer_records
        await records.change(customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="b")
        for _ in range(3):
            await customer.run()
    await faulty.harness.services.customer_records.recent(customer.name)
    faulty.proxy.requests.clear()

    if kind == POLL:
        await asyncio.sleep(2)
        faulty.proxy.requests.clear()
        published = await faulty.harness.services.batch_worker.process(encode_poll_message(customer.name, "default", 1))
    else:
        published = await customer.deliver(body)

    status = None if published is None else decoded(published)["status"]
    assert STATUS.get(kind, "succeeded") == status, published
    made = [request.name for request in faulty.proxy.of(customer.name, "table", "blob", "queue")]
    assert OPERATIONS[kind] == (len(made), made)


async def test_a_customers_first_job_reads_its_row(faulty: FaultyHarness):
    """It is read once in ten seconds, beside the claim; the next job does without."""
    customer = faulty.customer()
    counts = []
    for _ in range(2):
        faulty.proxy.requests.clear()
        await customer.run()
        counts.append(sorted(request.name for request in faulty.proxy.of(customer.name, "table", "blob", "queue")))

    _, operations = OPERATIONS["chat"]
    assert [sorted([*operations, ROW]), sorted(operations)] == counts


def test_no_other_kind_is_in_the_table():
    """Each row of the page's table is counted, and each action has one."""
    assert list(JOBS) == list(OPERATIONS)
    assert set(ACTIONS) == {members.get("action", "chat") for members in JOBS.values()}


def _answers(kind: str, faulty: FaultyHarness, customer: Customer) -> list[Answer]:
    def answer_once_stored(steps: int) -> Answer:
        def stored() -> bool:
            requests = faulty.proxy.of(customer.name)
            return sum(each.answered and each.name == "table transaction merge j" for each in requests) >= steps

        return after(lambda: faulty.proxy.wait_for(stored))

    if kind == "chat, its answer too large for a message":
        return [completion("x" * 25_000)]  # the output contains it twice: as its text, and in the choices
    if kind == "chat, its answer too large for a row":
        return [completion("x" * 31_000)]
    if kind == "raw, binary":
        return [_picture]
    if kind in {WAITING, POLL, LOOK, LAST_LOOK}:
        under_way = reply({"id": "resp_1", "status": "in_progress", "background": True, "output": []})
        return [under_way] * (2 if kind in {POLL, LOOK} else 1)
    return [answer_once_stored(steps) for steps in range(3)] if kind.startswith("multi_chat") else []


async def _picture(_: web.Request) -> web.StreamResponse:
    return web.Response(body=pixels(), content_type="image/png")

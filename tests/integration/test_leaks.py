"""No key in anything that the app writes: jobs with a marked key meet all kinds of answers, and all is searched."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import pytest
from aiohttp import web

from shared.contract.job import ACTIONS
from shared.jobs.worker import Worker
from shared.services import build
from shared.settings import read_settings
from shared.storage.base import Blobs, Queues
from tests.support.endpoint import Answer, completion, error, reply, reset, truncated, usual
from tests.support.harness import Customer, Harness, delivery
from tests.support.input_blobs import with_blobs
from tests.support.log_texts import log_texts
from tests.support.workers import without_storage

KEY = "MARKED-0123456789abcdef-KEY"

Answers = Callable[[str], list[Answer]]
"""Returns an endpoint's answers to a job of the customer with that key, which some of them quote."""

JOBS = {
    "chat": {"prompt": "Hello?"},
    "multi_chat": {"prompts": ["Hello?", "Who is there?"]},
    "image": {"prompt": "A lighthouse"},
    "summarize": {"text": "A long text about lighthouses."},
    "embed": {"texts": ["lighthouse", "sea"]},
    "speak": {"text": "Hello?", "voice": "alloy"},
    "edit_image": {"images": ["INPUTS/a.png"], "prompt": "A lighthouse"},
    "transcribe": {"blob": "INPUTS/call.wav"},
    "respond": {"input": "Hello?"},
    "chat-claude": {"prompt": "Hello?"},
    "raw": {"method": "POST", "path": "chat/completions", "json": {"messages": []}},
}


def _error(status: int, times: int = 1) -> Answers:
    """Errors that quote the key."""

    def answers(key: str) -> list[Answer]:
        error = {"code": "x", "message": f"You sent {key}.", "innererror": {"k": key}}
        return [reply({"error": error}, status=status)] * times

    return answers


def _success(key: str) -> list[Answer]:
    """Successful answers that quote the key wherever there is text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await usual(request.path)(request)
        if response.content_type != "application/json":
            return response
        body = json.loads(response.body) | {"id": key, "model": f"model-{key}", "system_fingerprint": key}
        for item in body.get("data", []):
            item["revised_prompt"] = f"Your key is {key}."
        for block in [*body.get("content", []), *(part for item in body.get("output", []) for part in item["content"])]:
            block["text"] = f"Your key is {key}."
        for choice in body.get("choices", []):
            choice["message"]["content"] = f"Your key is {key}."
        return await reply(body, headers={"x-request-id": key})(request)

    return [answer] * 2


ANSWERS: dict[str, tuple[Answers, dict[str, Any]]] = {
    "success that quotes the key": (_success, {}),
    "400": (_error(400), {}),
    "401": (_error(401, times=2), {}),
    "403": (_error(403), {}),
    "404": (_error(404), {}),
    "422": (_error(422), {}),
    "429": (_error(429), {"max_retries": 0}),
    "500": (_error(500), {"max_retries": 0}),
    "not JSON": (lambda key: [reply(key.encode())], {}),
    "error that is not JSON": (lambda key: [reply(key.encode(), status=400)], {}),
    "reset": (lambda _: [reset], {"max_retries": 0}),
    "truncated": (lambda _: [truncated], {"max_retries": 0}),
    "timeout": (lambda _: [completion(after_s=30)], {"max_retries": 0, "timeout_s": 0.5}),
    "retried": (lambda _: [error(500), completion()], {"retry_delay_ms": 1}),
    "requeued": (lambda key: [error(429, message=f"You sent {key}.", retry_after="100")] * 2, {}),
}


COMMON = {"403", "404", "422", "500", "reset", "truncated"}
"""What becomes of these no action decides: one of each provider's API meets them, and one whose result is a blob."""
FEW = ("chat", "chat-claude", "image", "raw")
ON_STORAGE = ("success that quotes the key", "requeued")
"""
These write results, blobs and all messages, and a few actions do so on Azurite, too: with the others, Storage would do
nothing that it does not do there.
"""
CASES = [*((name, False) for name in ANSWERS), *((name, True) for name in ON_STORAGE)]


@pytest.fixture(name="harness")
def _harness(own_harness: Harness) -> Harness:
    return own_harness


class _UndelayedQueues:
    """The queues, without delays: a message that is hidden could not be searched."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        del delay_s
        await self._queues.send(queue, body)


class _Storage(Protocol):
    """What the jobs write to, and what they have written."""

    worker: Worker
    blobs: Blobs | None

    async def stored(self, customers: Sequence[Customer]) -> list[str]:
        """Return the customers' rows and result blobs."""

    async def take(self, queue: str) -> list[bytes]:
        """Take all messages out of a queue."""


class _Azurite:
    blobs = None

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.worker = replace(harness.services, queues=_UndelayedQueues(harness.services.queues)).worker

    async def stored(self, customers: Sequence[Customer]) -> list[str]:
        stored = [repr(row) for customer in customers for row in await customer.rows()]
        container = self._harness.blobs.get_container_client(self._harness.environment["RESULTS_CONTAINER"])
        for customer in customers:
            async for name in container.list_blob_names(name_starts_with=customer.name):
                stored.append(str(await (await container.download_blob(name)).readall()))
        return stored

    async def take(self, queue: str) -> list[bytes]:
        return await self._harness.messages(queue)


class _InMemory:
    def __init__(self, harness: Harness) -> None:
        app = without_storage(harness.services, harness.endpoint)
        self.worker, self._memory = app.services.worker, app.memory
        self.blobs = app.memory.blobs
        self._results = harness.environment["RESULTS_CONTAINER"]

    async def stored(self, customers: Sequence[Customer]) -> list[str]:
        assert {customer.name for customer in customers} <= {partition for partition, _ in self._memory.table.rows}
        blobs = [data for (container, _), (data, _) in self.blobs.blobs.items() if container == self._results]
        return [*map(repr, self._memory.table.rows.values()), *map(str, blobs)]

    async def take(self, queue: str) -> list[bytes]:
        return [body for body, _ in self._memory.queues.sent.pop(queue, [])]


async def _messages(harness: Harness, storage: _Storage) -> dict[str, list[str]]:
    """Take all messages out of these queues."""
    jobs, callbacks = harness.environment["JOBS_QUEUE"], harness.environment["CALLBACKS_QUEUE"]
    queues = {"jobs": jobs, "poison": f"{jobs}-poison", "callbacks": callbacks}
    queues["batches"] = harness.environment["BATCHES_QUEUE"]
    return {name: [body.decode() for body in await storage.take(queue)] for name, queue in queues.items()}


@pytest.mark.parametrize(
    ("name", "on_storage"), CASES, ids=[f"{name} on Azurite" if on_storage else name for name, on_storage in CASES]
)
async def test_the_key_is_in_nothing_that_is_written(
    harness: Harness,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
    on_storage: bool,
):
    """
    Whatever the endpoint answers, and whichever action calls it, the key is in no result, row, blob, message, log line
    or output, nor in those of the same jobs as dead letters.
    """
    caplog.set_level(logging.DEBUG)
    answers, options = ANSWERS[name]
    storage: _Storage = _Azurite(harness) if on_storage else _InMemory(harness)
    worker = storage.worker
    claude = {"endpoint": f"{harness.endpoint.url}/anthropic", "provider": "anthropic"}
    customers = {
        action: harness.customer(api_key=f"{KEY}-{action}", **(claude if action == "chat-claude" else {}))
        for action in (FEW if on_storage or name in COMMON else JOBS)
    }
    deliveries = []
    for action, customer in customers.items():
        harness.endpoint.accounts[f"{KEY}-{action}"] = customer.account
        customer.account.will_answer(*answers(f"{KEY}-{action}"))
        output = {"blob": True, "callback": f"{harness.endpoint.url}/done"}
        job = customer.job(
            job_id=action,
            action=action.partition("-")[0],
            options=options,
            output=output,
            **await with_blobs(customer, {"input": JOBS[action]}, blobs=storage.blobs),
        )
        deliveries.append(delivery(json.dumps(job).encode()))

    results = await asyncio.gather(*map(worker.process, deliveries))
    messages = await _messages(harness, storage)
    dead_letters = await asyncio.gather(*map(worker.dead_letter, deliveries))
    later_messages = await _messages(harness, storage)

    assert [] == [action for action, customer in customers.items() if not customer.account.received]
    for bodies, sent in ((results, messages), (dead_letters, later_messages)):
        # A job that waits for a response has no message, but its connection has one.
        assert bodies.count(None) == len(sent["jobs"] + sent["poison"] + sent["batches"])
        assert len(bodies) - bodies.count(None) == len(sent["callbacks"])
    leaks = {
        "result": [*map(str, results), *map(str, dead_letters)],
        "stored": await storage.stored([*customers.values()]),
        "queues": [text for sent in (messages, later_messages) for texts in sent.values() for text in texts],
        "log": log_texts(caplog),
        "output": capfd.readouterr(),
    }
    assert [] == [where for where, texts in leaks.items() if KEY in "\n".join(texts)]


def test_every_action_is_searched():
    """And chats with Claude."""
    assert {*ACTIONS, "chat-claude"} == set(JOBS)


async def test_no_repr_has_a_key(harness: Harness):
    """Objects that hold a key don't show it, however they are printed."""
    environment = harness.environment | {"STATIC_CONNECTION": f'{{"api_key": "{KEY}", "provider": "openai"}}'}
    settings = read_settings(environment)
    services = build(settings)
    customer = harness.customer(api_key=KEY)
    connection = await services.connections.resolve(customer.name, "default")
    await services.close()

    shown = [repr(thing) + str(thing) for thing in (settings, services, connection, connection.access)]

    assert [] == [text for text in shown if KEY in text or "AccountKey=" in text]

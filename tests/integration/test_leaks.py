"""No key in anything that leaves us: a marked key goes every way, and everything is searched for it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from shared.services import build
from shared.settings import read_settings
from shared.storage.base import Queues
from tests.support.endpoint import Answer, completion, error, reply, reset, truncated, usual
from tests.support.harness import Customer, Harness, delivery
from tests.support.log_texts import log_texts

KEY = "MARKED-0123456789abcdef-KEY"


Way = Callable[[str], list[Answer]]
"""What an endpoint answers to a customer's job; it is given the customer's key, which some quote."""

JOBS = {
    "chat": {"prompt": "Hello?"},
    "multi_chat": {"prompts": ["Hello?", "Who is there?"]},
    "image": {"prompt": "A lighthouse"},
    "summarize": {"text": "A long text about lighthouses."},
    "embed": {"texts": ["lighthouse", "sea"]},
    "raw": {"method": "POST", "path": "chat/completions", "json": {"messages": []}},
}


def _echo(status: int, times: int = 1) -> Way:
    def way(key: str) -> list[Answer]:
        error = {"code": "x", "message": f"You sent {key}.", "innererror": {"k": key}}
        return [reply({"error": error}, status=status)] * times

    return way


def _quoting(key: str) -> list[Answer]:
    """An endpoint that answers as it should, and has the key in all that it says beside."""

    async def answer(request: web.Request) -> web.StreamResponse:
        usually = await usual(request.path)(request)
        response_body = json.loads(usually.body) | {"id": key, "model": f"model-{key}", "system_fingerprint": key}
        for item in response_body.get("data", []):
            item["revised_prompt"] = f"Your key is {key}."
        for choice in response_body.get("choices", []):
            choice["message"]["content"] = f"Your key is {key}."
        return await reply(response_body, headers={"x-request-id": key})(request)

    return [answer] * 2


WAYS: dict[str, tuple[Way, dict[str, Any]]] = {
    "success that quotes the key": (_quoting, {}),
    "400": (_echo(400), {}),
    "401": (_echo(401, times=2), {}),
    "403": (_echo(403), {}),
    "404": (_echo(404), {}),
    "422": (_echo(422), {}),
    "429": (_echo(429), {"max_retries": 0}),
    "500": (_echo(500), {"max_retries": 0}),
    "not JSON": (lambda key: [reply(key.encode())], {}),
    "error that is not JSON": (lambda key: [reply(key.encode(), status=400)], {}),
    "reset": (lambda _: [reset], {"max_retries": 0}),
    "truncated": (lambda _: [truncated], {"max_retries": 0}),
    "timeout": (lambda _: [completion(after_s=30)], {"max_retries": 0, "timeout_s": 1.5}),
    "retried": (lambda _: [error(500), completion()], {"retry_delay_ms": 1}),
    "requeued": (lambda key: [error(429, message=f"You sent {key}.", retry_after="600")] * 2, {}),
}


@pytest.fixture(name="harness")
def _harness(own_harness: Harness) -> Harness:
    return own_harness


class _Unhidden:
    """The queues, with every message to be seen at once: one that is delayed could not be searched."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        del delay_s
        await self._queues.send(queue, body)


async def _stored(harness: Harness, customers: list[Customer]) -> list[str]:
    """All that is stored for the customers: rows and result blobs."""
    stored = [repr(row) for customer in customers for row in await customer.rows()]
    container = harness.blobs.get_container_client(harness.environment["RESULTS_CONTAINER"])
    for customer in customers:
        async for name in container.list_blob_names(name_starts_with=customer.name):
            stored.append(str(await (await container.download_blob(name)).readall()))
    return stored


async def _waiting(harness: Harness) -> dict[str, list[str]]:
    """All messages that wait in the jobs, poison and callbacks queues; they are taken out."""
    jobs, callbacks = harness.environment["JOBS_QUEUE"], harness.environment["CALLBACKS_QUEUE"]
    queues = {"jobs": jobs, "poison": f"{jobs}-poison", "callbacks": callbacks}
    return {name: [body.decode() for body in await harness.messages(queue)] for name, queue in queues.items()}


@pytest.mark.parametrize(("answers", "options"), WAYS.values(), ids=WAYS.keys())
async def test_key_stays_inside(harness: Harness, caplog: pytest.LogCaptureFixture, capfd, answers: Way, options):
    """
    Whatever the endpoint does, and whichever action asks it, the key stands in no result, row, blob, message that
    waits, log line or output; nor in what the job ends with when it is given up afterwards.
    """
    caplog.set_level(logging.DEBUG)
    worker = replace(harness.services, queues=_Unhidden(harness.services.queues)).worker
    customers = {action: harness.customer(api_key=f"{KEY}-{action}") for action in JOBS}
    deliveries = []
    for action, customer in customers.items():
        harness.endpoint.accounts[f"{KEY}-{action}"] = customer.account
        customer.account.will_answer(*answers(f"{KEY}-{action}"))
        output = {"blob": True, "callback": f"{harness.endpoint.url}/done"}
        job = customer.job(job_id=action, action=action, input=JOBS[action], options=options, output=output)
        deliveries.append(delivery(json.dumps(job).encode()))

    results = await asyncio.gather(*map(worker.process, deliveries))
    first = await _waiting(harness)
    buried = await asyncio.gather(*map(worker.dead_letter, deliveries))
    then = await _waiting(harness)

    assert [] == [action for action, customer in customers.items() if not customer.account.received]
    for published, waiting in ((results, first), (buried, then)):
        assert published.count(None) == len(waiting["jobs"] + waiting["poison"])
        assert len(published) - published.count(None) == len(waiting["callbacks"])
    leaks = {
        "result": [*map(str, results), *map(str, buried)],
        "stored": await _stored(harness, [*customers.values()]),
        "queues": [text for waiting in (first, then) for texts in waiting.values() for text in texts],
        "log": log_texts(caplog),
        "output": capfd.readouterr(),
    }
    assert [] == [where for where, texts in leaks.items() if KEY in "\n".join(texts)]


@pytest.mark.parametrize(
    "secret",
    [
        f'{{"api_key": "{KEY}", ',
        f'{{"api_key": "{KEY}", "endpoint": "https://{KEY}@x.openai.azure.com"}}',
        f'{{"api_key": "{KEY}", "endpoint": "https://x.openai.azure.com?key={KEY}"}}',
        f'{{"api_key": "{KEY}", "endpoint": "{KEY}"}}',
        f'{{"api_key": "{KEY}", "provider": "{KEY}"}}',
        f'{{"api_key": ["{KEY}"]}}',
        f'{{"api_key": "{KEY}\\n", "endpoint": "https://evil.example", "provider": "openai"}}',
        KEY,
    ],
)
async def test_key_of_a_broken_secret_stays_inside(harness: Harness, caplog: pytest.LogCaptureFixture, secret: str):
    """What is wrong with a secret is said without any of its values."""
    caplog.set_level(logging.DEBUG)
    customer = harness.customer(connection=None)
    harness.put_secret(f"ai--{customer.name}--default", secret)

    result = await customer.run()

    assert result["error"]["code"] == "connection_invalid"
    assert KEY not in json.dumps(result)
    assert KEY not in "\n".join(log_texts(caplog))


async def test_reprs_show_no_key(harness: Harness):
    """Nothing that holds a key shows it, however it is printed."""
    environment = harness.environment | {"STATIC_CONNECTION": f'{{"api_key": "{KEY}", "provider": "openai"}}'}
    settings = read_settings(environment)
    services = build(settings)
    customer = harness.customer(api_key=KEY)
    connection = await services.connections.resolve(customer.name, "default")
    await services.close()

    shown = [repr(thing) + str(thing) for thing in (settings, services, connection, connection.access)]

    assert [] == [text for text in shown if KEY in text or "AccountKey=" in text]


async def test_crash_is_logged_without_the_text_of_the_exception(harness: Harness, caplog: pytest.LogCaptureFixture):
    """A fault of ours ends the job with `internal`; its log has the place, not the exception's words."""
    customer = harness.customer(api_key=KEY)
    broken = replace(harness.services, connections=_Broken())

    results = await broken.worker.process(delivery(json.dumps(customer.job()).encode()))

    assert results is not None
    assert json.loads(results)["error"]["code"] == "internal"
    assert "job_error" in caplog.text
    assert KEY not in caplog.text + str(results)


class _Broken:
    async def resolve(self, customer: str, name: str) -> None:
        raise ValueError(f"invalid header value Bearer {KEY} for {customer} {name}")

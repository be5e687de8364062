"""No key in anything that leaves us: a marked key goes every way, and everything is searched for it."""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import replace

import pytest

from endpoint import completion, error, reply, reset, truncated
from shared.services import build
from shared.settings import read_settings
from world import World, delivery

KEY = "MARKED-0123456789abcdef-KEY"


def _echo(status: int):
    """An endpoint that quotes the key it was sent, as some do."""
    body = {"error": {"code": "x", "message": f"You sent {KEY}.", "innererror": {"k": KEY}}}
    return reply(body, status=status)


WAYS = {
    "success that quotes the key": ([completion(f"Your key is {KEY}.")], {}),
    "finish with the key in the id": ([completion("x", id=KEY, system_fingerprint=KEY)], {}),
    "400": ([_echo(400)], {}),
    "401": ([_echo(401), _echo(401)], {}),
    "403": ([_echo(403)], {}),
    "404": ([_echo(404)], {}),
    "422": ([_echo(422)], {}),
    "429": ([_echo(429)], {"max_retries": 0}),
    "500": ([_echo(500)], {"max_retries": 0}),
    "not JSON": ([reply(KEY.encode())], {}),
    "error that is not JSON": ([reply(KEY.encode(), status=400)], {}),
    "reset": ([reset], {"max_retries": 0}),
    "truncated": ([truncated], {"max_retries": 0}),
    "timeout": ([completion(after_s=0.5)], {"max_retries": 0, "timeout_s": 0.1}),
    "retried": ([error(500), completion()], {"retry_delay_ms": 1}),
    "put back": ([error(429, retry_after="600")], {}),
}


async def _everything(world: World, customer) -> str:
    """All that was kept of the customer: rows, result blobs, waiting messages."""
    kept = [repr(row) for row in await customer.rows()]
    container = world.blobs.get_container_client(world.environment["RESULTS_CONTAINER"])
    async for name in container.list_blob_names(name_starts_with=customer.name):
        kept.append(str(await (await container.download_blob(name)).readall()))
    return "\n".join(kept)


@pytest.mark.parametrize(("answers", "options"), WAYS.values(), ids=WAYS.keys())
async def test_key_stays_inside(world: World, caplog: pytest.LogCaptureFixture, capfd, answers, options):
    """Whatever the endpoint does, the key stands in no result, row, blob, log line or output."""
    caplog.set_level(logging.DEBUG)
    customer = world.customer(api_key=KEY)
    world.endpoint.accounts[KEY] = customer.account
    customer.account.will_answer(*answers)

    told = await customer.deliver(options=options, output={"blob": True})

    assert customer.account.received
    leaks = {
        "result": str(told),
        "kept": await _everything(world, customer),
        "log": "\n".join(_texts(caplog)),
        "output": "".join(capfd.readouterr()),
    }
    assert [] == [where for where, text in leaks.items() if KEY in text]


def _texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = []
    for record in caplog.records:
        if record.name.startswith("local"):
            continue
        texts.append(record.getMessage())
        if record.exc_info:
            texts.append("".join(traceback.format_exception(*record.exc_info)))
    return texts


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
async def test_key_of_a_broken_secret_stays_inside(world: World, caplog: pytest.LogCaptureFixture, secret: str):
    """What is wrong with a secret is said without any of its values."""
    caplog.set_level(logging.DEBUG)
    customer = world.customer(connection=None)
    world.keep(f"ai--{customer.name}--default", secret)

    result = await customer.run()

    assert result["error"]["code"] == "connection_invalid"
    assert KEY not in json.dumps(result)
    assert KEY not in "\n".join(_texts(caplog))


async def test_reprs_show_no_key(world: World):
    """Nothing that holds a key shows it, however it is printed."""
    environment = world.environment | {"STATIC_CONNECTION": f'{{"api_key": "{KEY}", "provider": "openai"}}'}
    settings = read_settings(environment)
    services = build(settings)
    customer = world.customer(api_key=KEY)
    connection = await services.pipeline.connections.resolve(customer.name, "default")
    await services.close()

    shown = [repr(thing) + str(thing) for thing in (settings, services, connection, connection.access)]

    assert [] == [text for text in shown if KEY in text or "AccountKey=" in text]


async def test_crash_is_logged_without_the_text_of_the_exception(world: World, caplog: pytest.LogCaptureFixture):
    """A fault of ours ends the job with `internal`; its log has the place, not the exception's words."""
    customer = world.customer(api_key=KEY)
    pipeline = world.services.pipeline
    broken = replace(pipeline, connections=_Broken())

    told = await broken.answer(delivery(json.dumps(customer.job()).encode()))

    assert told is not None
    assert json.loads(told)["error"]["code"] == "internal"
    assert "job_crashed" in caplog.text
    assert KEY not in caplog.text + str(told)


class _Broken:
    async def resolve(self, customer: str, name: str) -> None:
        raise ValueError(f"invalid header value Bearer {KEY} for {customer} {name}")

"""Connections over HTTP: no response contains a key."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

import pytest

from shared.connections.endpoint_url import encode_segment
from tests.support.endpoint import completion, reply
from tests.support.harness import Customer
from tests.support.http_client import send
from tests.support.http_connections import call, put, run_test
from tests.support.log_texts import log_texts as texts

KEY = "MARKED-0123456789abcdef-KEY"


QUOTED = {"error": {"code": "x", "message": f"You sent {KEY}."}}


@pytest.mark.parametrize(
    ("key", "members"),
    [
        (KEY, {"endpoint": f"https://api.openai.com/v1#{KEY}", "default_model": KEY, "organization": f"org-{KEY}"}),
        (KEY, {"endpoint": f"https://{KEY}.openai.azure.com/openai/v1"}),
        *(
            (key, {"endpoint": f"https://r.openai.azure.com/openai/deployments/{quote(key, safe='')}"})
            for key in ("Ab+CdEf0123456789==", "Ab+Cd:Ef0123456789==")
        ),
    ],
)
async def test_a_key_in_a_wrong_member_is_not_shown(newcomer: Customer, key: str, members: dict[str, str]):
    """Neither in a name, nor as a host, which is lower case, nor as a deployment, however it is encoded."""
    record = {"api_key": key, "default_model": "m"} | members
    responses = [await call(newcomer, "PUT", json_body=record), await call(newcomer, "GET")]

    assert [201, 200] == [response.status for response in responses]
    assert all(b"***" in response.body for response in responses)
    assert responses[1].json["settings"]["default_model"] in {"m", "***"}
    spellings = {key.lower(), quote(key, safe="").lower(), encode_segment(key).lower()}
    assert [] == [response for response in responses for text in spellings if text in response.body.decode().lower()]


async def test_a_test_does_not_show_a_key_that_is_the_host(newcomer: Customer):
    """The message about a host that can't be reached names it, and so it would contain the key."""
    key = "MARKED0123456789KEY"
    await put(newcomer, api_key=key, endpoint=f"https://{key}.openai.azure.com/openai/v1", default_model=key)
    outcome = await run_test(newcomer)

    assert ("provider_unavailable", None, "***") == (outcome["code"], outcome.get("status"), outcome["model"])
    assert key.lower() not in json.dumps(outcome).lower()


@pytest.mark.parametrize(
    "answer",
    [
        *(reply(QUOTED, status=status) for status in (400, 401)),
        *(pytest.param(reply(QUOTED, status=status), marks=pytest.mark.long) for status in (403, 404, 429, 500)),
        completion(f"It is {KEY}"),
    ],
)
async def test_the_key_is_in_no_response_row_or_log(
    newcomer: Customer, caplog: pytest.LogCaptureFixture, capfd: Any, answer: Any
):
    """Whatever the endpoint quotes, no response, table row, log line or output contains the key."""
    caplog.set_level(logging.DEBUG)
    newcomer.harness.endpoint.accounts[KEY] = newcomer.account
    newcomer.account.will_answer(answer)
    responses = [
        await put(newcomer, api_key=KEY),
        await call(newcomer, "GET"),
        await send(newcomer.harness, "GET", f"customers/{newcomer.name}/connections"),
        await call(newcomer, "POST", action="/test"),
        await put(newcomer, api_key=KEY, provider="openai", endpoint="https://evil.example"),
        await call(newcomer, "DELETE"),
    ]

    assert newcomer.account.received
    leaks = {
        "responses": "\n".join(f"{response.body.decode()} {response.headers}" for response in responses),
        "rows": repr(await newcomer.rows()),
        "log": "\n".join(texts(caplog)),
        "output": "".join(capfd.readouterr()),
    }
    assert [] == [name for name, text in leaks.items() if KEY in text]

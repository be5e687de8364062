"""Connections over HTTP: no response contains a key, and only the right token reaches a connection."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from shared.connections.endpoint_url import encode_segment
from tests.support.endpoint import completion, reply
from tests.support.harness import Customer, Harness
from tests.support.http_client import send
from tests.support.http_connections import call, members, put, run_test
from tests.support.log_texts import log_texts as texts

KEY = "MARKED-0123456789abcdef-KEY"


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer that is not onboarded yet."""
    return harness.customer(connection=None)


QUOTED = {"error": {"code": "x", "message": f"You sent {KEY}."}}


def principal(*roles: str, customer: str = "") -> dict[str, str]:
    """The header of App Service authentication with these claims."""
    claims = [{"typ": "roles", "val": role} for role in roles]
    claims += [{"typ": "customer", "val": customer}] if customer else []
    return {"x-ms-client-principal": base64.b64encode(json.dumps({"claims": claims}).encode()).decode()}


async def test_a_key_in_a_wrong_member_is_not_shown(customer: Customer):
    """Whichever member repeats the key, no response contains it."""
    record = members(customer, api_key=KEY, default_model=KEY, organization=f"org-{KEY}")
    record["endpoint"] += f"#{KEY}"
    responses = [await call(customer, "PUT", json_body=record), await call(customer, "GET")]

    assert "***" == responses[1].json["settings"]["default_model"]
    assert [] == [response.body for response in responses if KEY.encode() in response.body]


@pytest.mark.parametrize(
    ("key", "address"),
    [
        (KEY, f"https://{KEY}.openai.azure.com/openai/v1"),
        ("Ab+CdEf0123456789==", "https://r.openai.azure.com/openai/deployments/Ab%2BCdEf0123456789%3D%3D"),
        ("Ab+Cd:Ef0123456789==", "https://r.openai.azure.com/openai/deployments/Ab%2BCd%3AEf0123456789%3D%3D"),
    ],
)
async def test_a_key_in_the_endpoint_is_not_shown(customer: Customer, key: str, address: str):
    """Neither as a host, which is lower case, nor as a deployment, however it is encoded."""
    record = {"api_key": key, "endpoint": address, "default_model": "m"}
    responses = [await call(customer, "PUT", json_body=record), await call(customer, "GET")]

    assert [201, 200] == [response.status for response in responses]
    assert all(b"***" in response.body for response in responses)
    spellings = {key.lower(), quote(key, safe="").lower(), encode_segment(key).lower()}
    assert [] == [response for response in responses for text in spellings if text in response.body.decode().lower()]


async def test_a_test_does_not_show_a_key_that_is_the_host(customer: Customer):
    """The message about a host that can't be reached names it, and so it would contain the key."""
    key = "MARKED0123456789KEY"
    await put(customer, api_key=key, endpoint=f"https://{key}.openai.azure.com/openai/v1", default_model=key)
    outcome = await run_test(customer)

    assert ("provider_unavailable", None, "***") == (outcome["code"], outcome.get("status"), outcome["model"])
    assert key.lower() not in json.dumps(outcome).lower()


@pytest.mark.parametrize(
    "answer", [reply(QUOTED, status=status) for status in (400, 401, 403, 404, 429, 500)] + [completion(f"It is {KEY}")]
)
async def test_the_key_is_in_no_response_row_or_log(
    customer: Customer, caplog: pytest.LogCaptureFixture, capfd: Any, answer: Any
):
    """Whatever the endpoint quotes, no response, table row, log line or output contains the key."""
    caplog.set_level(logging.DEBUG)
    customer.harness.endpoint.accounts[KEY] = customer.account
    customer.account.will_answer(answer)
    responses = [
        await put(customer, api_key=KEY),
        await call(customer, "GET"),
        await send(customer.harness, "GET", f"customers/{customer.name}/connections"),
        await call(customer, "POST", action="/test"),
        await put(customer, api_key=KEY, provider="openai", endpoint="https://evil.example"),
        await call(customer, "DELETE"),
    ]

    assert customer.account.received
    leaks = {
        "responses": "\n".join(f"{response.body.decode()} {response.headers}" for response in responses),
        "rows": repr(await customer.rows()),
        "log": "\n".join(texts(caplog)),
        "output": "".join(capfd.readouterr()),
    }
    assert [] == [name for name, text in leaks.items() if KEY in text]


async def test_a_token_needs_the_role_and_its_own_customer(customer: Customer):
    """403 without Connections.Write; another customer's connections can neither be read nor changed."""
    harness = customer.harness
    app = harness.services.http
    settings = replace(app.settings, http_auth="entra", website_auth_enabled=True)
    object.__setattr__(harness.services, "http", replace(app, settings=settings))
    routes = [("PUT", ""), ("GET", ""), ("DELETE", ""), ("POST", "/test")]
    body = {"api_key": KEY, "endpoint": "https://r.openai.azure.com"}

    async def statuses(headers: dict[str, str]) -> list[int]:
        responses = [
            await call(customer, method, action=action, headers=headers, json_body=body if method == "PUT" else {})
            for method, action in routes
        ]
        responses.append(await send(harness, "GET", f"customers/{customer.name}/connections", headers=headers))
        return [response.status for response in responses]

    try:
        roleless = await statuses(principal("Jobs.Submit", "Billing.Read"))
        foreign = await statuses(principal("Connections.Write", customer="another"))
        assert 404 == (await call(customer, "GET", headers=principal("Connections.Write"))).status
        own = await statuses(principal("Connections.Write", customer=customer.name))
    finally:
        del harness.services.__dict__["http"]

    assert [403] * 5 == roleless
    assert [403, 404, 403, 403, 404] == foreign
    assert [201, 200, 204, 404, 200] == own

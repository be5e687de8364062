"""Testing a connection over HTTP: one cheap call to the endpoint that records it."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from shared.billing.usage_records import counted
from shared.connections import probe
from shared.errors import StorageUnavailable
from shared.upstream.client import UpstreamClient
from tests.support.endpoint import completion, error, reply, reset
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Customer, Harness
from tests.support.http_connections import call, members, put, resource, run_test

KEY = "MARKED-0123456789abcdef-KEY"


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer that is not onboarded yet."""
    return harness.customer(connection=None)


OUTCOMES = {
    "fine": (completion(), None, None, "answers as gpt-4o", "answered"),
    "an unfit model": (error(400, "OperationNotSupported"), None, 400, "refused the test chat", None),
    "a filtered prompt": (error(400, "content_filter"), None, 400, "refused the test chat", None),
    "no chat model at OpenAI": (
        reply({"error": {"message": "Not a chat model.", "param": "model", "code": None}}, status=404),
        None,
        404,
        "refused the test chat",
        None,
    ),
    "a refused key": (error(401), "credential_rejected", 401, "", None),
    "a key without the right": (error(403), "credential_rejected", 403, "", None),
    "a firewall": (error(403, "403", "Access denied: firewall rules."), "credential_rejected", 403, "network", None),
    "no deployment": (error(404, "DeploymentNotFound"), "model_not_found", 404, "", None),
    "another path": (error(404), "request_rejected", 404, "", None),
    "a redirect": (error(302), "request_rejected", 302, "", None),
    "a web page": (reply(b"<html></html>"), "provider_unavailable", 200, "not with a chat completion", "answered"),
    "another service": (
        reply({"hello": "world"}),
        "provider_unavailable",
        200,
        "not with a chat completion",
        "answered",
    ),
    "no quota": (error(429, "insufficient_quota"), "quota_exhausted", 429, "", None),
    "a limit": (error(429, retry_after="600"), "rate_limited", 429, "", None),
    "a block": (error(403, "AccountBlocked"), "account_blocked", 403, "", None),
    "a failure": (error(500), "provider_unavailable", 500, "", None),
    "a break": (reset, "provider_unavailable", None, "", "unanswered"),
    "silence": (completion(after_s=30), "timeout", None, "", "unanswered"),
}


async def test_a_response_of_millions_of_lists_is_not_read(customer: Customer):
    """It would take twenty times its size; the call is recorded."""
    await put(customer)
    customer.account.will_answer(reply(b'{"choices": [' + b"[]," * 2_000_000 + b"[]]}"))
    result = await run_test(customer)

    assert ("provider_unavailable", 200) == (result["code"], result["status"])
    assert 1 == len(await customer.usage())


@pytest.mark.parametrize(("answer", "code", "status", "message", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_a_test_reports_what_a_job_would_end_with(
    customer: Customer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    code: str | None,
    status: int | None,
    message: str,
    outcome: str | None,
):
    """It makes one call, without a retry, and reports the contract's code; what may be billed is recorded."""
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 1.5 if code == "timeout" else 60)
    await put(customer)
    customer.account.will_answer(answer)
    result = await run_test(customer)

    assert (code, status) == (result.get("code"), result.get("status"))
    assert message in result["message"]
    assert ("azure_openai", "gpt-4o") == (result["provider"], result["model"])
    assert 0 <= result["latency_ms"] < 60_000
    (received,) = customer.account.received
    assert ("/openai/v1/chat/completions", 1) == (received.path, received.json["max_tokens"])
    assert ([] if outcome is None else [outcome]) == [row["outcome"] for row in await customer.usage()]


async def test_a_test_is_recorded(customer: Customer):
    """Its record has the provider's tokens, the connection and an id of its own; each test is a record."""
    await put(customer)
    customer.account.will_answer(completion(usage={"prompt_tokens": 8, "completion_tokens": 1}), completion())
    await run_test(customer)
    await run_test(customer, model="gpt-5")
    first, second = sorted(await customer.usage(), key=lambda row: row["model"])

    named = {"action": "chat", "connection": "default", "billed_to": "customer", "outcome": "answered"}
    counted = {"calls": 1, "input_tokens": 8, "output_tokens": 1, "reported": True}
    assert (named | counted).items() <= first.items()
    assert ("gpt-4o", "gpt-5") == (first["model"], second["model"])
    assert first["job_id"].startswith("connection-test-")
    assert first["job_id"] != second["job_id"]
    assert ("req-1", "gpt-4o-2024-08-06") == (first["request_id"], first["answered_by"])


async def test_a_test_that_can_not_be_recorded_is_not_made(customer: Customer):
    """Storage is written before the endpoint is called: if it is down, nothing is sent."""
    await put(customer)
    own = replace(resource(customer.harness).probe, table=MemoryTable(down=True))
    connection = await customer.harness.services.connections.resolve(customer.name, "default")

    with pytest.raises(StorageUnavailable):
        await own.run(connection, None)
    assert [] == customer.account.received


@pytest.mark.parametrize("faults", [[Fault.TWICE], [None, Fault.TWICE], [None, Fault.LOST], [None, Fault.REFUSED]])
async def test_a_test_has_one_record_whatever_storage_does(customer: Customer, faults: list[Fault | None]):
    """If a response of Storage is lost, or the second write is refused, one record counts all the same."""
    await put(customer)
    table = MemoryTable(faults=deque(faults))
    own = replace(resource(customer.harness).probe, table=table)
    connection = await customer.harness.services.connections.resolve(customer.name, "default")
    with contextlib.suppress(StorageUnavailable):
        assert (await own.run(connection, None)).ok

    (row,) = counted(row for _, row in sorted(table.rows.items()))
    assert ("unanswered" if Fault.REFUSED in faults else "answered") == row.values["outcome"]


async def test_a_reasoning_model_gets_its_own_parameter(customer: Customer):
    """`max_tokens`, refused by name, becomes `max_completion_tokens`; later tests and jobs use that at once."""
    await put(customer, default_model=f"o-{customer.name}")
    refusal = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
    customer.account.will_answer(reply({"error": refusal}, status=400))
    first, second = await run_test(customer), await run_test(customer)
    job = await customer.run(input={"prompt": "Hello?", "parameters": {"max_tokens": 1}})

    assert (True, True, "succeeded") == (first["ok"], second["ok"], job["status"])
    bodies = [request.json for request in customer.account.received]
    assert [1, None, None, None] == [body.get("max_tokens") for body in bodies]
    assert [None, 1, 1, 1] == [body.get("max_completion_tokens") for body in bodies]
    assert 3 == len(await customer.usage())


async def test_without_a_model_the_list_of_models_is_requested(customer: Customer):
    """It costs nothing and leaves no record; a rejected key is reported all the same."""
    await call(customer, "PUT", json_body={k: v for k, v in members(customer).items() if k != "default_model"})
    customer.account.will_answer(reply({"object": "list", "data": []}), error(401), reply({"no": "list"}))
    results = [await run_test(customer) for _ in range(3)]

    assert [None, "credential_rejected", "provider_unavailable"] == [result.get("code") for result in results]
    assert "model" not in results[0]
    assert {("GET", "/openai/v1/models")} == {(request.method, request.path) for request in customer.account.received}
    assert [] == await customer.usage()


async def test_a_model_is_needed_if_there_is_no_list(customer: Customer):
    """Foundry's older route can only be tested with a model: 400 says so."""
    endpoint = f"{customer.harness.endpoint.url}/models"
    await call(
        customer,
        "PUT",
        json_body={"endpoint": endpoint, "provider": "foundry", "api_key": customer.account.key},
    )
    refused = await call(customer, "POST", action="/test")

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert "`model` is missing" in refused.json["detail"]
    assert (await run_test(customer, model="phi"))["ok"]


async def test_the_endpoints_deployment_is_tested(customer: Customer):
    """The deployment in the endpoint is called, and another one is refused."""
    url = f"{customer.harness.endpoint.url}/openai/deployments/own/chat/completions?api-version=2024-10-21"
    await put(customer, endpoint=url)
    result = await run_test(customer)
    refused = await call(customer, "POST", action="/test", json_body={"model": "another"})

    assert (True, "own") == (result["ok"], result["model"])
    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert "`model` must be own" in refused.json["detail"]
    (received,) = customer.account.received
    assert "/openai/deployments/own/chat/completions" == received.path


async def test_an_address_that_is_not_allowed_is_reported(customer: Customer):
    """An allowed name that resolves to a forbidden address is refused when connecting; no record stays."""
    await put(customer)
    connection = await customer.harness.services.connections.resolve(customer.name, "default")
    client = UpstreamClient(customer.harness.services.identity, allow_local=False)
    try:
        result = await replace(resource(customer.harness).probe, client=client).run(connection, None)
    finally:
        await client.close()

    assert "connection_invalid" == result.code
    assert "not allowed" in result.message
    assert [] == customer.account.received
    assert [] == await customer.usage()


@pytest.mark.parametrize("body", [b"[]", b'{"modle": "x"}', b'{"model": 1}', b"{", b"\xff"])
async def test_an_invalid_body_is_refused(customer: Customer, body: bytes):
    """400; an empty body is fine, unless the host has dropped one in chunks."""
    await put(customer)
    refused = await call(customer, "POST", action="/test", body=body)
    plain = await call(customer, "POST", action="/test")

    chunked = await call(customer, "POST", action="/test", headers={"transfer-encoding": "chunked"})

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert "The job" not in refused.json["detail"]
    assert 200 == plain.status
    assert (400, True) == (chunked.status, "Content-Length" in chunked.json["detail"])


@pytest.mark.parametrize("model", ["", " \t", "x" * 201, "x" * 40_000])
async def test_the_model_is_checked_like_a_jobs(customer: Customer, model: str):
    """A model that no job could name is refused; nothing is sent or recorded."""
    await put(customer)
    refused = await call(customer, "POST", action="/test", json_body={"model": model})

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert refused.json["detail"].startswith("`model` must be")
    assert ([], []) == (customer.account.received, await customer.usage())


async def test_a_missing_connection_is_not_found(customer: Customer):
    """404."""
    assert 404 == (await call(customer, "POST", action="/test")).status

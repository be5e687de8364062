"""Testing a connection over HTTP: one cheap call to the endpoint that records it."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from shared.billing.outbox import Outbox
from shared.connections import probe
from shared.contract.documents import ConnectionTest
from shared.errors import StorageUnavailable
from tests.support.clients import open_client
from tests.support.counted_records import counted
from tests.support.endpoint import claude_error, claude_message, completion, error, reply, reset
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Customer
from tests.support.http_connections import call, members, put, resource, run_test

NO_CHAT_MODEL = {"error": {"message": "Not a chat model.", "param": "model", "code": None}}
LISTS = b'{"choices": [' + b"[]," * 2_000_000 + b"[]]}"
OUTCOMES = {
    "fine": (completion(), None, None, "answers as gpt-4o", "answered"),
    "an unfit model": (error(400, "OperationNotSupported"), None, 400, "refused the test chat", None),
    "a filtered prompt": (error(400, "content_filter"), None, 400, "refused the test chat", "unanswered"),
    "no chat model at OpenAI": (reply(NO_CHAT_MODEL, status=404), None, 404, "refused the test chat", None),
    "a refused key": (error(401), "credential_rejected", 401, "", None),
    "a key without the right": (error(403), "credential_rejected", 403, "", None),
    "a firewall": (error(403, "403", "Access denied: firewall rules."), "credential_rejected", 403, "network", None),
    "no deployment": (error(404, "DeploymentNotFound"), "model_not_found", 404, "", None),
    "another path": (error(404), "request_rejected", 404, "", None),
    "a redirect": (error(302), "request_rejected", 302, "", None),
    "a web page": (reply(b"<html></html>"), "provider_unavailable", 200, "not with a chat completion", "unanswered"),
    "another service": (reply({"a": 1}), "provider_unavailable", 200, "not with a chat completion", "answered"),
    "millions of lists": (reply(LISTS), "provider_unavailable", 200, "not with a chat completion", "unanswered"),
    "no quota": (error(429, "insufficient_quota"), "quota_exhausted", 429, "", None),
    "a limit": (error(429, retry_after="600"), "rate_limited", 429, "", None),
    "a block": (error(403, "AccountBlocked"), "account_blocked", 403, "", None),
    "a failure": (error(500), "provider_unavailable", 500, "", None),
    "a break": (reset, "provider_unavailable", None, "", "unanswered"),
    "silence": (completion(after_s=30), "timeout", None, "", "unanswered"),
}


@pytest.mark.parametrize(("answer", "code", "status", "message", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_a_test_reports_what_a_job_would_end_with(
    newcomer: Customer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    code: str | None,
    status: int | None,
    message: str,
    outcome: str | None,
):
    """It makes one call, without a retry, and reports the contract's code; what may be billed is recorded."""
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 1.5 if code == "timeout" else 60)
    await put(newcomer)
    newcomer.account.will_answer(answer)
    result = await run_test(newcomer)

    assert (code, status) == (result.get("code"), result.get("status"))
    assert message in result["message"]
    assert ("azure_openai", "gpt-4o") == (result["provider"], result["model"])
    assert 0 <= result["latency_ms"] < 60_000
    (received,) = newcomer.account.received
    assert ("/openai/v1/chat/completions", 1) == (received.path, received.json["max_tokens"])
    assert ([] if outcome is None else [outcome]) == [row["outcome"] for row in await newcomer.usage()]


async def test_a_test_is_recorded(newcomer: Customer):
    """Its record has the provider's tokens, the connection and an id of its own; each test is a record."""
    await put(newcomer)
    newcomer.account.will_answer(completion(usage={"prompt_tokens": 8, "completion_tokens": 1}), completion())
    await run_test(newcomer)
    await run_test(newcomer, model="gpt-5")
    first, second = sorted(await newcomer.usage(), key=lambda row: row["model"])

    named = {"action": "chat", "connection": "default", "billed_to": "customer", "outcome": "answered"}
    counted = {"calls": 1, "input_tokens": 8, "output_tokens": 1, "reported": True}
    assert (named | counted).items() <= first.items()
    assert ("gpt-4o", "gpt-5") == (first["model"], second["model"])
    assert first["job_id"].startswith("connection-test-")
    assert first["job_id"] != second["job_id"]
    assert ("req-1", "gpt-4o-2024-08-06") == (first["request_id"], first["answered_by"])


async def run_probe(customer: Customer, **parts: Any) -> ConnectionTest:
    """The outcome of testing a new connection, with other parts of the probe."""
    await put(customer)
    connection = await customer.harness.services.connections.resolve(customer.name, "default")
    return await replace(resource(customer.harness).probe, **parts).run(connection, None)


async def test_a_test_that_can_not_be_recorded_is_not_made(newcomer: Customer):
    """Storage is written before the endpoint is called: if it is down, nothing is sent."""
    with pytest.raises(StorageUnavailable):
        await run_probe(newcomer, outbox=Outbox(MemoryTable(down=True)))
    assert [] == newcomer.account.received


@pytest.mark.parametrize("faults", [[Fault.TWICE], [None, Fault.TWICE], [None, Fault.LOST], [None, Fault.REFUSED]])
async def test_a_test_has_one_record_whatever_storage_does(newcomer: Customer, faults: list[Fault | None]):
    """If a response of Storage is lost, or the second write is refused, one record counts all the same."""
    table = MemoryTable(faults=deque(faults))
    with contextlib.suppress(StorageUnavailable):
        assert (await run_probe(newcomer, outbox=Outbox(table))).ok

    (row,) = counted(row for _, row in sorted(table.rows.items()))
    assert ("unanswered" if Fault.REFUSED in faults else "answered") == row.values["outcome"]


async def test_a_reasoning_model_gets_its_own_parameter(newcomer: Customer):
    """`max_tokens`, refused by name, becomes `max_completion_tokens`; later tests and jobs use that at once."""
    await put(newcomer, default_model=f"o-{newcomer.name}")
    refusal = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
    newcomer.account.will_answer(reply({"error": refusal}, status=400))
    first, second = await run_test(newcomer), await run_test(newcomer)
    job = await newcomer.run(input={"prompt": "Hello?", "parameters": {"max_tokens": 1}})

    assert (True, True, "succeeded") == (first["ok"], second["ok"], job["status"])
    bodies = [request.json for request in newcomer.account.received]
    assert [1, None, None, None] == [body.get("max_tokens") for body in bodies]
    assert [None, 1, 1, 1] == [body.get("max_completion_tokens") for body in bodies]
    assert 3 == len(await newcomer.usage())


async def test_without_a_model_the_list_of_models_is_requested(newcomer: Customer):
    """It costs nothing and leaves no record; a rejected key is reported all the same."""
    await call(newcomer, "PUT", json_body={k: v for k, v in members(newcomer).items() if k != "default_model"})
    newcomer.account.will_answer(reply({"object": "list", "data": []}), error(401), reply({"no": "list"}))
    results = [await run_test(newcomer) for _ in range(3)]

    assert [None, "credential_rejected", "provider_unavailable"] == [result.get("code") for result in results]
    assert "model" not in results[0]
    assert {("GET", "/openai/v1/models")} == {(request.method, request.path) for request in newcomer.account.received}
    assert [] == await newcomer.usage()


async def test_a_model_is_needed_if_there_is_no_list(newcomer: Customer):
    """Foundry's older route can only be tested with a model: 400 says so."""
    endpoint = f"{newcomer.harness.endpoint.url}/models"
    record = {"endpoint": endpoint, "provider": "foundry", "api_key": newcomer.account.key}
    await call(newcomer, "PUT", json_body=record)
    refused = await call(newcomer, "POST", action="/test")

    refused.assert_problem(400, "invalid_request", "`model` is missing")
    assert (await run_test(newcomer, model="phi"))["ok"]


async def test_claude_is_tested_in_its_own_words(newcomer: Customer):
    """One token, by its own operation and key header; in Foundry a model is needed. The record has its counts."""
    endpoint = f"{newcomer.harness.endpoint.url}/anthropic"
    record = {"endpoint": endpoint, "provider": "anthropic", "api_key": newcomer.account.key}
    await call(newcomer, "PUT", json_body=record)
    refused = await call(newcomer, "POST", action="/test")
    newcomer.account.will_answer(
        claude_message(stop_reason="max_tokens"),
        claude_error(404, "not_found_error", "model: phi"),
        completion(),
        claude_error(529, "overloaded_error"),
    )
    results = [await run_test(newcomer, model=model) for model in ("claude", "phi", "gpt", "claude")]

    refused.assert_problem(400, "invalid_request", "`model` is missing")
    codes = [None, "model_not_found", "provider_unavailable", "provider_unavailable"]
    assert codes == [result.get("code") for result in results]
    assert ("anthropic", "claude", True) == (results[0]["provider"], results[0]["model"], results[0]["ok"])
    assert "not with a chat completion" in results[2]["message"]
    assert [("/anthropic/v1/messages", 1, newcomer.account.key)] * 4 == [
        (request.path, request.json["max_tokens"], request.headers["x-api-key"])
        for request in newcomer.account.received
    ]
    assert [("answered", 11, 7), ("answered", 11, 7)] == [
        (row["outcome"], row["input_tokens"], row["output_tokens"]) for row in await newcomer.usage()
    ]


async def test_anthropics_models_are_listed(newcomer: Customer):
    """Without a model, its own API is asked for its list, which costs nothing."""
    record = {"endpoint": f"{newcomer.harness.endpoint.url}/v1", "provider": "anthropic"}
    await call(newcomer, "PUT", json_body=record | {"api_key": newcomer.account.key})
    newcomer.account.will_answer(reply({"data": [{"type": "model", "id": "claude"}], "has_more": False}))

    assert (await run_test(newcomer))["ok"]
    (received,) = newcomer.account.received
    assert ("GET", "/v1/models", "2023-06-01") == (
        received.method,
        received.path,
        received.headers["anthropic-version"],
    )


async def test_the_endpoints_deployment_is_tested(newcomer: Customer):
    """The deployment in the endpoint is called, and another one is refused."""
    url = f"{newcomer.harness.endpoint.url}/openai/deployments/own/chat/completions?api-version=2024-10-21"
    await put(newcomer, endpoint=url)
    result = await run_test(newcomer)
    refused = await call(newcomer, "POST", action="/test", json_body={"model": "another"})

    assert (True, "own") == (result["ok"], result["model"])
    refused.assert_problem(400, "invalid_request", "`model` must be own")
    (received,) = newcomer.account.received
    assert "/openai/deployments/own/chat/completions" == received.path


async def test_an_address_that_is_not_allowed_is_reported(newcomer: Customer):
    """An allowed name that resolves to a forbidden address is refused when connecting; no record stays."""
    async with open_client(allow_local=False) as client:
        result = await run_probe(newcomer, client=client)

    assert "connection_invalid" == result.code
    assert "not allowed" in result.message
    assert [] == newcomer.account.received
    assert [] == await newcomer.usage()


MODELS = [json.dumps({"model": model}).encode() for model in ("", " \t", "x" * 201, "x" * 40_000)]


@pytest.mark.parametrize("body", [b"[]", b'{"modle": "x"}', b'{"model": 1}', b"{", b"\xff", *MODELS], ids=range(9))
async def test_an_invalid_body_is_refused(newcomer: Customer, body: bytes):
    """400, also for a model that no job could name; nothing is sent or recorded."""
    await put(newcomer)
    refused = await call(newcomer, "POST", action="/test", body=body)

    refused.assert_problem(400, "invalid_request", "`model` must be" if body in MODELS else "")
    assert "The job" not in refused.json["detail"]
    assert ([], []) == (newcomer.account.received, await newcomer.usage())


async def test_an_empty_body_is_valid(newcomer: Customer):
    """Unless the host has dropped one in chunks; and the connection has to exist."""
    missing = await call(newcomer, "POST", action="/test")
    await put(newcomer)
    plain = await call(newcomer, "POST", action="/test")
    chunked = await call(newcomer, "POST", action="/test", headers={"transfer-encoding": "chunked"})

    assert (404, 200, 400) == (missing.status, plain.status, chunked.status)
    assert "Content-Length" in chunked.json["detail"]

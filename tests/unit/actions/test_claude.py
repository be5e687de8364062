"""Jobs on a connection to Claude, over real HTTP: the same output as elsewhere, and the whole error table."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.actions.base import _ACTIONS
from shared.actions.claude import DEFAULT_LIMIT
from shared.clock import now
from shared.contract.budget import Budget
from shared.contract.job import Options
from shared.errors import InvalidJob
from tests.support.customers import Customer
from tests.support.endpoint import Received, claude_error, claude_message, completion, reply
from tests.support.rows import every_row
from tests.support.workers import Worker

TOO_MANY = "max_tokens: {} > 4096, which is the maximum allowed number of output tokens for claude-3-haiku-20240307"


def claude(worker: Worker, **more: Any) -> Customer:
    """Return a customer of Claude's."""
    customer = worker.customer(connection=None)
    endpoint = f"{customer.account.base}/anthropic"
    worker.connect(customer, endpoint=endpoint, provider="anthropic", default_model="claude-sonnet-4-5", **more)
    return customer


def chat(**parameters: Any) -> dict[str, Any]:
    """Return the members of a chat job with these parameters."""
    return {"input": {"prompt": "Hello?", "system": "Be brief.", "parameters": parameters}}


def last(customer: Customer) -> Received:
    """Return the last request that the endpoint got."""
    return customer.account.received[-1]


async def test_a_chat_has_claudes_request_and_openais_output(worker: Worker):
    """Address, headers, the key's own header, and a stated limit; the result has the usual shape."""
    customer = claude(worker)

    result = await worker.run(customer, **chat())

    request = last(customer)
    assert ("POST", "/anthropic/v1/messages", {}) == (request.method, request.path, request.query)
    assert (customer.account.key, "2023-06-01") == (
        request.headers["x-api-key"],
        request.headers["anthropic-version"],
    )
    assert not {"api-key", "authorization"} & request.headers.keys()
    text = {"type": "text"}
    assert {
        "model": "claude-sonnet-4-5",
        "max_tokens": DEFAULT_LIMIT,
        "system": [text | {"text": "Be brief."}],
        "messages": [{"role": "user", "content": [text | {"text": "Hello?"}]}],
    } == request.json
    assert ("succeeded", "Hello.", "stop") == (
        result["status"],
        result["output"]["text"],
        result["output"]["finish_reason"],
    )
    assert "adapted" not in result["output"]
    assert ("anthropic", "default") == (result["connection"]["provider"], result["connection"]["name"])
    assert (11, 7, "standard") == tuple(
        result["usage"][name] for name in ("input_tokens", "output_tokens", "service_tier")
    )
    (row,) = worker.usage(customer)
    assert ("req_1", "claude-sonnet-4-5-20250929") == (row["request_id"], row["answered_by"])


@every_row(
    ("parameters", "limit"),
    [
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 8}, 8),
        ({"max_tokens": None}, DEFAULT_LIMIT),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, DEFAULT_LIMIT + 2000),
    ],
)
async def test_limit_of_an_answer(worker: Worker, parameters: dict[str, Any], limit: int):
    """The job's own; else the default, to which thinking adds its budget, since it counts toward the limit."""
    customer = claude(worker)

    await worker.run(customer, **chat(**parameters))

    assert limit == last(customer).json["max_tokens"]


async def test_a_models_lower_limit_is_learned(worker: Worker):
    """The default is lowered to what the refusal names, at once for the next job; a job's own limit is not."""
    customer = claude(worker)
    customer.account.will_answer(claude_error(400, "invalid_request_error", TOO_MANY.format(DEFAULT_LIMIT)))

    first = await worker.run(customer, **chat())
    second = await worker.run(customer, **chat())
    customer.account.will_answer(claude_error(400, "invalid_request_error", TOO_MANY.format(9000)))
    own = await worker.run(customer, **chat(max_tokens=9000))

    sent = [request.json["max_tokens"] for request in customer.account.received]
    assert [DEFAULT_LIMIT, 4096, 4096, 9000] == sent
    assert ["succeeded", "succeeded", "failed"] == [result["status"] for result in (first, second, own)]
    assert "request_rejected" == own["error"]["code"]
    assert 2 == len(worker.usage(customer))


async def test_a_budget_lowers_the_default_limit(worker: Worker):
    """Where a budget covers less than the default, that is sent."""
    customer, budget = claude(worker), Budget(limit=Decimal(1000), unit="tokens", period="month")
    records = worker.services.customer_records
    await records.change(
        customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )

    result = await worker.run(customer, **chat())

    assert "succeeded" == result["status"]
    assert 256 <= last(customer).json["max_tokens"] < 1000


async def test_a_budget_leaves_room_for_thinking(worker: Worker):
    """Its limit is beyond what the model may think with: Claude takes none below that."""
    customer, thinking = claude(worker), {"type": "enabled", "budget_tokens": 20_000}
    for limit in (100_000, 25_000):
        budget = Budget(limit=Decimal(limit), unit="tokens", period="month")
        await worker.services.customer_records.change(
            customer.name, lambda record, of=budget: record.with_budgets({"main": of}), by="ann", subject="budgets"
        )
        await worker.run(customer, **chat(thinking=thinking))

    first, second = [request.json["max_tokens"] for request in customer.account.received]
    assert 20_000 + DEFAULT_LIMIT == first
    assert 20_256 <= second < 25_000


REFUSED_PARAMETERS = {
    "`temperature` is deprecated for this model.": "temperature",
    "`temperature` and `top_p` cannot both be specified for this model. Please use only one.": "top_p",
    "`temperature` may only be set to 1 when thinking is enabled.": "temperature",
    "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.": "top_p",
    "`top_k` must be unset when thinking is enabled.": "top_k",
    "top_k: Extra inputs are not permitted": "top_k",
}


@every_row("message", REFUSED_PARAMETERS)
async def test_sampling_that_a_model_refuses_is_left_out_once(worker: Worker, message: str):
    """As with OpenAI's reasoning models: told, learned, and not for strict jobs."""
    customer, refusal = claude(worker), claude_error(400, "invalid_request_error", message)
    sampling = {"temperature": 0.5, "top_p": 0.5, "top_k": 5}
    name = REFUSED_PARAMETERS[message]
    customer.account.will_answer(refusal)

    first = await worker.run(customer, **chat(**sampling))
    second = await worker.run(customer, **chat(**sampling))
    customer.account.will_answer(refusal)
    strict = await worker.run(customer, **chat(**sampling), options={"strict": True})

    assert [[f"{name} was left out"]] * 2 == [result["output"]["adapted"] for result in (first, second)]
    assert [sampling.keys(), sampling.keys() - {name}, sampling.keys() - {name}, sampling.keys()] == [
        sampling.keys() & request.json.keys() for request in customer.account.received
    ]
    assert ("failed", "request_rejected") == (strict["status"], strict["error"]["code"])


async def test_a_strict_job_is_not_sent_with_less(worker: Worker):
    """What Claude has no word for is a refusal of ours then."""
    customer = claude(worker)

    strict = await worker.run(customer, **chat(seed=1), options={"strict": True})
    usual = await worker.run(customer, **chat(seed=1))

    assert ("invalid_job", []) == (strict["error"]["code"], customer.account.received[1:])
    assert "seed was left out" in strict["error"]["message"]
    assert ["seed was left out"] == usual["output"]["adapted"]


TABLE: list[tuple[int, str, str, str, bool]] = [
    (400, "invalid_request_error", "messages: at least one message is required", "request_rejected", False),
    (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API.",
        "quota_exhausted",
        False,
    ),
    (400, "invalid_request_error", "You have reached your specified API usage limits.", "quota_exhausted", False),
    (400, "invalid_request_error", "This organization has been disabled.", "account_blocked", False),
    (400, "invalid_request_error", "Output blocked by content filtering policy", "content_filtered", False),
    (401, "authentication_error", "invalid x-api-key", "credential_rejected", False),
    (402, "billing_error", "Check your payment details.", "quota_exhausted", False),
    (403, "permission_error", "Your API key does not have permission.", "credential_rejected", False),
    (404, "not_found_error", "model: claude-9", "model_not_found", False),
    (404, "not_found_error", "Not Found", "request_rejected", False),
    (409, "conflict_error", "Try again.", "request_rejected", True),
    (413, "request_too_large", "Request exceeds the maximum size", "request_rejected", False),
    (429, "rate_limit_error", "This request would exceed your rate limit.", "rate_limited", True),
    (500, "api_error", "Internal server error", "provider_unavailable", True),
    (504, "timeout_error", "Request timed out", "provider_unavailable", True),
    (529, "overloaded_error", "Overloaded", "provider_unavailable", True),
]


@every_row(("status", "kind", "message", "code", "is_retried"), TABLE)
async def test_error_table(worker: Worker, status: int, kind: str, message: str, code: str, is_retried: bool):
    """Each of Anthropic's errors has the contract's code, status and request id; what may pass is tried again."""
    customer = claude(worker)
    customer.account.will_answer(*[claude_error(status, kind, message)] * 2)

    result = await worker.run(customer, **chat(), options={"max_retries": 1, "retry_delay_ms": 1})

    assert ("failed", code) == (result["status"], result["error"]["code"])
    assert (status, "req_e") == (result["error"]["status"], result["error"]["request_id"])
    assert 1 + is_retried == len(customer.account.received)
    assert status == 401 or message.rstrip(".") in result["error"]["message"]


async def test_an_overloaded_endpoint_is_tried_again(worker: Worker):
    """529, which only Anthropic has, is as transient as a 503, and its wait is kept."""
    customer = claude(worker)
    customer.account.will_answer(claude_error(529, "overloaded_error", "Overloaded", retry_after="0.01"))

    result = await worker.run(customer, **chat())

    assert ("succeeded", 2) == (result["status"], len(customer.account.received))
    assert 1 == len(worker.usage(customer))


async def test_a_limit_names_its_wait_in_anthropics_headers(worker: Worker):
    """Without `retry-after`, the limit with nothing left says when it is lifted, and the job is requeued until then."""
    customer = claude(worker)
    soon, later = (now() + timedelta(seconds=wait) for wait in (60, 3000))
    limits = {
        "anthropic_ratelimit_requests_remaining": "7",
        "anthropic_ratelimit_requests_reset": later.isoformat(timespec="seconds"),
        "anthropic_ratelimit_input_tokens_remaining": "0",
        "anthropic_ratelimit_input_tokens_reset": soon.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    customer.account.will_answer(claude_error(429, "rate_limit_error", "Slow down.", **limits))

    assert await worker.deliver(customer, **chat()) is None

    ((_, wait_s),) = worker.requeued()
    assert 50 < wait_s < 75


async def test_every_other_action_is_refused(worker: Worker):
    """An action that is added is refused on Claude unless somebody allows it."""
    customer = claude(worker)
    connection = await worker.services.connections.resolve(customer.name, "default")
    refused = []
    for action in _ACTIONS:
        try:
            connection.check_job(action, Options())
        except InvalidJob:
            refused.append(action)

    assert {"chat", "multi_chat", "summarize", "raw"} == {*_ACTIONS} - {*refused}


@every_row(
    ("action", "request_input"),
    [
        ("embed", {"texts": ["a"]}),
        ("image", {"prompt": "a"}),
        ("edit_image", {"images": ["inputs/a/1.png"], "prompt": "a"}),
        ("transcribe", {"blob": "inputs/a/1.mp3"}),
        ("speak", {"text": "a", "voice": "alloy"}),
        ("respond", {"input": "a"}),
    ],
)
async def test_actions_that_claude_does_not_have(worker: Worker, action: str, request_input: dict[str, Any]):
    """The sentence names the action, and nothing is sent."""
    customer = claude(worker)

    result = await worker.run(customer, action=action, input=request_input)

    assert ("invalid_job", []) == (result["error"]["code"], customer.account.received)
    assert f"`action` can't be {action} on the connection default, which leads to Claude" in result["error"]["message"]


async def test_many_prompts_and_one_that_claude_refuses(worker: Worker):
    """One prompt that Claude can't take fails alone."""
    customer = claude(worker)
    sound = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]

    result = await worker.run(customer, action="multi_chat", input={"prompts": ["a", sound]})

    answered, refused = result["output"]["answers"]
    assert ("partial", "Hello.", "invalid_job") == (result["status"], answered["text"], refused["error"]["code"])
    assert 1 == len(worker.usage(customer))


async def test_a_summary_is_split_when_the_prompt_is_too_long(worker: Worker):
    """Claude's sentence for it is understood."""
    customer = claude(worker)
    refusal = claude_error(400, "invalid_request_error", "prompt is too long: 212345 tokens > 200000 maximum")
    customer.account.will_answer(refusal)

    result = await worker.run(customer, action="summarize", input={"text": "A sentence of words. " * 400})

    assert ("succeeded", "Hello.") == (result["status"], result["output"]["text"])
    assert 4 == len(customer.account.received)


async def test_raw_requests(worker: Worker):
    """They go below the endpoint with the connection's headers, of which a job may name another version."""
    customer = claude(worker)
    body = {"model": "claude-x", "max_tokens": 5, "messages": []}

    result = await worker.run(customer, action="raw", input={"path": "messages", "json": body})
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "b"}
    await worker.run(customer, action="raw", input={"path": "messages/count_tokens", "json": body, "headers": headers})

    first, second = customer.account.received
    assert ("/anthropic/v1/messages", body, "2023-06-01") == (
        first.path,
        first.json,
        first.headers["anthropic-version"],
    )
    assert headers.items() <= second.headers.items()
    assert ("claude-x", "req_1") == (result["model"], result["output"]["headers"]["request-id"])
    assert [11] == [row["input_tokens"] for row in worker.usage(customer) if row.get("input_tokens")][:1]


async def test_the_usage_of_a_raw_stream(worker: Worker):
    """Anthropic's events report the input at their start, and the output at their end."""
    customer = claude(worker)
    start = {
        "type": "message_start",
        "message": {"model": "claude-x", "usage": {"input_tokens": 5, "output_tokens": 1}},
    }
    end = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}}
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in (start, end))
    customer.account.will_answer(reply(stream.encode(), headers={"request-id": "req_1"}))

    await worker.run(customer, action="raw", input={"path": "messages", "json": {"model": "m", "stream": True}})

    (row,) = worker.usage(customer)
    assert (5, 9, "claude-x") == (row["input_tokens"], row["output_tokens"], row["answered_by"])


async def test_patient_processing(worker: Worker):
    """Its batches are a refusal, flex as well; the cheapest is the list price."""
    customer = claude(worker)

    results = {
        processing: await worker.run(customer, **chat(), options={"processing": processing, "deadline_s": 90_000})
        for processing in ("batch", "flex", "cheapest")
    }

    assert {"batch": "failed", "flex": "failed", "cheapest": "succeeded"} == {
        processing: result["status"] for processing, result in results.items()
    }
    assert "which has no batches" in results["batch"]["error"]["message"]
    assert "only OpenAI has that tier" in results["flex"]["error"]["message"]
    assert ["standard"] == [row["processing"] for row in worker.usage(customer)]
    assert 1 == len(customer.account.received)


async def test_a_large_answer_is_read_in_another_process(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """As one of OpenAI's: the worker's loop reads none of it, and the result is a blob."""
    monkeypatch.setattr("shared.upstream.messages.LARGE_BYTES", 400_000)
    customer = claude(worker)
    customer.account.will_answer(claude_message({"type": "text", "text": "word " * 100_000}))

    result = await worker.run(customer, job_id="large", **chat())

    assert ("succeeded", 7) == (result["status"], result["usage"]["output_tokens"])
    blob = result["output_blob"]
    full = json.loads(worker.memory.blobs.blobs[blob["container"], blob["name"]][0])
    assert ("stop", 500_000) == (full["output"]["finish_reason"], len(full["output"]["text"]))


async def test_an_endpoint_that_is_not_claudes(worker: Worker):
    """A completion of OpenAI's is an answer all the same: some gateways have it at both addresses."""
    customer = claude(worker)
    customer.account.will_answer(completion("Hi."))

    result = await worker.run(customer, **chat())

    assert ("succeeded", "Hi.") == (result["status"], result["output"]["text"])

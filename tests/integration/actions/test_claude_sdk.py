"""
Requests to Claude, answers and errors compared with what Anthropic's own SDK makes of the same.

Both are sent to one recording endpoint. DIFFERENCES lists every difference between the requests, with its reason, and
each of them must occur.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.endpoint import Answer, Received, claude_error, claude_message
from tests.support.harness import Customer, Harness
from tests.support.sdks import anthropic

pytestmark = pytest.mark.long  # that SDK takes two seconds to import; tests/unit/actions/test_claude.py has the request
MODEL = "my-claude"
ANY = "any value"
KEY = "THE-KEY"


@dataclass(frozen=True)
class Shape:
    """A kind of endpoint: our connection to it, and the SDK's client for it."""

    name: str
    path: str
    """After the host."""
    client: Callable[[str, str], anthropic.AsyncAnthropic]
    """Makes the client from the endpoint's URL and a key."""


SHAPES = [
    Shape(
        "foundry",
        "/anthropic",
        lambda url, key: anthropic.AsyncAnthropicFoundry(base_url=f"{url}/anthropic/", api_key=key),
    ),
    Shape(
        "foundry, as its portal shows it",
        "/anthropic/v1/messages",
        lambda url, key: anthropic.AsyncAnthropicFoundry(base_url=f"{url}/anthropic/", api_key=key),
    ),
    Shape("anthropic", "", lambda url, key: anthropic.AsyncAnthropic(base_url=url, api_key=key)),
    Shape("a gateway", "/ai/v1", lambda url, key: anthropic.AsyncAnthropic(base_url=f"{url}/ai", api_key=key)),
]
TOOL = {"name": "f", "description": "F.", "input_schema": {"type": "object", "properties": {}}}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
USER = [{"role": "user", "content": [{"type": "text", "text": "Hello? ☂ 😀"}]}]


@dataclass(frozen=True)
class Case:
    """One request in two forms: a job's parameters, and the members of the SDK's call."""

    name: str
    parameters: Mapping[str, Any]
    members: Mapping[str, Any] = field(default_factory=dict)


CASES = [
    Case("a limit alone", {"max_tokens": 9}, {"max_tokens": 9}),
    Case(
        "tools",
        {
            "max_completion_tokens": 9,
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "F.", "parameters": TOOL["input_schema"]}}
            ],
            "tool_choice": "required",
        },
        {"max_tokens": 9, "tools": [TOOL], "tool_choice": {"type": "any"}},
    ),
    Case(
        "a schema, effort, a user and stops",
        {
            "max_tokens": 9,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
            "reasoning_effort": "low",
            "user": "u",
            "stop": "END",
        },
        {
            "max_tokens": 9,
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
            "metadata": {"user_id": "u"},
            "stop_sequences": ["END"],
        },
    ),
    Case(
        "Claude's own parameters",
        {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
    ),
]

FOUNDRY, ANTHROPIC = {"foundry", "foundry, as its portal shows it"}, {"anthropic", "a gateway"}
DIFFERENCES: dict[str, tuple[Any, Any, str]] = {
    "header user-agent": ("customer-ai-jobs", ANY, "Each has its own name."),
    "header accept": ("*/*", "application/json", "Any media type is read; what can't be read is an error."),
    "header x-stainless-*": (None, ANY, "The SDK sends its version and platform."),
    "header anthropic-version": ("2023-06-01", "2026-10-21", "The later one has no temperature, top_p and top_k."),
    "header api-key": (None, KEY, "The SDK sends Foundry's key under its former name as well."),
    "header x-api-key": (KEY, None, "Anthropic documents it for keys, and gateways look for it."),
    "header authorization": (None, f"Bearer {KEY}", "The same key: the SDK's later version of the API takes it so."),
}
SHAPES_OF = {"header api-key": FOUNDRY, "header x-api-key": ANTHROPIC, "header authorization": ANTHROPIC}
"""The shapes that have a difference; the others are in all."""


def parts_of(received: Received, key: str) -> dict[str, Any]:
    """Return the parts of a request by name, its key replaced."""
    parts: dict[str, Any] = {"method": received.method, "path": received.path, "query": received.query}
    for name, value in received.headers.items():
        if name.startswith("x-stainless-"):
            parts["header x-stainless-*"] = ANY
        elif name != "content-length":
            parts[f"header {name}"] = value.replace(key, KEY)
    return parts | {f"body {name}": value for name, value in received.json.items()}


def claude(harness: Harness, path: str = "/anthropic") -> Customer:
    """Return a customer of Claude's."""
    url = f"{harness.endpoint.url}{path}"
    return harness.customer(endpoint=url, provider="anthropic", default_model=MODEL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_requests_are_those_of_the_sdk(harness: Harness, shape: Shape, case: Case):
    """Method, path, query, every header and the body are the SDK's, except for the listed differences."""
    customer, account = claude(harness, shape.path), harness.endpoint.account()

    async with shape.client(harness.endpoint.url, account.key) as client:
        await client.messages.create(model=MODEL, messages=USER, **case.members)  # type: ignore[call-overload]
    result = await customer.run(input={"messages": USER, "parameters": case.parameters})

    assert "succeeded" == result["status"]
    (our_request,), (sdk_request,) = customer.account.received, account.received
    ours, theirs = parts_of(our_request, customer.account.key), parts_of(sdk_request, account.key)
    actual = {name: (ours.get(name), theirs.get(name)) for name in ours | theirs if ours.get(name) != theirs.get(name)}
    expected = {
        name: (mine, actual.get(name, (None, None))[1] if other == ANY else other)
        for name, (mine, other, _) in DIFFERENCES.items()
        if shape.name in SHAPES_OF.get(name, FOUNDRY | ANTHROPIC)
    }
    assert expected == actual


async def test_answers_are_what_the_sdk_reads(harness: Harness):
    """Text, calls, thinking, usage and the request's id."""
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Grüße ☂"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"ü": [1.5, None]}},
    ]
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 2},
        "output_tokens": 11,
        "service_tier": "standard",
    }
    answer = claude_message(*blocks, stop_reason="tool_use", usage=usage)
    customer, account = claude(harness), harness.endpoint.account()
    for each in (customer.account, account):
        each.will_answer(answer)

    async with anthropic.AsyncAnthropicFoundry(
        base_url=f"{harness.endpoint.url}/anthropic/", api_key=account.key
    ) as client:
        theirs = await client.messages.create(model=MODEL, messages=USER, max_tokens=9)  # type: ignore[arg-type]
    result = await customer.run(input={"messages": USER})

    thinking, text, use = theirs.content
    output = result["output"]
    message = output["choices"][0]["message"]
    assert (theirs.id, theirs.model, text.text) == (output["id"], output["model"], output["text"])  # type: ignore[union-attr]
    assert theirs.stop_reason == output["choices"][0]["stop_reason"]
    assert [thinking.to_dict()] == message["thinking_blocks"]
    assert (use.id, use.name) == (message["tool_calls"][0]["id"], message["tool_calls"][0]["function"]["name"])  # type: ignore[union-attr]
    (row,) = await customer.usage()
    counts = theirs.usage
    assert counts.cache_creation is not None
    everything = counts.input_tokens + (counts.cache_read_input_tokens or 0) + (counts.cache_creation_input_tokens or 0)
    assert (everything, counts.output_tokens, theirs._request_id) == (
        row["input_tokens"],
        row["output_tokens"],
        row["request_id"],
    )
    assert (counts.cache_read_input_tokens, 5, 2) == (
        row["cached_tokens"],
        row["cache_write_tokens"],
        row["cache_write_long_tokens"],
    )
    assert (5, 2) == (
        counts.cache_creation.ephemeral_5m_input_tokens,
        counts.cache_creation.ephemeral_1h_input_tokens,
    )


ERRORS: dict[str, tuple[Answer, str]] = {
    "BadRequestError": (claude_error(400, "invalid_request_error", "No."), "request_rejected"),
    "AuthenticationError": (claude_error(401, "authentication_error", "No."), "credential_rejected"),
    "PaymentRequiredError": (claude_error(402, "billing_error", "No."), "quota_exhausted"),
    "PermissionDeniedError": (claude_error(403, "permission_error", "No."), "credential_rejected"),
    "NotFoundError": (claude_error(404, "not_found_error", "model: x"), "model_not_found"),
    "ConflictError": (claude_error(409, "conflict_error", "No."), "request_rejected"),
    "ContentTooLargeError": (claude_error(413, "request_too_large", "No."), "request_rejected"),
    "RateLimitError": (claude_error(429, "rate_limit_error", "No."), "rate_limited"),
    "InternalServerError": (claude_error(500, "api_error", "No."), "provider_unavailable"),
    "GatewayTimeoutError": (claude_error(504, "timeout_error", "No."), "provider_unavailable"),
    "OverloadedError": (claude_error(529, "overloaded_error", "No."), "provider_unavailable"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_those_of_the_sdk(harness: Harness, name: str):
    """What the SDK has a class for has its code here, with the same status and request id."""
    answer, code = ERRORS[name]
    kind: type[anthropic.APIStatusError] = getattr(anthropic, name)
    customer, account = claude(harness), harness.endpoint.account()
    for each in (customer.account, account):
        each.will_answer(answer)

    async with anthropic.AsyncAnthropic(base_url=harness.endpoint.url, api_key=account.key, max_retries=0) as client:
        with pytest.raises(kind) as raised:
            await client.messages.create(model=MODEL, messages=USER, max_tokens=9)  # type: ignore[arg-type]
    result = await customer.run(input={"messages": USER}, options={"max_retries": 0})

    assert type(raised.value) is kind
    error = result["error"]
    assert (code, raised.value.status_code, raised.value.request_id) == (
        error["code"],
        error["status"],
        error["request_id"],
    )

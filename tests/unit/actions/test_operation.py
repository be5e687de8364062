"""JSON operations: requests, and what later ones learn from refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.actions.operation import JsonOperation
from shared.errors import ProviderUnavailable, RequestRejected, UpstreamFacts
from tests.support.memory_context import MemoryContext, in_turn

REFUSAL = RequestRejected(
    "Unsupported parameter: 'temperature' is not supported with this model.",
    UpstreamFacts(400, detail={"code": "unsupported_parameter", "param": "temperature"}),
)
DROPPABLE = frozenset({"temperature"})


def operation(ctx: MemoryContext, **members: Any) -> JsonOperation:
    """Return a chat with these members."""
    return ctx.operation("chat/completions", {"temperature": 0, **members}, droppable=DROPPABLE)


def body(operation: JsonOperation) -> dict[str, Any]:
    """Return the JSON that is sent."""
    return json.loads(operation.request.content)


@pytest.mark.parametrize(
    ("endpoint", "url", "headers"),
    [
        ("https://r.openai.azure.com/openai/v1", "/openai/v1/embeddings", {}),
        ("https://r.openai.azure.com", "/openai/deployments/m/embeddings?api-version=2024-10-21", {}),
        (
            "https://r.services.ai.azure.com/models",
            "/models/embeddings?api-version=2024-05-01-preview",
            {"extra-parameters": "pass-through"},
        ),
    ],
)
def test_request_follows_the_endpoints_style(endpoint: str, url: str, headers: dict[str, str]):
    """The URL follows the endpoint's style; on the models route a header passes on unknown parameters."""
    ctx = MemoryContext(in_turn(), endpoint=endpoint)

    request = ctx.operation("embeddings", {"input": ["x"]}).request

    assert ("POST", url) == (request.method, "/" + request.url.split("/", 3)[3])
    assert {"model": "m", "input": ["x"]} == json.loads(request.content)
    assert {"content-type": "application/json"} | headers == request.headers


def test_adaptation_is_learned():
    """A refused parameter is dropped from the request, and from the start in later requests that have it."""
    ctx = MemoryContext(in_turn())
    first = operation(ctx)

    assert first.adapt(REFUSAL)

    assert ({"model": "m"}, ["temperature was left out"]) == (body(first), first.adapted)
    second, other = operation(ctx), ctx.operation("chat/completions", {"top_p": 1})
    assert ({"model": "m"}, ["temperature was left out"]) == (body(second), second.adapted)
    assert ({"model": "m", "top_p": 1}, []) == (body(other), other.adapted)


def test_adaptation_is_learned_for_one_reasoning_effort():
    """What is learned with one `reasoning_effort` isn't applied to another: models differ in what they take with it."""
    ctx = MemoryContext(in_turn())
    operation(ctx, reasoning_effort="high").adapt(REFUSAL)

    assert "temperature" not in body(operation(ctx, reasoning_effort="high"))
    assert "temperature" in body(operation(ctx, reasoning_effort="none"))
    assert "temperature" in body(operation(ctx))


def test_strict_operation_is_unchanged():
    """A strict operation isn't adapted, neither after its own refusal nor by what was learned before."""
    ctx = MemoryContext(in_turn())
    operation(ctx).adapt(REFUSAL)
    ctx.strict = True
    strict = operation(ctx)

    assert not strict.adapt(REFUSAL)

    assert ({"model": "m", "temperature": 0}, []) == (body(strict), strict.adapted)


@pytest.mark.parametrize(
    "error",
    [
        ProviderUnavailable("Unsupported parameter: 'temperature'", UpstreamFacts(500)),
        RequestRejected("No.", UpstreamFacts(400)),
        RequestRejected("Unsupported parameter: 'seed'", UpstreamFacts(400, detail={"param": "seed"})),
    ],
)
def test_other_errors_adapt_nothing(error: Any):
    """Only a refusal of a parameter that the request has, and that can be dropped or renamed, changes the request."""
    chat = operation(MemoryContext(in_turn()))

    assert not chat.adapt(error)

    assert {"model": "m", "temperature": 0} == body(chat)


def test_only_the_callers_refusals_are_final():
    """`is_final` decides about refusals alone; without it no error is final."""
    ctx = MemoryContext(in_turn())
    chat = ctx.operation("chat/completions", {}, is_final=lambda error: "final" in str(error))

    assert chat.is_final(RequestRejected("final", UpstreamFacts(400)))
    assert not chat.is_final(REFUSAL)
    assert not chat.is_final(ProviderUnavailable("final", UpstreamFacts(500)))
    assert not operation(ctx).is_final(REFUSAL)

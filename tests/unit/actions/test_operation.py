"""JSON operations: requests, and what later ones learn from refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from shared.actions import embed, image
from shared.actions.operation import JsonOperation
from shared.errors import ProviderUnavailable, RequestRejected, UpstreamFacts
from shared.upstream.capabilities import MAX_AGE_S, SAMPLING, Capabilities
from shared.upstream.error_mapping import map_error
from tests.support.manual_clock import ManualClock
from tests.support.memory_context import MemoryContext, in_turn, response, run_action
from tests.support.rows import every_row

REFUSAL = RequestRejected(
    "Unsupported parameter: 'temperature' is not supported with this model.",
    UpstreamFacts(400, detail={"code": "unsupported_parameter", "param": "temperature"}),
)
BODY = {"model": "m", "messages": []}


def operation(ctx: MemoryContext, **parameters: Any) -> JsonOperation:
    """Return a chat with these parameters."""
    return ctx.operation("chat/completions", {"messages": [], **parameters}, droppable=SAMPLING)


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


def refusal(param: str | None, *, code: str = "unsupported_parameter", message: str = "", status: int = 400) -> Any:
    """Return a refusal of a parameter as OpenAI and Azure OpenAI write it."""
    message = message or f"Unsupported parameter: '{param}' is not supported with this model."
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    return map_error(status, {}, json.dumps(body).encode())


def foundry_refusal(parameter: str) -> Any:
    """Return a refusal of a parameter as Foundry's older route writes it."""
    detail = {"loc": ["body", parameter], "input": "1"}
    body = {"status": 422, "code": "parameter_not_supported", "detail": detail, "message": "Contain invalid values."}
    return map_error(422, {}, json.dumps(body).encode())


RENAMED = ["max_tokens became max_completion_tokens"]
# Every form of refusal that is understood: its `param`, its `code`, Foundry's `detail.loc`, or only the quoted name.
OF_TEMPERATURE = [
    refusal("temperature", code="unsupported_value", message="'temperature' does not support 0.2."),
    refusal(None, code="", message="Unsupported value: 'temperature' does not support 0.2 with this model."),
    refusal(None, code="", message='Unrecognized request argument supplied: "temperature"'),
    refusal(None, code="unknown_parameter", message="Unknown parameter: 'temperature'."),
    foundry_refusal("temperature"),
]
OTHERS = [
    (refusal("tools"), {"tools": []}),
    (refusal("n"), {"n": 2}),
    (refusal("reasoning_effort", code="unsupported_value"), {"reasoning_effort": "none"}),
    (refusal("messages"), {}),
    (refusal("model"), {}),
    (refusal("temperature"), {}),
    (refusal("temperature", code="invalid_value", message="'temperature' is above 2."), {"temperature": 3}),
    (refusal("messages[0].content", code="invalid_type", message="Expected a string."), {"temperature": 1}),
    (refusal(None, code="context_length_exceeded", message="Too many tokens in 'messages'."), {"max_tokens": 9}),
    (refusal("temperature", status=404), {"temperature": 1}),
    (refusal("temperature", status=500), {"temperature": 1}),
    (foundry_refusal("n"), {"n": 2}),
]


@every_row(
    ("error", "parameters", "adapted_parameters", "adapted"),
    [
        *(
            (refusal(name), {name: 7, "seed": 7, "x": {name: 7}}, {"seed": 7, "x": {name: 7}}, [f"{name} was left out"])
            for name in sorted(SAMPLING)
        ),
        (refusal("max_tokens"), {"max_tokens": 5, "seed": 7}, {"max_completion_tokens": 5, "seed": 7}, RENAMED),
        (refusal("max_tokens"), {"max_tokens": 5, "max_completion_tokens": 9}, {"max_completion_tokens": 9}, RENAMED),
        *((error, {"temperature": 0.2}, {}, ["temperature was left out"]) for error in OF_TEMPERATURE),
        *((error, parameters, parameters, []) for error, parameters in OTHERS),
    ],
)
def test_refused_parameter_is_renamed_or_left_out(
    error: Any, parameters: dict[str, Any], adapted_parameters: dict[str, Any], adapted: list[str]
):
    """
    A refused sampling parameter is left out, and `max_tokens` gets its new name, unless the request has that, too.

    A parameter that can't be changed, is missing, or was refused for its value changes nothing.
    """
    chat = operation(MemoryContext(in_turn()), **parameters)

    assert bool(adapted) is chat.adapt(error)

    assert (BODY | adapted_parameters, adapted) == (body(chat), chat.adapted)


def test_adaptation_is_learned_for_an_hour():
    """It is applied to later requests that have the parameter, of the same connection, model, endpoint and effort."""
    clock = ManualClock()
    ctx = MemoryContext(in_turn(), learned=Capabilities(clock=clock))
    operation(ctx, temperature=0).adapt(REFUSAL)
    operation(ctx, temperature=0, reasoning_effort="high").adapt(REFUSAL)

    def left_out(ctx: MemoryContext, **parameters: Any) -> bool:
        later = operation(ctx, temperature=1, **parameters)
        assert later.adapted == (["temperature was left out"] if "temperature" not in body(later) else [])
        return "temperature" not in body(later)

    assert [True, True, False] == [left_out(ctx), *(left_out(ctx, reasoning_effort=e) for e in ("high", "none"))]
    assert not left_out(replace(ctx, model="other"))
    assert not left_out(replace(ctx, endpoint="https://other.openai.azure.com/openai/v1"))
    assert not left_out(replace(ctx, customer="fabrikam"))
    assert not left_out(replace(ctx, connection_name="spare"))
    assert [] == operation(ctx, top_p=1).adapted
    clock.advance(MAX_AGE_S - 1)
    assert left_out(ctx)
    clock.advance(2)
    assert not left_out(ctx)


@pytest.mark.parametrize(
    ("refused", "others"),
    [
        ({"thinking": {"type": "enabled"}}, [{}, {"thinking": {"type": "disabled"}}, {"thinking": 1}]),
        ({"output_config": {"effort": "high"}}, [{}, {"output_config": {"effort": "low"}}, {"output_config": {}}]),
        ({"reasoning": {"effort": "high"}}, [{}, {"reasoning": {"effort": "none"}}, {"reasoning": None}]),
    ],
)
def test_what_is_refused_beside_others_is_left_out_beside_them_alone(refused: Any, others: list[Any]):
    """Claude takes a temperature, but not while it thinks."""
    ctx = MemoryContext(in_turn())
    assert operation(ctx, temperature=0, **refused).adapt(REFUSAL)

    assert "temperature" not in body(operation(ctx, temperature=1, **refused))
    assert all("temperature" in body(operation(ctx, temperature=1, **other)) for other in others)


def test_what_claude_refuses_beside_another_is_left_out_beside_that_alone():
    """Some of its models take a temperature or `top_p`, and not both. OpenAI's refuse what they refuse in any case."""
    ctx = MemoryContext(in_turn())

    def message(**parameters: Any) -> JsonOperation:
        return ctx.operation("messages", {"messages": [], **parameters}, droppable=SAMPLING)

    assert message(temperature=0, top_p=1).adapt(REFUSAL)
    assert operation(ctx, temperature=0, top_p=1).adapt(REFUSAL)

    assert "temperature" not in body(message(temperature=1, top_p=1))
    assert "temperature" in body(message(temperature=1))
    assert "temperature" not in body(operation(ctx, temperature=1))


@pytest.mark.parametrize(
    ("action", "request_", "parameter", "answer"),
    [
        (embed, {"texts": ["4"]}, "encoding_format", {"data": [{"embedding": [4]}]}),
        (image, {"prompt": "A cat"}, "response_format", {"data": [{"b64_json": "AA=="}]}),
    ],
    ids=["embed", "image"],
)
async def test_encodings_are_left_out(action: ModuleType, request_: dict[str, Any], parameter: str, answer: Any):
    """`embed` and `image` leave out a refused parameter that only encodes the response, and report it."""
    error = refusal(parameter, code="unknown_parameter", message=f"Unknown parameter: '{parameter}'.")
    ctx = MemoryContext(in_turn(error, response(answer)))
    with pytest.raises(RequestRejected):  # the context in memory makes no second try
        await run_action(action, request_ | {"parameters": {parameter: "x"}}, ctx)
    assert ctx.called[0].adapt(error)

    outcome = await run_action(action, request_ | {"parameters": {parameter: "x"}}, ctx)

    assert [f"{parameter} was left out"] == outcome.output["adapted"]
    assert parameter not in ctx.bodies[1]


def test_strict_operation_is_unchanged():
    """A strict operation isn't adapted, neither after its own refusal nor by what was learned before."""
    ctx = MemoryContext(in_turn())
    operation(ctx, temperature=0).adapt(REFUSAL)
    ctx.strict = True
    strict = operation(ctx, temperature=0)

    assert not strict.adapt(REFUSAL)

    assert (BODY | {"temperature": 0}, []) == (body(strict), strict.adapted)


def test_only_the_callers_refusals_are_final():
    """`is_final` decides about refusals alone; without it no error is final."""
    ctx = MemoryContext(in_turn())
    chat = ctx.operation("chat/completions", {}, is_final=lambda error: "final" in str(error))

    assert chat.is_final(RequestRejected("final", UpstreamFacts(400)))
    assert not chat.is_final(REFUSAL)
    assert not chat.is_final(ProviderUnavailable("final", UpstreamFacts(500)))
    assert not operation(ctx).is_final(REFUSAL)

"""`raw`: URLs, outcomes, and the operations that a static connection allows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions import raw
from shared.actions.raw import path_below, raw_url
from shared.connections.endpoint import parse_endpoint
from shared.contract.raw import decode_raw
from shared.errors import InvalidJob
from tests.support.memory_context import MemoryContext, in_turn, response, run_action
from tests.support.rows import every_row

AZURE = "https://r.openai.azure.com"
V1 = f"{AZURE}/openai/v1"
DEPLOYMENT = f"{AZURE}/openai/deployments/allowed"


def url(endpoint: str, path: str, **members: Any) -> str:
    """Return the URL of a job with this path, on the model `m 1`."""
    request = decode_raw(json.dumps({"path": path, **members}).encode())
    return raw_url(request, parse_endpoint(endpoint), "m 1")


@every_row(
    ("endpoint", "path", "query", "expected"),
    [
        (V1, "chat/completions", {}, "/openai/v1/chat/completions"),
        (V1, "a", {"api-version": "preview"}, "/openai/v1/a?api-version=preview"),
        (f"{V1}?api-version=preview", "a", {"b": 1}, "/openai/v1/a?api-version=preview&b=1"),
        (AZURE, "models", {}, "/openai/models?api-version=2024-10-21"),
        (AZURE, "models", {"a": "b"}, "/openai/models?api-version=2024-10-21&a=b"),
        (AZURE, "models", {"Api-Version": "x"}, "/openai/models?Api-Version=x"),
        (AZURE, "deployments/d/x", {}, "/openai/deployments/d/x?api-version=2024-10-21"),
        (AZURE, "audio/speech", {}, "/openai/deployments/m%201/audio/speech?api-version=2024-10-21"),
        (DEPLOYMENT, "embeddings", {}, "/openai/deployments/allowed/embeddings?api-version=2024-10-21"),
        (DEPLOYMENT, "deployments/%61llowed/x", {}, "/openai/deployments/%61llowed/x?api-version=2024-10-21"),
        ("https://r.services.ai.azure.com/models", "info", {}, "/models/info?api-version=2024-05-01-preview"),
        (
            "https://api.openai.com",
            "a",
            {"b[]": ["c/d", 2, False], "e": "+ &"},
            "/v1/a?b%5B%5D=c%2Fd&b%5B%5D=2&b%5B%5D=false&e=%2B%20%26",
        ),
    ],
)
def test_url_follows_the_endpoints_style(endpoint: str, path: str, query: dict[str, Any], expected: str):
    """A path is under the base, a deployment's operation under its deployment; the job's API version has precedence."""
    assert expected == url(endpoint, path, query=query).removeprefix(f"https://{parse_endpoint(endpoint).host}")


@given(
    path=st.text(max_size=12) | st.text("./\\%2eE5cf;:@?#a", max_size=12),
    endpoint=st.sampled_from([V1, AZURE, "https://api.openai.com"]),
)
def test_no_path_leaves_the_endpoint(path: str, endpoint: str):
    """Every path that is accepted stays under the endpoint, also on servers that decode segments."""
    base = parse_endpoint(endpoint).base
    try:
        result = url(endpoint, path)
    except InvalidJob:
        return

    rest = result.removeprefix(f"{base}/").partition("?")[0]
    assert result.startswith(f"{base}/")
    assert path.removeprefix("/") == rest
    assert not {"", ".", ".."} & {segment.lower().replace("%2e", ".") for segment in rest.split("/")}


@every_row(
    "path",
    [
        *("deployments/other/chat/completions", "Deployments/other", "deployments"),
        *("%64eployments/other/chat/completions", "%64EPLOYMENTS/other/x", "deployments%20/other/x"),
        *("deployments;x/other/chat/completions", "deployments/allowed;x/chat/completions", "deployments/%6fther/x"),
    ],
)
def test_endpoint_with_a_deployment_is_not_left(path: str):
    """If the endpoint names a deployment, a path into another one is refused, in any spelling that a server accepts."""
    with pytest.raises(InvalidJob, match="must stay within allowed"):
        url(DEPLOYMENT, path)


@pytest.mark.parametrize(("length", "valid"), [(16_384, True), (16_385, False)])
def test_too_long_url_is_refused(length: int, valid: bool):
    """A URL may have 16,384 characters; a longer one is refused, with the members that make it up."""
    query = {"q": "x" * (length - len(f"{V1}/a?q="))}

    if valid:
        assert length == len(url(V1, "a", query=query))
    else:
        with pytest.raises(InvalidJob, match=r"`input\.path` and `input\.query` make a URL of more than 16,384"):
            url(V1, "a", query=query)


@every_row(
    ("endpoint", "path", "expected"),
    [
        (V1, "models", "models"),
        (V1, "openai/v1/models", "models"),
        ("https://api.openai.com", "v1/models", "models"),
        ("https://api.openai.com", "openai/v1/models", "openai/v1/models"),
    ],
)
def test_path_may_repeat_the_endpoints(endpoint: str, path: str, expected: str):
    """A path may begin with the endpoint's own path, which the URL then has once."""
    assert expected == path_below(path, parse_endpoint(endpoint))


@every_row(("method", "calls"), [("GET", 0), ("PUT", 0), ("PATCH", 0), ("DELETE", 0), ("POST", 1)])
async def test_only_posts_are_billed(method: str, calls: int):
    """A POST is a billed call; other methods are not. A path that repeats the endpoint's own is sent once."""
    ctx = MemoryContext(in_turn(response({"usage": {"prompt_tokens": 5}}, content_type="application/json")))

    outcome = await run_action(raw, {"path": "openai/v1/things", "method": method}, ctx)

    assert calls == len(outcome.calls)
    assert [(method, f"{V1}/things")] == [(call.request.method, call.request.url) for call in ctx.called]


async def test_output_has_only_headers_for_the_next_request():
    """The output has limits, locations and ids of the response, and no other header, such as a cookie."""
    shown = {
        "x-request-id": "r",
        "x-ratelimit-remaining-tokens": "5",
        "operation-location": "https://r/x",
        "location": "/y",
        "content-type": "application/json",
    }
    hidden = {"set-cookie": "a=b", "x-internal": "secret", "server": "s"}
    ctx = MemoryContext(in_turn(response({}, status=202, **shown, **hidden)))

    outcome = await run_action(raw, {"path": "things"}, ctx)

    assert {"status": 202, "headers": shown, "content_type": "application/json", "json": {}} == outcome.output


async def test_invalid_json_fails_the_job_and_is_billed():
    """A body that should be JSON and isn't is the provider's failure; its text is in the output, and it is billed."""
    ctx = MemoryContext(in_turn(response(b'{"a": ', content_type="application/json")))

    outcome = await run_action(raw, {"path": "things", "json": {}}, ctx)

    assert ("failed", "provider_unavailable") == (outcome.status, outcome.error.code)
    assert (200, "req-1") == (outcome.error.facts.status, outcome.error.facts.request_id)
    assert ('{"a": ', [None]) == (outcome.output["text"], [call.usage for call in outcome.calls])


@every_row(
    ("content_type", "came", "hint"),
    [
        ("text/html; charset=utf-8", "text/html", "text"),
        ("application/json", "application/json", "text"),
        ("application/problem+json", "application/problem+json", "text"),
        ("image/png", "image/png", "binary"),
        ("", "application/octet-stream", "binary"),
        ("a\x1bb/c", "a\ufffdb/c", "binary"),
    ],
)
async def test_a_body_that_is_no_json_is_named_by_its_content_type(content_type: str, came: str, hint: str):
    """The error says what came and how to get it, and quotes nothing of the body."""
    ctx = MemoryContext(in_turn(response(b"<html>MARK</html>", content_type=content_type)))

    outcome = await run_action(raw, {"path": "things", "response_type": "json"}, ctx)

    assert outcome.error is not None
    assert str(outcome.error) == (
        f"The endpoint answered 200 with {came}, and its body is not JSON. To get it as it is, set "
        f"`input.response_type` to {hint}."
    )
    assert "<html>MARK</html>" == outcome.output["text"]


async def test_binary_response_is_billed_once():
    """With `response_type: binary` the call is a step, so that a later attempt doesn't repeat it."""
    ctx = MemoryContext(in_turn(response({"usage": {"prompt_tokens": 5}}, content_type="application/json")))
    request = {"path": "things", "json": {}, "response_type": "binary"}

    first, second = [await run_action(raw, request, ctx) for _ in range(2)]

    assert first == second
    assert "contoso/job-1/output.json" == first.output["blob"]["name"]
    assert ((), [5]) == (first.calls, [call.consumed().input_tokens for call in ctx.billed])


METERED = "audio/transcriptions, chat/completions, completions, embeddings, images/edits, images/generations"


@every_row(
    ("request_", "reason"),
    [
        ({"path": "files"}, METERED),
        ({"path": "openai/v1/responses/resp_1", "method": "DELETE"}, METERED),
        ({"path": "chat/completions", "query": {"limit": 100}}, METERED),
        ({"path": "responses", "json": {}}, METERED),
        ({"path": "moderations", "json": {"input": "x"}}, METERED),
        ({"path": "audio/speech", "json": {"input": "x"}}, METERED),
        ({"path": "chat/completions", "data": "text"}, "`input.json` must be an object"),
        ({"path": "chat/completions", "json": [1]}, "`input.json` must be an object"),
        ({"path": "audio/transcriptions", "form": {"response_format": "srt"}}, "must be json or verbose_json"),
        ({"path": "images/edits", "form": {"model": "a"}, "files": {"model": "YQ=="}}, "can't have a model"),
        ({"path": "images/edits", "form": {"model": ["allowed", "b"]}}, r"`input\.form\.model` must be one value"),
        ({"path": "audio/transcriptions", "form": {"response_format": ["json", "srt"]}}, "must be one value"),
        ({"path": "audio/transcriptions", "form": {"response_format": ["srt"]}}, "must be json or verbose_json"),
    ],
)
async def test_static_connection_allows_only_metered_operations(request_: dict[str, Any], reason: str):
    """On the operator's account a job can't use what others have stored there, nor what does not report its usage."""
    ctx = MemoryContext(in_turn(), source="static")

    with pytest.raises(InvalidJob, match=reason):
        await run_action(raw, request_, ctx)


@every_row(
    ("source", "body", "sent"),
    [
        ("static", {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            "static",
            {"stream": True, "stream_options": {"include_usage": False, "x": 1}},
            {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
        ),
        ("static", {"stream": False}, {"stream": False}),
        ("key_vault", {"stream": True}, {"stream": True}),
    ],
)
async def test_streams_on_the_operators_account_tell_their_usage(
    source: str, body: dict[str, Any], sent: dict[str, Any]
):
    """A stream on the operator's account is asked for its usage; the customer's own request is sent as it is."""
    ctx = MemoryContext(in_turn(response({})), source=source)  # type: ignore[arg-type]

    await run_action(raw, {"path": "openai/v1/chat/completions", "json": body}, ctx)

    assert [sent] == ctx.bodies


async def test_a_request_on_the_operators_account_has_each_member_once():
    """Of two models in one body, the endpoint can't take another than the one that was checked."""
    body = b'{"path": "chat/completions", "json": {"model": "other", "model": "allowed", "x": 1.50}}'
    static, own = (MemoryContext(in_turn(response({})), source=source) for source in ("static", "key_vault"))

    for ctx in (static, own):
        await raw.run(raw.decode(body), ctx)

    assert b'{"model":"allowed","x":1.5}' == static.called[0].request.content
    assert b'{"model": "other", "model": "allowed", "x": 1.50}' == own.called[0].request.content


async def test_the_model_in_the_body_is_on_record():
    """A job that names its model only in its body has it in result and records."""
    ctx = MemoryContext(in_turn(*[response({})] * 3), model="")

    await run_action(raw, {"path": "chat/completions", "json": {"model": "gpt-4o"}}, ctx)
    assert "gpt-4o" == ctx.model
    await run_action(raw, {"path": "images/edits", "form": {"model": "gpt-image-2"}}, ctx)
    assert "gpt-image-2" == ctx.model
    await run_action(raw, {"path": "images/edits", "form": {"model": ["gpt-image-1.5"]}}, ctx)
    assert "gpt-image-1.5" == ctx.model


async def test_a_stored_response_is_metered_once():
    """Its usage is recorded when it is first fetched, not as a call, and never again; what has no usage is not."""
    body = {"object": "response", "id": "resp_1", "usage": {"input_tokens": 5, "output_tokens": 3}}
    answers = [body | {"usage": None}, body, body]
    ctx = MemoryContext(in_turn(*(response(answer, content_type="application/json") for answer in answers)))
    get = {"path": "responses/resp_1"}

    outcomes = [await run_action(raw, get, ctx) for _ in range(2)]
    (call,) = outcomes[1].calls
    ctx.metered.add(call.metered_as)
    outcomes.append(await run_action(raw, get, ctx))

    assert [0, 1, 0] == [len(outcome.calls) for outcome in outcomes]
    assert (0, 5, 3) == (call.usage.calls, call.usage.input_tokens, call.usage.output_tokens)

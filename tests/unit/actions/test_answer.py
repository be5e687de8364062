"""Errors that come as answers, in all actions, and messages whose content is a list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.actions import chat, edit_image, embed, image, multi_chat, raw, respond, speak, summarize, transcribe
from shared.actions.answer import answered_error
from shared.actions.base import Completed
from shared.actions.completion import content_text
from shared.contract.job import ACTIONS
from shared.errors import (
    ContentFiltered,
    CredentialRejected,
    ModelNotFound,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UpstreamError,
)
from shared.upstream.error_mapping import map_error
from shared.upstream.messages import Response
from tests.support.audio_samples import MP3
from tests.support.endpoint import pixels, reply
from tests.support.memory_context import MemoryContext, completion, in_turn, response, run_action
from tests.support.rows import every_row
from tests.support.workers import Worker

WORDS = "The model is overloaded."
ERROR = {"message": WORDS, "code": "server_error"}
FAILED = {"object": "response", "id": "resp_1", "status": "failed", "error": ERROR, "usage": {"input_tokens": 3}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 0}


@every_row(
    "value",
    [
        {"error": ERROR},
        {"error": WORDS},
        {"error": ERROR, "object": None},
        {"object": "error", **ERROR},
        {"type": "error", **ERROR},
        {"type": "error", "error": {"type": "overloaded_error", "message": WORDS}},
        {"object": "chat.completion", "choices": [], "error": ERROR},
        {"choices": [{"finish_reason": "error", "error": ERROR}]},
        FAILED,
        {"type": "response.failed", "response": FAILED},
        [{"error": ERROR}],
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_an_error_is_recognized_in_any_shape(value: Any):
    """Alone, as an event of a stream among others, or in a choice; its words are the message's."""
    before, after = {"choices": [{"delta": {"content": "Hi"}}]}, {"choices": []}

    for values in ([value], [before, value, after]):
        error = answered_error(values, response(b"", status=201))

        assert isinstance(error, ProviderUnavailable)
        assert f"The endpoint answered 201 with an error: {WORDS}" == str(error)
        assert (201, "req-1", False) == (error.facts.status, error.facts.request_id, error.facts.transient)


@every_row(
    "value",
    [
        *({}, {"error": None}, {"error": {}}, {"error": ""}, {"error": {"code": None, "message": None}}, {"error": 7}),
        *(None, 7, "error", [], ["error"], [{}], {"response": "error"}, {"choices": "error"}, {"choices": ["error"]}),
        {"object": "fine_tuning.job", "status": "failed", "error": ERROR},
        {"object": "batch", "status": "failed", "errors": {"data": [ERROR]}},
        {"object": ["error"], "error": ERROR},
        {"object": "response", "status": "completed", "error": None},
        {"object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"type": "response.created", "response": {"object": "response", "status": "in_progress", "error": None}},
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_an_answer_is_no_error(value: Any):
    """Neither is an empty member, nor the state of a job or batch at the provider, which was read successfully."""
    assert answered_error([value], response(b"")) is None


@every_row(
    ("error", "kind"),
    [
        ({"code": 429}, RateLimited),
        ({"code": 502}, ProviderUnavailable),
        ({"code": 400}, RequestRejected),
        ({"code": 401}, CredentialRejected),
        ({"code": "rate_limit_exceeded"}, RateLimited),
        ({"code": "invalid_prompt"}, ContentFiltered),
        ({"code": "content_filter"}, ContentFiltered),
        ({"code": "model_not_found"}, ModelNotFound),
        ({"code": "invalid_image"}, RequestRejected),
        ({"type": "invalid_request_error"}, RequestRejected),
        ({"type": "overloaded_error"}, ProviderUnavailable),
        ({}, ProviderUnavailable),
    ],
)
def test_its_code_decides_the_kind(error: dict[str, Any], kind: type[UpstreamError]):
    """A code may be a status, which OpenRouter's is. A key that is refused is not quoted."""
    mapped = answered_error([{"error": {"message": WORDS, **error}}], response(b""))

    assert kind is type(mapped)
    assert (kind is not CredentialRejected) is (WORDS in str(mapped))


def nested(name: str, innermost: Any, *, in_list: bool = False) -> Any:
    """Return 450 objects, each in the one before."""
    for _ in range(450):
        innermost = {name: [innermost] if in_list else innermost}
    return innermost


@every_row(
    "name", ["response", "error", "errors", "detail", "message", "choices", "innererror", "code", "object", "type"]
)
@every_row("in_list", [False, True])
def test_deep_objects_are_read(name: str, in_list: bool):
    """However deep a response nests what could be its error, reading it ends, as a refusal and as an answer."""
    value = nested(name, {"error": ERROR}, in_list=in_list)

    answered_error([value], response(b""))
    assert isinstance(map_error(400, {}, json.dumps(value).encode()), RequestRejected)


def test_a_failed_response_without_words_is_an_error():
    """Its status is the reason that there is."""
    error = answered_error([{"object": "response", "status": "failed", "error": None}], response(b""))

    assert "The endpoint answered 200 with an error: its `status` is failed." == str(error)


CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (chat, {"prompt": "Hi"}),
    "multi_chat": (multi_chat, {"prompts": ["Hi"]}),
    "summarize": (summarize, {"text": "A text."}),
    "embed": (embed, {"texts": ["Hi"]}),
    "image": (image, {"prompt": "A cat"}),
    "edit_image": (edit_image, {"images": ["inputs/c/a.png"], "prompt": "A cat"}),
    "transcribe": (transcribe, {"blob": "inputs/c/a.mp3"}),
    "speak": (speak, {"text": "Hi", "voice": "alloy"}),
    "respond": (respond, {"input": "Hi"}),
    "raw": (raw, {"path": "responses", "json": {}}),
    "raw, binary": (raw, {"path": "responses", "json": {}, "response_type": "binary"}),
    "raw, text": (raw, {"path": "responses", "json": {}, "response_type": "text"}),
}


def test_every_action_is_asked():
    """Some in several ways."""
    assert set(ACTIONS) == {name.partition(",")[0] for name in CALLS}


@every_row("name", CALLS)
async def test_an_answered_error_fails_every_action_and_is_metered(name: str):
    """The job fails with the endpoint's words, and the call is billed with what it consumed, once."""
    action, request = CALLS[name]
    answer = response({"error": ERROR, "usage": USAGE}, content_type="application/json")
    ctx = MemoryContext(in_turn(answer), blobs={"c/a.png": pixels(), "c/a.mp3": MP3})

    outcome, again = await run_action(action, request, ctx), None
    if name == "raw, binary":
        again = await run_action(action, request, ctx)

    assert isinstance(outcome, Completed)
    assert "failed" == outcome.status
    assert isinstance(outcome.error, ProviderUnavailable)
    assert f"The endpoint answered 200 with an error: {WORDS}" == str(outcome.error)
    assert [3] == [call.consumed().input_tokens for call in (*outcome.calls, *ctx.billed)]
    assert again is None or (isinstance(again, Completed) and str(again.error) == str(outcome.error))


@pytest.mark.parametrize("last", [f"data: {json.dumps({'error': ERROR})}", f"event: error\ndata: {json.dumps(ERROR)}"])
async def test_an_error_within_a_stream_fails_the_job_and_keeps_what_came(last: str):
    """The events before it, their text, and their usage are kept. Its data or its name says that it is one."""
    chunk = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "Hel"}}], "usage": USAGE}
    stream = f"data: {json.dumps(chunk)}\n\n{last}\n\n"
    ctx = MemoryContext(in_turn(response(stream.encode(), content_type="text/event-stream")))

    outcome = await run_action(raw, {"path": "chat/completions", "json": {"stream": True}}, ctx)

    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert ("failed", "Hel", chunk) == (outcome.status, outcome.output["text"], outcome.output["events"][0])
    assert WORDS in str(outcome.error)
    assert [3] == [call.consumed().input_tokens for call in outcome.calls]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_failed_raw_response_is_a_failed_job(method: str):
    """So it is at once, and when it is fetched."""
    request = {"path": "responses", "json": {}} if method == "POST" else {"path": "responses/resp_1", "method": "GET"}
    ctx = MemoryContext(in_turn(response(FAILED, content_type="application/json")))

    outcome = await run_action(raw, request, ctx)

    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert ("failed", FAILED) == (outcome.status, outcome.output["json"])
    assert WORDS in str(outcome.error)


@every_row("body", [{"message": WORDS}, {"detail": WORDS}, WORDS, WORDS.encode()])
async def test_what_is_no_completion_is_quoted(body: Any):
    """A gateway that answers 200 with a refusal in any other shape has its sentence in the message."""
    outcome = chat.parse_chat(response(body))

    assert str(outcome.error).endswith(f"something that is not a chat completion: {WORDS}")


async def test_an_answered_error_ends_a_job_after_one_call(worker: Worker):
    """It is bought once, recorded, and not retried."""
    customer = worker.customer()
    customer.account.will_answer(reply({"error": ERROR, "usage": USAGE}))

    result = await worker.run(customer)

    assert ("failed", "provider_unavailable", 1) == (
        result["status"],
        result["error"]["code"],
        result["usage"]["calls"],
    )
    assert WORDS in result["error"]["message"]
    assert 1 == len(customer.account.received)
    assert [("answered", 1, 3)] == worker.outcomes(customer)


TEXT = {"type": "text", "text": "Hel"}


@every_row(
    ("content", "text"),
    [
        ("Hello.", "Hello."),
        ("", ""),
        ([TEXT, {"type": "text", "text": "lo."}], "Hello."),
        ([{"type": "output_text", "text": "Hel"}, {"text": "lo."}], "Hello."),
        ([{"type": "thinking", "thinking": [TEXT]}, {"type": "reasoning", "text": "Hm."}, TEXT], "Hel"),
        ([{"type": "refusal", "refusal": "No."}], None),
        *((content, None) for content in ([], ["Hel"], [7], [{"type": "text"}], {}, 7, None)),
        ([{"type": ["text"], "text": "x"}], None),
    ],
)
def test_a_list_as_content_has_its_text(content: Any, text: str | None):
    """Text parts are joined, without what the model thinks. A stream's pieces are read in the same way."""
    assert text == content_text(content)
    assert text == (chat.parse_chat(completion(content)).output or {})["text"]

    event = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": content}}]}
    stream = f"data: {json.dumps(event)}\n\n".encode()
    streamed = raw.read_response(Response(200, {"content-type": "text/event-stream"}, stream, None), None)
    assert (text or "") == streamed.output["text"]

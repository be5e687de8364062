"""`respond` by itself: what is sent, and what becomes of each kind of response. The official client is asked, too."""

from __future__ import annotations

import base64
import json
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from shared.actions import respond
from shared.actions.base import Completed, InputBlobs
from shared.actions.operation import JsonOperation
from shared.contract.names import NamedBlob
from shared.errors import ContentFiltered, InvalidJob, JobCancelled, ProviderUnavailable
from shared.upstream.messages import Response
from tests.support.endpoint import pixels
from tests.support.memory_context import MemoryContext, response
from tests.support.rows import every_row
from tests.support.sdk_types import sdk_type

PDF = b"%PDF-1.7 text"


class Memory:
    """What blobs take of a worker's memory."""


class CreatingContext(MemoryContext):
    """A context whose provider makes responses at once, and whose blobs hold what the test says."""

    memory: Callable[[], object] | None = None
    """Returns the memory of the blobs while the response is created, as long as something refers to it."""

    async def create(self, make: Callable[[], Awaitable[JsonOperation]]) -> tuple[Response, Sequence[str]]:
        """See ResponseCreator."""

        async def checked() -> JsonOperation:
            operation = await make()
            assert self.memory is None or self.memory() is not None
            return operation

        return await MemoryContext.create(self, checked)

    async def read_blobs(self, blobs: Sequence[NamedBlob], *, max_bytes: int) -> InputBlobs:
        """See Context."""
        assert (True, 32 << 20) == (all(each.at.endswith(".blob") for each in blobs), max_bytes)
        memory = Memory()
        self.memory = weakref.ref(memory)
        return InputBlobs([self.blobs[each.blob.name] for each in blobs], memory)


def answered(**members: Any) -> dict[str, Any]:
    """A response that was completed, with a tool call and two texts."""
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1763640000,
        "status": "completed",
        "background": True,
        "model": "gpt-6-luna",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1,
        "top_p": 1,
        "tool_choice": "auto",
        "tools": [],
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": []},
            {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            message("Hello, "),
            message("world."),
        ],
        "usage": {
            "input_tokens": 36,
            "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
            "output_tokens": 87,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 123,
        },
    }
    return body | members


def message(text: str) -> dict[str, Any]:
    """An output item with a text."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


async def run(data: dict[str, Any], body: Any = None, **members: Any) -> tuple[Completed, CreatingContext]:
    """Run a job with this input; the provider answers with `body`."""
    ctx = CreatingContext(lambda _: response(answered() if body is None else body), **members)
    return await respond.run(respond.decode(json.dumps(data).encode()), ctx), ctx  # type: ignore[arg-type]


def sent(ctx: CreatingContext) -> dict[str, Any]:
    """The body of the only request."""
    (operation,) = ctx.called
    assert operation.request.url.endswith("/openai/v1/responses")
    body: dict[str, Any] = json.loads(operation.request.content)
    return body


async def test_members_are_passed_on() -> None:
    """All that the job says, and that the response is made in the background."""
    parameters = {"tools": [{"type": "function", "name": "f"}], "text": {"format": {"type": "json_object"}}, "top_p": 1}
    data = {"input": "Hi", "instructions": "Be brief.", "previous_response_id": "resp_0", "parameters": parameters}
    _, ctx = await run(data)
    assert {"model": "m", **data, **parameters, "background": True, "store": True} == {
        **sent(ctx),
        "parameters": parameters,
    }


async def test_a_job_at_once_says_so_itself() -> None:
    """Nothing is added then."""
    _, ctx = await run({"input": "Hi", "parameters": {"store": False}})
    assert {"model": "m", "input": "Hi", "store": False} == sent(ctx)


async def test_blobs_become_data_urls() -> None:
    """A PDF by its bytes, another file by its name, an image by its bytes; all else of the input stays."""
    content = [
        {"type": "input_text", "text": "x"},
        {"type": "input_file", "blob": "inputs/contoso/a"},
        {"type": "input_file", "blob": "inputs/contoso/notes.txt", "filename": "mine.txt"},
        {"type": "input_image", "blob": "inputs/contoso/b.jpg", "detail": "low"},
    ]
    blobs = {"contoso/a": PDF, "contoso/notes.txt": b"notes", "contoso/b.jpg": pixels()}
    items = [{"role": "user", "content": content}, {"role": "user", "content": "y"}]
    _, ctx = await run({"input": items}, blobs=blobs)

    first, second = sent(ctx)["input"]
    encoded = [base64.b64encode(each).decode() for each in blobs.values()]
    assert items[1] == second
    assert [
        content[0],
        {"type": "input_file", "filename": "a", "file_data": f"data:application/pdf;base64,{encoded[0]}"},
        {"type": "input_file", "filename": "mine.txt", "file_data": f"data:text/plain;base64,{encoded[1]}"},
        {"type": "input_image", "detail": "low", "image_url": f"data:image/png;base64,{encoded[2]}"},
    ] == first["content"]
    assert ctx.memory is not None


async def test_blobs_of_a_tools_results_become_data_urls() -> None:
    """As those of a message."""
    result = {"type": "function_call_output", "call_id": "c"}
    part = {"type": "input_file", "blob": "inputs/contoso/a"}
    _, ctx = await run({"input": [{**result, "output": [part]}, {**result, "output": "x"}]}, blobs={"contoso/a": PDF})
    data = f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"
    output = [{"type": "input_file", "filename": "a", "file_data": data}]
    assert [{**result, "output": output}, {**result, "output": "x"}] == sent(ctx)["input"]


async def test_blobs_that_are_no_image_are_refused() -> None:
    """By a sentence that names the member."""
    items = [{"role": "user", "content": [{"type": "input_image", "blob": "inputs/contoso/a"}] * 3}]
    with pytest.raises(InvalidJob, match=r"content\[0\].blob` names a blob that is no PNG"):
        await run({"input": items}, blobs={"contoso/a": b"text"})


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"source": "static"}, "a connection of the customer's own"),
        ({"endpoint": "https://r.services.ai.azure.com/models"}, "ends in /openai/v1"),
        ({"endpoint": "https://r.openai.azure.com/openai/deployments/d"}, "ends in /openai/v1"),
    ],
    ids=str,
)
async def test_connections_without_responses_are_refused(members: dict[str, Any], sentence: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidJob, match=sentence):
        await run({"input": "Hi"}, **members)


async def test_a_budgets_limit_is_sent() -> None:
    """Unless the job has its own."""
    _, ctx = await run({"input": "Hi"}, output_limit=700)
    assert 700 == sent(ctx)["max_output_tokens"]
    _, ctx = await run({"input": "Hi", "parameters": {"max_output_tokens": 5}}, output_limit=700)
    assert 5 == sent(ctx)["max_output_tokens"]


async def test_a_response_is_read_as_the_official_client_reads_it() -> None:
    """The text is the client's `output_text`; the items stay as they are; the usage is normalised."""
    body = answered()
    outcome, _ = await run({"input": "Hi"}, body)

    official = sdk_type("openai", "responses.Response").model_validate(body)
    output = outcome.output or {}
    assert official.output_text == output["text"] == "Hello, world."
    assert (official.id, official.status) == (output["id"], output["status"])
    assert body["output"] == output["output"]
    (call,) = outcome.calls
    assert call.usage is not None
    assert official.usage is not None
    assert (36, 5, 87, 64, 123) == (
        call.usage.input_tokens,
        call.usage.cached_tokens,
        call.usage.output_tokens,
        call.usage.reasoning_tokens,
        call.usage.total_tokens,
    )
    assert official.usage.total_tokens == call.usage.total_tokens
    assert call.metered_as.startswith("response-")
    assert "succeeded" == outcome.status


@every_row(
    ("members", "status", "error", "calls"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "succeeded", None, 1),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "partial", ContentFiltered, 1),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []},
            "failed",
            ContentFiltered,
            1,
        ),
        ({"status": "failed", "error": {"code": "server_error", "message": "x"}}, "failed", ProviderUnavailable, 1),
        (
            {"status": "failed", "error": {"code": "server_error", "message": "x"}, "usage": None, "output": []},
            "failed",
            ProviderUnavailable,
            0,
        ),
        ({"status": "failed", "usage": None, "output": []}, "failed", ProviderUnavailable, 0),
        ({"status": "failed", "usage": None, "background": False, "output": []}, "failed", ProviderUnavailable, 1),
        ({"status": "cancelled", "usage": None, "output": []}, "failed", JobCancelled, 0),
        ({"status": "cancelled"}, "failed", JobCancelled, 1),
        ({"usage": None}, "succeeded", None, 1),
    ],
    ids=str,
)
async def test_ends_are_as_the_provider_says(
    members: dict[str, Any], status: str, error: type[Exception] | None, calls: int
) -> None:
    """The official client knows each of them, too. A call counts if it was billed for certain."""
    body = answered(**members)
    assert body["status"] == sdk_type("openai", "responses.Response").model_validate(body).status
    outcome, _ = await run({"input": "Hi"}, body)
    assert (status, error, calls) == (outcome.status, outcome.error and type(outcome.error), len(outcome.calls))
    assert body["status"] == (outcome.output or {})["status"]


@every_row(
    "body",
    [b"", b"[]", {}, {"id": "resp_1"}, {"output": []}, b"<html>", answered(status="queued", output=[])],
    ids=str,
)
async def test_what_is_no_response_fails(body: Any) -> None:
    """It may have been billed."""
    outcome, _ = await run({"input": "Hi"}, body)
    assert ("failed", None, 1) == (outcome.status, outcome.output, len(outcome.calls))
    assert isinstance(outcome.error, ProviderUnavailable)


async def test_the_text_is_that_of_messages_alone() -> None:
    """Neither of other items, nor of other parts, whatever a gateway makes of them."""
    hidden = [{"type": "output_text", "text": "hidden"}]
    items = [
        "odd",
        {"type": "reasoning", "content": hidden},
        {"type": "message", "content": "hidden"},
        {
            "type": "message",
            "content": ["odd", {"type": "refusal", "text": "hidden"}, {"type": "output_text", "text": 1}],
        },
        message("Hello."),
    ]
    outcome, _ = await run({"input": "Hi"}, answered(output=items))
    assert ("succeeded", "Hello.", items) == (
        outcome.status,
        *[(outcome.output or {})[name] for name in ("text", "output")],
    )


async def test_what_the_content_filter_found_is_in_the_error() -> None:
    """As the provider says it."""
    filters = [
        {"blocked": True, "source_type": "completion", "content_filter_results": {"violence": {"filtered": True}}}
    ]
    body = answered(status="incomplete", incomplete_details={"reason": "content_filter"}, content_filters=filters)
    outcome, _ = await run({"input": "Hi"}, body)
    assert isinstance(outcome.error, ContentFiltered)
    assert {"content_filter_result": {"violence": {"filtered": True}}} == outcome.error.facts.detail


def test_a_large_response_is_json_text() -> None:
    """It goes into the result as it is."""
    body = answered(output=[message("x" * (5 << 20))])
    outcome = respond.read_response(response(body))
    assert body["output"] == json.loads(bytes((outcome.output or {})["output"]))

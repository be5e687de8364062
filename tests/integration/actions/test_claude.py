"""
The same twenty chat jobs on a connection to OpenAI's API, on one to Claude's, and on a model that answers on the
Responses API alone: the model sees the same, the outputs have one shape, errors one code, and the records are what the
endpoint's journal says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.support.endpoint import reply
from tests.support.harness import Harness

PICTURE = "iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@dataclass(frozen=True)
class Turn:
    """What the model does, in no provider's words."""

    text: str | None = "Hello."
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    """Id, name and arguments of each tool call."""
    reason: str = "stop"
    cached: int = 0
    refuses: tuple[int, str] | None = None
    """The status and the code, or type, of an error in place of an answer."""
    sentence: str = "No."


@dataclass
class Model:
    """A model behind each API, by the path of the request: it plays its turns, and keeps what it saw and sold."""

    turns: list[Turn]
    seen: list[dict[str, Any]] = field(default_factory=list)
    journal: list[tuple[int, int, int]] = field(default_factory=list)
    """Tokens of each answer: all that went in, those of them from a cache, those that came out."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        body, operation = await request.json(), request.path.rpartition("/v1/")[2]
        is_claude = operation == "messages"
        if request.path.startswith(RESPONSES_ONLY) and operation == "chat/completions":
            message = "This model is only supported in v1/responses and not in v1/chat/completions."
            error = {"message": message, "type": "invalid_request_error", "param": "model", "code": None}
            return await reply({"error": error}, status=404)(request)
        seen = SEEN[operation](body)
        self.seen.append(seen)
        turn = self.turns.pop(0)
        if turn.refuses is not None:
            status, code = turn.refuses
            own = {"type": code} if is_claude else {"code": code, "type": "error", "param": None}
            body = {"error": {"message": turn.sentence, **own}} | ({"type": "error"} if is_claude else {})
            return await reply(body, status=status, headers={"request-id": "req_e"})(request)
        into = len(json.dumps(seen["turns"])) // 4 + turn.cached
        tokens = into, turn.cached, len(turn.text or "") + 10 * len(turn.calls)
        self.journal.append(tokens)
        return await reply(ANSWERS[operation](turn, *tokens))(request)


def openai_answer(turn: Turn, into: int, cached: int, out: int) -> dict[str, Any]:
    """Return a turn as OpenAI's API answers it."""
    calls = [
        {"id": identifier, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for identifier, name, arguments in turn.calls
    ]
    message = {"role": "assistant", "content": turn.text} | ({"tool_calls": calls} if calls else {})
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [{"index": 0, "finish_reason": turn.reason, "message": message}],
        "usage": {
            "prompt_tokens": into,
            "completion_tokens": out,
            "total_tokens": into + out,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def claude_answer(turn: Turn, into: int, cached: int, out: int) -> dict[str, Any]:
    """Return a turn as Claude's API answers it."""
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
    calls = [
        {"type": "tool_use", "id": identifier, "name": name, "input": arguments}
        for identifier, name, arguments in turn.calls
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [*([] if turn.text is None else [{"type": "text", "text": turn.text}]), *calls],
        "stop_reason": reasons[turn.reason],
        "stop_sequence": None,
        "usage": {"input_tokens": into - cached, "cache_read_input_tokens": cached, "output_tokens": out},
    }


def seen_by_openai(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model sees of a request to OpenAI's API."""
    system: list[Any] = []
    turns: list[tuple[str, list[Any]]] = []
    for message in body["messages"]:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
        things = [part["text"] if part["type"] == "text" else f"picture {part['image_url']['url']}" for part in parts]
        if message["role"] in {"system", "developer"}:
            system += things
            continue
        if message["role"] == "tool":
            things = [("result", message["tool_call_id"], things)]
        for call in message.get("tool_calls", ()):
            things.append(("call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])))
        role = "assistant" if message["role"] == "assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(things)
        else:
            turns.append((role, things))
    stop = body.get("stop", [])
    form = body.get("response_format", {}).get("json_schema")
    return {
        "system": system,
        "turns": turns,
        "stop": [stop] if isinstance(stop, str) else stop,
        "limit": body.get("max_completion_tokens", body.get("max_tokens")),
        "tools": [tool["function"]["name"] for tool in body.get("tools", ())],
        "schema": form and form["schema"],
        "sampling": [body.get("temperature"), body.get("top_p")],
    }


def seen_by_claude(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model sees of a request to Claude's API. A limit that the job has not set is None."""

    def thing(block: dict[str, Any]) -> Any:
        if block["type"] == "image":
            source = block["source"]
            data = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return f"picture {source['url'] if source['type'] == 'url' else data}"
        if block["type"] == "tool_use":
            return ("call", block["id"], block["name"], block["input"])
        if block["type"] == "tool_result":
            content = block["content"]
            return (
                "result",
                block["tool_use_id"],
                [content] if isinstance(content, str) else list(map(thing, content)),
            )
        return block["text"]

    limit = body["max_tokens"]
    return {
        "system": [block["text"] for block in body.get("system", ())],
        "turns": [(message["role"], list(map(thing, message["content"]))) for message in body["messages"]],
        "stop": body.get("stop_sequences", []),
        "limit": None if limit == 16_384 else limit,
        "tools": [tool["name"] for tool in body.get("tools", ())],
        "schema": body.get("output_config", {}).get("format", {}).get("schema"),
        "sampling": [body.get("temperature"), body.get("top_p")],
    }


def responses_answer(turn: Turn, into: int, cached: int, out: int) -> dict[str, Any]:
    """Return a turn as the Responses API answers it."""
    content = [{"type": "output_text", "text": turn.text, "annotations": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    calls = [
        {"type": "function_call", "id": "fc_1", "call_id": identifier, "name": name, "arguments": json.dumps(arguments)}
        for identifier, name, arguments in turn.calls
    ]
    reason = {"length": "max_output_tokens"}.get(turn.reason, turn.reason)
    is_whole = reason in {"stop", "tool_calls"}
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed" if is_whole else "incomplete",
        "incomplete_details": None if is_whole else {"reason": reason},
        "error": None,
        "model": "m-1",
        "output": [{"type": "reasoning", "id": "rs_1", "summary": []}, *([message] if turn.text else []), *calls],
        "usage": {
            "input_tokens": into,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": into + out,
        },
    }


def seen_by_responses(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model sees of a request to the Responses API, which has no stops."""
    assert body["store"] is False
    system: list[Any] = []
    turns: list[tuple[str, list[Any]]] = []
    for item in body["input"]:
        kind, role = item.get("type", "message"), item.get("role", "user")
        content = item.get("content", item.get("output"))
        parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content or []
        things = [part["text"] if part["type"] == "input_text" else f"picture {part['image_url']}" for part in parts]
        if kind == "function_call":
            role, things = "assistant", [("call", item["call_id"], item["name"], json.loads(item["arguments"]))]
        if kind == "function_call_output":
            things = [("result", item["call_id"], things)]
        if role in {"system", "developer"}:
            system += things
        elif turns and turns[-1][0] == role:
            turns[-1][1].extend(things)
        else:
            turns.append((role, things))
    form = body.get("text", {}).get("format")
    return {
        "system": system,
        "turns": turns,
        "stop": [],
        "limit": body.get("max_output_tokens"),
        "tools": [tool["name"] for tool in body.get("tools", ())],
        "schema": form and form["schema"],
        "sampling": [body.get("temperature"), body.get("top_p")],
    }


def by_responses(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model sees of a job by the Responses API: no stops, and no limit of less than 16 tokens."""
    return {**seen, "stop": [], "limit": seen["limit"] and max(seen["limit"], 16)}


RESPONSES_ONLY = "/responses-only"
"""How the paths of a model begin that refuses chat completions."""
SEEN = {"chat/completions": seen_by_openai, "messages": seen_by_claude, "responses": seen_by_responses}
ANSWERS = {"chat/completions": openai_answer, "messages": claude_answer, "responses": responses_answer}
CALL = ("call_1", "get_weather", {"city": "Zürich", "days": [1, None]})
ASKED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Zürich","days":[1,null]}'},
}
USER = {"role": "user", "content": "Hello?"}
Job = tuple[dict[str, Any], list[Turn], str, str | None]
"""The job's input, what the model does, and the status and error code of the result."""
JOBS: dict[str, Job] = {
    "a prompt": ({"prompt": "Hello?"}, [Turn()], "succeeded", None),
    "a system message": ({"prompt": "Hello?", "system": "Be brief."}, [Turn()], "succeeded", None),
    "a developer's, too": (
        {"messages": [{"role": "system", "content": "A."}, {"role": "developer", "content": "B."}, USER]},
        [Turn()],
        "succeeded",
        None,
    ),
    "a history": (
        {"history": [USER, {"role": "assistant", "content": "Yes?"}], "prompt": "And?"},
        [Turn(cached=40)],
        "succeeded",
        None,
    ),
    "a context and a template": (
        {"prompt": "Why?", "context": "A text.", "template": "@@context @@userPrompt"},
        [Turn()],
        "succeeded",
        None,
    ),
    "two users in a row": ({"messages": [USER, USER | {"content": "Anyone?"}]}, [Turn()], "succeeded", None),
    "stop": ({"prompt": "Count.", "parameters": {"stop": "5"}}, [Turn("1 2 3 4 ")], "succeeded", None),
    "several stops": ({"prompt": "Count.", "parameters": {"stop": ["5", "END"]}}, [Turn("1 ")], "succeeded", None),
    "a limit": (
        {"prompt": "Long?", "parameters": {"max_completion_tokens": 3}},
        [Turn("A b", reason="length")],
        "succeeded",
        None,
    ),
    "sampling": (
        {"prompt": "A?", "parameters": {"temperature": 0.2, "top_p": 0.9, "n": 1}},
        [Turn()],
        "succeeded",
        None,
    ),
    "tools": (
        {"prompt": "Weather?", "parameters": {"tools": [WEATHER], "tool_choice": "auto"}},
        [Turn(None, (CALL,), "tool_calls")],
        "succeeded",
        None,
    ),
    "tools side by side, after words": (
        {"prompt": "Weather?", "parameters": {"tools": [WEATHER]}},
        [Turn("Let me see.", (CALL, ("call_2", "get_weather", {})), "tool_calls")],
        "succeeded",
        None,
    ),
    "a tool's result": (
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": [ASKED]},
                {"role": "tool", "tool_call_id": "call_1", "content": '{"rain": true}'},
            ],
            "parameters": {"tools": [WEATHER]},
        },
        [Turn("Rain.")],
        "succeeded",
        None,
    ),
    "a picture by URL": (
        {
            "messages": [
                USER
                | {
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
                    ]
                }
            ]
        },
        [Turn("A cat.")],
        "succeeded",
        None,
    ),
    "a picture as data": (
        {
            "messages": [
                USER | {"content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]}
            ]
        },
        [Turn("A dog.")],
        "succeeded",
        None,
    ),
    "a schema": (
        {
            "prompt": "JSON?",
            "parameters": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
        },
        [Turn('{"a": "b"}')],
        "succeeded",
        None,
    ),
    "long": ({"prompt": "Wörter ☂ " * 3000}, [Turn("Viele. 😀 " * 1200)], "succeeded", None),
    "an answer that is filtered": (
        {"prompt": "Bad?"},
        [Turn("Well, ", reason="content_filter")],
        "failed",
        "content_filtered",
    ),
    "refused": ({"prompt": "A?"}, [Turn(refuses=(400, "invalid_request_error"))], "failed", "request_rejected"),
    "throttled, then answered": (
        {"prompt": "A?"},
        [Turn(refuses=(429, "rate_limit_error")), Turn(refuses=(503, "overloaded_error")), Turn()],
        "succeeded",
        None,
    ),
    "a model that is not there": (
        {"prompt": "A?"},
        [Turn(refuses=(404, "model_not_found"))],
        "failed",
        "model_not_found",
    ),
    "a key that is refused": (
        {"prompt": "A?"},
        [Turn(refuses=(401, "authentication_error"))],
        "failed",
        "credential_rejected",
    ),
}
OWN = {"stop_reason", "stop_sequence"}
"""Members of a choice that only Claude's have."""


async def run(harness: Harness, job: Job, **secret: Any) -> tuple[dict[str, Any], Model]:
    """Return the result of a job on a connection, and the model that it called."""
    customer, model = harness.customer(**secret), Model(list(job[1]))
    customer.account.answers[:] = [model.answer] * 6
    result = await customer.run(input=job[0], options={"retry_delay_ms": 1})
    return result, model


@pytest.mark.parametrize("name", JOBS)
async def test_a_job_is_the_same_on_all(harness: Harness, name: str):
    """
    The model of each connection sees the same; the result has the same output, member for member, the same usage and
    the same error; and the usage records are the endpoint's journal.
    """
    job = JOBS[name]
    url = harness.endpoint.url

    theirs, openai = await run(harness, job, endpoint=f"{url}/v1", provider="openai")
    ours, claude = await run(harness, job, endpoint=f"{url}/anthropic", provider="anthropic")
    carried, responses = await run(harness, job, endpoint=f"{url}{RESPONSES_ONLY}/v1", provider="openai")

    assert openai.seen == claude.seen
    assert list(map(by_responses, openai.seen)) == responses.seen
    assert openai.journal == claude.journal == responses.journal
    counts = ("calls", "input_tokens", "output_tokens")
    for result in (theirs, ours, carried):
        assert (job[2], job[3]) == (result["status"], (result.get("error") or {}).get("code"))
        assert comparable(theirs.get("output")) == comparable(result.get("output"))
        assert [theirs["usage"][count] for count in counts] == [result["usage"][count] for count in counts]
    if carried.get("output"):
        assert "chat/completions became responses" == carried["output"]["adapted"][0]


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        pytest.param("openai", "/v1", marks=pytest.mark.long),
        ("anthropic", "/anthropic"),
        pytest.param("openai", f"{RESPONSES_ONLY}/v1", marks=pytest.mark.long),
    ],
)
async def test_records_are_the_journal(harness: Harness, provider: str, path: str):
    """All of the jobs on one connection: each answer has one record, with the endpoint's counts."""
    customer = harness.customer(endpoint=f"{harness.endpoint.url}{path}", provider=provider)
    journal = []
    for number, (request_input, turns, *_) in enumerate(JOBS.values()):
        model = Model(list(turns))
        customer.account.answers[:] = [model.answer] * 6
        await customer.run(job_id=f"job-{number}", input=request_input, options={"retry_delay_ms": 1})
        journal += model.journal

    rows = await customer.usage()

    assert sorted(journal) == sorted(
        (row["input_tokens"], row.get("cached_tokens") or 0, row["output_tokens"]) for row in rows
    )
    assert {"answered"} == {row["outcome"] for row in rows}


def comparable(output: dict[str, Any] | None) -> Any:
    """Return an output without ids and adaptations, and tool calls' arguments as values; else it is whole."""
    if output is None:
        return None
    choices = [{name: value for name, value in choice.items() if name not in OWN} for choice in output["choices"]]
    for choice in choices:
        calls = choice["message"].get("tool_calls", ())
        choice["message"] = choice["message"] | (
            {"tool_calls": [call | {"function": arguments_of(call)} for call in calls]} if calls else {}
        )
    members = {name: value for name, value in output.items() if name not in {"id", "adapted"}}
    return {**members, "choices": choices}


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the function of a tool call, its arguments as a value."""
    return {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}

"""The tools for agents: who may use them, what of the protocol they speak, and what they refuse."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi.examples import JOB
from shared.http.mcp_messages import VERSIONS, McpError, read_message
from shared.http.mcp_tools import _result, list_tools
from shared.http.messages import Response
from shared.http.request_parsing import MAX_BODY_BYTES
from tests.support.http_client import HttpResponse
from tests.support.memory_app import SETTINGS, MemoryApp, tied
from tests.support.principals import token
from tests.support.rows import every_row

ON = replace(SETTINGS, mcp_enabled=True)
ERA = "2026-07-28"
CHAT = {"customer": "contoso", "job_id": "job-1", "action": "chat", "input": {"prompt": "MARKED?"}}
META = {
    "io.modelcontextprotocol/protocolVersion": ERA,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
def app() -> MemoryApp:
    """An app whose tools are on."""
    return MemoryApp(settings=ON)


async def ask(app: MemoryApp, method: str, params: Any = None, headers: Any = None, **members: Any) -> HttpResponse:
    """The response to a request of the protocol."""
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}, **members}
    return await app.send("POST", "mcp", message, headers=tied() if headers is None else headers)


async def call(app: MemoryApp, tool: str, headers: Any = None, **arguments: Any) -> dict[str, Any]:
    """The result of a tool."""
    response = await ask(app, "tools/call", {"name": tool, "arguments": arguments}, headers)
    assert 200 == response.status
    result: dict[str, Any] = response.json["result"]
    return result


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_off_by_default(method: str):
    """All methods are a 404 until the setting is on."""
    (await MemoryApp().send(method, "mcp", {} if method == "POST" else None)).assert_problem(404, "not_found", "MCP_")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_nothing_but_post(app: MemoryApp, method: str):
    """405 with the method that there is, as the protocol asks for."""
    response = await app.send(method, "mcp")

    response.assert_problem(405, "method_not_allowed")
    assert "POST" == response.headers["Allow"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"origin": "http://127.0.0.1:7071"}, 403, "forbidden"),
        ({"origin": "null"}, 403, "forbidden"),
        ({"accept": "text/event-stream"}, 406, "not_acceptable"),
        ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content-encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
async def test_what_is_refused_before_it_is_read(app: MemoryApp, headers: dict[str, str], status: int, code: str):
    """A page in a browser, a client that takes no JSON, a body that is not declared as JSON, a compressed one."""
    refused = await ask(app, "tools/call", {"name": "submit_job", "arguments": {"job": CHAT}}, tied() | headers)

    refused.assert_problem(status, code)
    assert {} == app.memory.queues.sent


async def test_a_body_has_the_bound_of_a_job(app: MemoryApp):
    """One byte more is a 413."""
    (await app.send("POST", "mcp", body=b" " * (MAX_BODY_BYTES + 1))).assert_problem(413, "too_large")
    (await app.send("POST", "mcp")).assert_problem(400, "invalid_request", "empty")


async def test_accept_is_taken_as_clients_send_it(app: MemoryApp):
    """The protocol's own, and none."""
    for accept in ("application/json, text/event-stream", "*/*", ""):
        assert 200 == (await ask(app, "ping", headers=tied() | {"accept": accept})).status


@pytest.mark.parametrize("wanted", [*VERSIONS[1:], "2024-11-05", ERA, "next"])
async def test_initialize_negotiates_the_version(app: MemoryApp, wanted: str):
    """A version that is spoken is taken, any other is answered with the newest one that has `initialize`."""
    params = {"protocolVersion": wanted, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    result = (await ask(app, "initialize", params)).json["result"]

    assert (wanted if wanted in VERSIONS[1:] else VERSIONS[1]) == result["protocolVersion"]
    assert {"tools": {}} == result["capabilities"]


@pytest.mark.parametrize("version", [None, *VERSIONS])
async def test_notifications_are_taken(app: MemoryApp, version: str | None):
    """202 without a body, and nothing is done: also for a tool's call that nobody wants the answer of."""
    headers = tied() | ({} if version is None else {"mcp-protocol-version": version})
    for method in ("notifications/initialized", "tools/call"):
        message = {"jsonrpc": "2.0", "method": method, "params": {"name": "submit_job", "arguments": {"job": CHAT}}}
        response = await app.send("POST", "mcp", message, headers=headers)
        assert (202, b"") == (response.status, response.body)
    assert {} == app.memory.queues.sent


@every_row(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"\xff", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping\xff"}', -32700),
        (b"[]", -32600),
        (b' [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
        (b"null", -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": ' + b"[" * 250_000, -32600),
    ],
    ids=range(12),
)
async def test_what_is_no_message_is_an_error_without_an_id(app: MemoryApp, body: bytes, code: int):
    """400 with JSON-RPC's code: not JSON, a batch, a response, a wrong member, too many lists."""
    response = await app.send("POST", "mcp", body=body)

    assert (400, code, None) == (response.status, response.json["error"]["code"], response.json["id"])


@given(st.binary() | st.text().map(str.encode) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_no_body_breaks_the_parser(body: bytes | str):
    """Whatever comes is a message or one of the two errors."""
    codes = set()
    try:
        read_message(body if isinstance(body, bytes) else body.encode())
    except McpError as exc:
        codes.add(exc.code)

    assert codes <= {-32700, -32600}


MEMBERS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.text()},
    optional={"id": st.text() | st.integers(), "params": st.dictionaries(st.text(), st.integers()), "x": st.text()},
)


@given(MEMBERS)
def test_every_message_is_read_as_it_is(members: dict[str, Any]):
    """Method and id come back unchanged; members that nobody knows are ignored."""
    message = read_message(json.dumps(members).encode())

    assert members["method"] == message.method
    assert members.get("id") == (message.id if "id" in members else None)


async def test_what_nobody_knows_is_an_error_with_the_id(app: MemoryApp):
    """An unknown method, tool or version, and parameters of another form."""
    unknown = await ask(app, "resources/list")
    tool = await ask(app, "tools/call", {"name": "rm"})
    params = await ask(app, "tools/call", {"name": 1})
    version = await ask(app, "ping", headers=tied() | {"mcp-protocol-version": "2020-01-01"})
    discover = await ask(app, "server/discover")

    errors = [(each.status, each.json["id"], each.json["error"]["code"]) for each in (unknown, tool, params, version)]
    assert [(200, 7, -32601), (200, 7, -32602), (200, 7, -32602), (400, 7, -32022)] == errors
    assert list(VERSIONS) == version.json["error"]["data"]["supported"]
    assert -32601 == discover.json["error"]["code"]


def stateless(method: str, name: str | None = None) -> dict[str, str]:
    """The headers of the version without `initialize`."""
    named = {} if name is None else {"mcp-name": name}
    return tied() | {"mcp-protocol-version": ERA, "mcp-method": method} | named


async def test_the_version_without_initialize(app: MemoryApp):
    """Each request says what it needs; a result says that it is complete, and how long the tools may be kept."""
    discovered = await ask(app, "server/discover", {"_meta": META}, stateless("server/discover"))
    listed = await ask(app, "tools/list", {"_meta": META}, stateless("tools/list"))
    params = {"_meta": META, "name": "job_result", "arguments": {"customer": "contoso", "job_id": "none"}}
    for name in ("job_result", "=?base64?am9iX3Jlc3VsdA==?="):
        called = await ask(app, "tools/call", params, stateless("tools/call", name))
        assert ("complete", True) == (called.json["result"]["resultType"], called.json["result"]["isError"])

    assert list(VERSIONS) == discovered.json["result"]["supportedVersions"]
    assert ("complete", "public") == (listed.json["result"]["resultType"], listed.json["result"]["cacheScope"])


@every_row(
    ("method", "params", "headers", "status", "code"),
    [
        ("tools/list", {}, stateless("tools/list"), 400, -32602),
        ("tools/list", {"_meta": 1}, stateless("tools/list"), 400, -32602),
        ("tools/list", {"_meta": META}, stateless("tools/call"), 400, -32020),
        ("tools/call", {"_meta": META, "name": "submit_job"}, stateless("tools/call", "job_result"), 400, -32020),
        ("tools/call", {"_meta": META, "name": "submit_job"}, stateless("tools/call"), 400, -32020),
        ("tools/call", {"_meta": META, "name": "x"}, stateless("tools/call", "=?base64?*?="), 400, -32020),
        ("tools/list", {"_meta": {**META, next(iter(META)): "x"}}, stateless("tools/list"), 400, -32020),
        ("ping", {"_meta": META}, stateless("ping"), 404, -32601),
        ("initialize", {"_meta": META}, stateless("initialize"), 404, -32601),
    ],
    ids=range(9),
)
async def test_its_headers_say_what_the_body_says(
    app: MemoryApp, method: str, params: Any, headers: dict[str, str], status: int, code: int
):
    """Whoever routes by headers must not be told another thing than the app; what it has no more is a 404."""
    response = await ask(app, method, params, headers)

    assert (status, code, 7) == (response.status, response.json["error"]["code"], response.json["id"])


async def test_a_job_is_submitted_once(app: MemoryApp):
    """The status document, as structured content and text; the same job again is the same, other content a conflict."""
    first, again = [await call(app, "submit_job", job=CHAT) for _ in range(2)]
    other = await call(app, "submit_job", job=CHAT | {"input": {"prompt": "Other"}})

    assert ("queued", False) == (first["structuredContent"]["status"], first["isError"])
    assert first == again
    assert first["structuredContent"] == json.loads(first["content"][0]["text"])
    assert (True, "conflict") == (other["isError"], other["structuredContent"]["error"]["code"])
    assert other["content"][0]["text"].startswith("conflict: ")
    assert 1 == len(app.memory.queues.sent["jobs"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`arguments.job` is missing"),
        ({"job": CHAT, "wait": 5}, "`arguments.wait`"),
        ({"job": CHAT, "wait_s": 201}, "`arguments.wait_s`"),
        ({"job": CHAT | {"input": {"promt": "x"}}}, "`input.promt` is not a known member"),
        ({"job": []}, "The job must be an object"),
        ({"job": CHAT | {"action": "statement"}}, "`action` must be one of"),
    ],
)
async def test_an_error_of_the_contract_is_the_tools(app: MemoryApp, arguments: dict[str, Any], message: str):
    """With the code and the sentence that the route has: the agent can correct its call."""
    result = await call(app, "submit_job", **arguments)

    assert (True, "invalid_job") == (result["isError"], result["structuredContent"]["error"]["code"])
    assert message in result["structuredContent"]["error"]["message"]
    assert {} == app.memory.queues.sent


async def test_each_tool_needs_its_role(app: MemoryApp):
    """Either role opens the route, and one tool; without Jobs.Read nothing waits, and no result is returned."""
    submit, read = token("Jobs.Submit", customer="contoso"), token("Jobs.Read", customer="contoso")
    named = {"customer": "contoso", "job_id": "job-1"}

    submitted = await call(app, "submit_job", submit, job=CHAT, wait_s=100)
    refused = [await call(app, "submit_job", read, job=CHAT), await call(app, "job_result", submit, **named)]
    followed = await call(app, "job_result", read, **named)

    assert ("queued", "queued") == (
        submitted["structuredContent"]["status"],
        followed["structuredContent"]["status"],
    )
    assert ["forbidden"] * 2 == [each["structuredContent"]["error"]["code"] for each in refused]
    (await ask(app, "ping", headers=token("Billing.Read", customer="contoso"))).assert_problem(403, "forbidden")
    (await ask(app, "ping", headers={})).assert_problem(401, "unauthorized")


async def test_a_tied_caller_reaches_its_customer_alone(app: MemoryApp):
    """It submits nothing for another, and another's job is, word for word, one that does not exist."""
    await call(app, "submit_job", job=CHAT)
    app.memory.queues.sent.clear()
    before = dict(app.table.rows)

    submitted = await call(app, "submit_job", tied("fabrikam"), job=CHAT | {"job_id": "job-2"})
    theirs, nobodys, odd = [
        await call(app, "job_result", tied("fabrikam"), customer=customer, job_id=job_id)
        for customer, job_id in (("contoso", "job-1"), ("fabrikam", "job-1"), ("fabrikam", "../x"))
    ]

    assert "forbidden" == submitted["structuredContent"]["error"]["code"]
    assert "not_found" == theirs["structuredContent"]["error"]["code"]
    assert theirs == nobodys == odd
    assert ({}, before) == (app.memory.queues.sent, dict(app.table.rows))


async def test_nothing_of_a_prompt_is_logged(app: MemoryApp, caplog: pytest.LogCaptureFixture):
    """Neither of a job that is accepted, nor of one that is refused, nor of a message that can't be read."""
    caplog.set_level(logging.DEBUG)
    await call(app, "submit_job", job=CHAT)
    await call(app, "submit_job", job=CHAT | {"input": {"prompt": "MARKED again"}})
    await call(app, "submit_job", job=CHAT | {"MARKED": 1})
    await app.send("POST", "mcp", body=b'{"MARKED')

    assert "MARKED" not in caplog.text


async def test_a_fault_is_a_tools_error_and_is_logged(app: MemoryApp, caplog: pytest.LogCaptureFixture):
    """As on every route: the agent gets a code, our sentence and when to try again, and the log says what is down."""
    app.table.down = True
    result = await call(app, "job_result", customer="contoso", job_id="job-1")

    error = result["structuredContent"]["error"]
    assert (True, "unavailable") == (result["isError"], error["code"])
    assert error["retry_after_s"] > 0
    assert "request_failed route=use_tools StorageUnavailable" in caplog.text


async def test_a_long_result_is_sent_once():
    """An agent's client holds it once as structured content; the text says where it is."""
    short, long = [
        _result(Response(200, json.dumps({"status": "succeeded", "x": "x" * size}).encode())) for size in (1, 300_000)
    ]

    assert json.loads(short["content"][0]["text"]) == json.loads(bytes(short["structuredContent"]))
    assert "structured content" in long["content"][0]["text"]


def test_the_schemas_say_what_is_right():
    """An agent that follows them sends what the decoders take: valid, complete, and with the action's own input."""
    tools = {tool["name"]: tool for tool in json.loads(bytes(list_tools()))}
    assert ["submit_job", "job_result"] == list(tools)
    for tool in tools.values():
        jsonschema_rs.meta.validate(tool["inputSchema"])
        assert "#/components" not in json.dumps(tool)
    is_valid = jsonschema_rs.validator_for(tools["submit_job"]["inputSchema"]).is_valid

    assert is_valid({"job": JOB, "wait_s": 30})
    assert is_valid({"job": {"customer": "contoso", "action": "embed", "input": {"texts": ["x"]}}})
    assert is_valid({"job": {"customer": "contoso", "action": "chat", "input": {"input_blob": "inputs/contoso/x"}}})
    for wrong in (
        {"job": JOB, "wait_s": 201},
        {"job": JOB | {"action": "embed"}},
        {"job": JOB | {"action": "statement"}},
        {"job": JOB | {"urgency": 1}},
        {"job": JOB | {"input_blob": "inputs/contoso/x"}},
        {"job": {"customer": "contoso", "action": "chat"}},
    ):
        assert not is_valid(wrong), wrong

"""
The Model Context Protocol, by which agents submit jobs and read results. Off unless MCP_ENABLED is true.

Streamable HTTP without sessions and without streams: each message is a POST, and its answer is the response. There is
nothing to listen to with GET, or to end with DELETE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from shared.http.auth import Caller
from shared.http.jobs import JobsResource
from shared.http.mcp_messages import (
    METHOD_NOT_FOUND,
    STATELESS,
    UNNAMED,
    VERSIONS,
    WITH_INITIALIZE,
    McpError,
    Message,
    check_envelope,
    read_message,
    read_params,
    read_version,
    respond,
    respond_error,
)
from shared.http.mcp_tools import AgentTools, list_tools
from shared.http.messages import JSON, Request, Response
from shared.http.problems import Problem
from shared.http.request_parsing import check_body, check_media_type
from shared.http.usage import negotiate
from shared.settings import Settings

_SERVER = {"name": "customer-ai-jobs", "version": "1"}
_CAPABILITIES: dict[str, Any] = {"tools": {}}
_INSTRUCTIONS = (
    "Runs AI jobs on customers' own subscriptions. Give each job a job_id of your own: submitting it again under that "
    "id returns the same job, and nothing is bought twice. A job that is not done in time goes on: read it with "
    "job_result."
)
_CACHED = {"ttlMs": 3_600_000, "cacheScope": "public"}
"""The tools are the same for everybody until the next deploy."""


class _Initialize(Struct, frozen=True):
    protocol_version: str = msgspec.field(name="protocolVersion")


class _Call(Struct, frozen=True):
    name: str
    arguments: Raw = Raw(b"{}")


@dataclass(frozen=True, slots=True)
class McpResource:
    """The route of the tools."""

    settings: Settings
    jobs: JobsResource

    async def respond(self, request: Request, caller: Caller) -> Response:
        """`POST /mcp`; 405 for other methods, and 404 for all of them unless the setting is on."""
        check_media_type(request)
        if not self.settings.mcp_enabled:
            raise Problem(404, "not_found", "The tools for agents are off: MCP_ENABLED turns them on.")
        if "origin" in request.headers:
            # No page in a browser uses them. One whose name is made to lead here would (DNS rebinding).
            raise Problem(403, "forbidden", "A request with the header `Origin`, of a page in a browser, is refused.")
        if request.method != "POST":
            why = "Only POST is supported: there is no session, and no stream of events."
            raise Problem(405, "method_not_allowed", why, {"Allow": "POST"})
        check_body(request)
        negotiate(request.headers.get("accept", ""), (JSON,))
        message: Message | None = None
        version = UNNAMED
        try:
            message = read_message(request.body)
            version = read_version(request)
            if message.id is UNSET:
                return Response(202)
            if version == STATELESS:
                check_envelope(request.headers, message)
            return respond(message, version, await self._result(message, version, caller))
        except McpError as exc:
            return respond_error(exc, message, version)

    async def _result(self, message: Message, version: str, caller: Caller) -> dict[str, Any]:
        is_stateless = version == STATELESS
        if message.method == "tools/call":
            call = read_params(message, _Call)
            return await AgentTools(self.jobs, "use_tools").call(call.name, call.arguments, caller)
        if message.method == "tools/list":
            return {"tools": list_tools(), **(_CACHED if is_stateless else {})}
        described = {"capabilities": _CAPABILITIES, "instructions": _INSTRUCTIONS}
        if is_stateless and message.method == "server/discover":
            meta = {"io.modelcontextprotocol/serverInfo": _SERVER}
            return {"supportedVersions": VERSIONS, **described, **_CACHED, "_meta": meta}
        if not is_stateless and message.method == "initialize":
            wanted = read_params(message, _Initialize).protocol_version
            chosen = wanted if wanted in WITH_INITIALIZE else WITH_INITIALIZE[0]
            return {"protocolVersion": chosen, "serverInfo": _SERVER, **described}
        if not is_stateless and message.method == "ping":
            return {}
        raise McpError(METHOD_NOT_FOUND, "There is no such method.", status=200)

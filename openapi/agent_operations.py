"""The operation of the tools for agents, with its example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openapi.operation import Operation, Parameter, Response
from openapi.shared_parts import COMPRESSED, JSON, TOO_LARGE
from shared.http.mcp_messages import VERSIONS

_ID = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {**_ID, "description": "Left out of a notification."},
        "method": {"type": "string"},
        "params": {"type": "object"},
    },
    "required": ["jsonrpc", "method"],
}
_RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"anyOf": [*_ID["anyOf"], {"type": "null"}]},
        "result": {"type": "object"},
        "error": {
            "type": "object",
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        },
    },
    "required": ["jsonrpc", "id"],
}
AGENT_OPERATIONS: Mapping[str, Operation] = {
    "use_tools": Operation(
        "The Model Context Protocol over streamable HTTP, without sessions and streams: the tools `submit_job` and "
        "`job_result`. The first needs the role Jobs.Submit, the second Jobs.Read. What the "
        "routes of jobs refuse is the result of the tool, with `isError`.",
        {
            200: Response(
                "The result, or why there is none.",
                {JSON: _RESULT},
                example={
                    "jsonrpc": "2.0",
                    "id": 1,
                    "result": {"tools": []},
                },
            ),
            202: Response("The notification was taken."),
            400: Response("The message is invalid.", {JSON: _RESULT}),
            404: Response("There is no such method.", {JSON: _RESULT}),
        },
        {
            400: "`invalid_request`: the body is empty. Azure's host also delivers a body that was sent in chunks as "
            "an empty one.",
            403: "`forbidden`: the token lacks both roles or reaches no customer, or the request has an `Origin`.",
            404: "`not_found`: the tools are off.",
            405: "`method_not_allowed`: the method is GET or DELETE.",
            406: "`not_acceptable`: `Accept` does not allow JSON.",
            413: TOO_LARGE,
            415: COMPRESSED,
        },
        (
            Parameter(
                "MCP-Protocol-Version",
                "header",
                f"One of {', '.join(VERSIONS)}.",
                {"type": "string", "examples": [VERSIONS[1]]},
            ),
        ),
        body=_MESSAGE,
        body_example={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
        header_example={"MCP-Protocol-Version": VERSIONS[1]},
    ),
}

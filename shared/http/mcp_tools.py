"""The tools for agents: `submit_job` and `job_result`. They do what the routes of jobs do, with the same checks."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.job import decode_job
from shared.http.app import logged_problem
from shared.http.auth import Caller
from shared.http.jobs import JobsResource
from shared.http.mcp_messages import INVALID_PARAMS, McpError
from shared.http.messages import Request, Response
from shared.http.request_parsing import MAX_WAIT_S
from shared.http.static_pages import FOLDER

TOOLS_FILE = "mcp_tools.json"
MAX_TEXT_BYTES = 262_144
"""The longest result that is repeated as a text, for agents that read no structured content."""

Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT_S)]


class SubmitJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of `submit_job`."""

    job: Raw
    wait_s: Wait = 0
    """Seconds to wait for the result. If it is not ready by then, the job's status is returned."""


class JobResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of `job_result`."""

    customer: str
    """The job's `customer`."""
    job_id: str
    """The job's `job_id`."""
    wait_s: Wait = 0
    """Seconds to wait for the result. If it is not ready by then, the job's status is returned."""


class _Ended(Struct, frozen=True):
    status: str


@cache
def list_tools() -> Raw:
    """The tools with their schemas, which `python -m openapi` writes."""
    return Raw((FOLDER / TOOLS_FILE).read_bytes())


@dataclass(frozen=True, slots=True)
class AgentTools:
    """The tools, on the routes of jobs. `route` is the name of their own route in the log."""

    jobs: JobsResource
    route: str

    async def call(self, name: str, arguments: Raw, caller: Caller) -> dict[str, Any]:
        """The result of a call: an error of the contract is one, too. Raises McpError for an unknown tool."""
        tools = {"submit_job": self._submit_job, "job_result": self._job_result}
        if name not in tools:
            raise McpError(INVALID_PARAMS, f"There is no such tool: there are {' and '.join(tools)}.", status=200)
        try:
            return _result(await tools[name](arguments, caller))
        except Exception as exc:  # noqa: BLE001  # as on every route: a code and a sentence, and never the error's text
            problem = logged_problem(exc, self.route)
            error: dict[str, Any] = {"code": problem.code, "message": str(problem)}
            if "Retry-After" in problem.headers:
                error["retry_after_s"] = int(problem.headers["Retry-After"])
            return _content(f"{problem.code}: {problem}", {"error": error}, is_error=True)

    async def _submit_job(self, arguments: Raw, caller: Caller) -> Response:
        caller.check_role("Jobs.Submit")
        call = decode(arguments, SubmitJob, at="arguments")
        job = decode_job(bytes(call.job), default_id=uuid.uuid4().hex)
        caller.check_writes(job.customer)
        return await self.jobs.accept_waiting(job, call.wait_s or None, reads_results=caller.has_role("Jobs.Read"))

    async def _job_result(self, arguments: Raw, caller: Caller) -> Response:
        caller.check_role("Jobs.Read")
        call = decode(arguments, JobResult, at="arguments")
        params = {"customer": call.customer, "job_id": call.job_id}
        return await self.jobs.follow(Request("GET", "", params), caller, call.wait_s)


def _result(response: Response) -> dict[str, Any]:
    body = response.body
    text = body.decode() if len(body) <= MAX_TEXT_BYTES else "The result is in the structured content."
    return _content(text, Raw(body), is_error=msgspec.json.decode(body, type=_Ended).status == "failed")


def _content(text: str, structured: Any, *, is_error: bool) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": is_error}

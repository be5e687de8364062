"""
Errors as HTTP responses: `application/problem+json` (RFC 9457) with the contract's `code`.

A refusal that only HTTP knows, such as an unknown id, is raised as a Problem; `problem_for` maps all other errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from shared.connections.store import VaultForbids
from shared.contract.documents import ProblemDocument
from shared.errors import (
    ConnectionFault,
    InvalidJob,
    JobConflict,
    JobError,
    RetryLater,
    SettingInvalid,
    Throttled,
    UpstreamError,
)
from shared.http.messages import Response, json_response

PROBLEM_JSON = "application/problem+json"
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""RFC 9110's, of which Python knew older ones before 3.13. The others are the same in all versions."""
_STATUSES: Mapping[type[JobError], int] = {InvalidJob: 400, JobConflict: 409, ConnectionFault: 422, UpstreamError: 502}


class Problem(Exception):
    """A refusal with its status and code. The message is a sentence that a person can act on."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


def not_found(what: str) -> Problem:
    """404, in the same words whether the thing never existed, is deleted, or belongs to another customer."""
    return Problem(404, "not_found", f"There is no such {what}.")


def invalid_request(message: str) -> Problem:
    """400 with the code `invalid_request`."""
    return Problem(400, "invalid_request", message)


def problem_for(error: Exception) -> Problem:
    """The problem that `error` is to a caller; an unexpected error is `internal`, without its text."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RetryLater):
        if isinstance(error, SettingInvalid):  # which does not pass by itself
            return Problem(503, "unavailable", str(error))
        headers = {"Retry-After": str(max(1, round(error.delay_s)))}
        unavailable = "Storage or Key Vault does not respond: try again later."
        return Problem(503, "unavailable", str(error) if isinstance(error, Throttled) else unavailable, headers)
    if isinstance(error, VaultForbids):  # which does not pass by itself either
        return Problem(503, "unavailable", str(error))
    if isinstance(error, JobError):
        status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)
        return Problem(status, error.code, str(error))
    return Problem(500, "internal", "The request failed because of a fault in the app; the app's log describes it.")


def problem_response(problem: Problem) -> Response:
    """The problem as a response."""
    document = ProblemDocument(
        type="about:blank",
        title=_TITLES.get(problem.status) or HTTPStatus(problem.status).phrase,
        status=problem.status,
        code=problem.code,
        detail=str(problem),
    )
    response = json_response(document, status=problem.status)
    return Response(response.status, response.body, PROBLEM_JSON, problem.headers)

"""
Errors as HTTP tells them: `application/problem+json` (RFC 9457), with the contract's `code`.

A refusal that is HTTP's own, such as an unknown id, is a Problem; errors of the floors below are mapped here.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from shared.errors import ConnectionFault, InvalidJob, JobConflict, JobError, RetryLater, UpstreamError
from shared.http.messages import Response, json_response

MEDIA_TYPE = "application/problem+json"
_STATUSES: Mapping[type[JobError], int] = {InvalidJob: 400, JobConflict: 409, ConnectionFault: 422, UpstreamError: 502}


class Problem(Exception):
    """A refusal with its status and code; the message is a sentence that a person can act on."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


def not_found(what: str) -> Problem:
    """404: the same words whether it never was, is gone, or is somebody else's."""
    return Problem(404, "not_found", f"There is no such {what}.")


def problem_of(error: Exception) -> Problem:
    """What HTTP says of an error; `internal` for one that is nobody's answer."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RetryLater):
        headers = {"Retry-After": str(max(1, round(error.delay_s)))}
        return Problem(
            503, "unavailable", "Storage or Key Vault gives no answer now: try again a little later.", headers
        )
    if isinstance(error, JobError):
        status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)
        return Problem(status, error.code, str(error))
    return Problem(500, "internal", "The request failed by a fault of the software, which its log describes.")


def problem_response(problem: Problem) -> Response:
    """The problem as a response."""
    members = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": str(problem),
    }
    response = json_response(members, status=problem.status)
    return Response(response.status, response.body, MEDIA_TYPE, problem.headers)

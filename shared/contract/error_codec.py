"""Errors as results contain them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contract.result import ErrorBody
from shared.errors import ConnectionFault, JobError, ProviderUnavailable, UpstreamError, UpstreamFacts


def error_body(error: JobError) -> ErrorBody:
    """The error as the result of a job, or of one of its parts, contains it."""
    if not isinstance(error, UpstreamError):
        return ErrorBody(code=error.code, message=str(error))
    facts = error.facts
    return ErrorBody(
        code=error.code,
        message=str(error),
        status=facts.status,
        request_id=facts.request_id,
        detail=facts.detail or None,
    )


def error_from_body(body: Mapping[str, Any]) -> JobError:
    """The error in the stored outcome of a job, or of one of its parts."""
    code, message = body["code"], body["message"]
    # An endpoint's error has its facts, so of two with a code, such as `timeout`, it is that one.
    upstream = next((kind for kind in UpstreamError.__subclasses__() if kind.code == code), None)
    if upstream is not None:
        facts = UpstreamFacts(body.get("status"), body.get("request_id"), detail=body.get("detail") or {})
        return upstream(message, facts)
    others = (*JobError.__subclasses__(), *ConnectionFault.__subclasses__())
    return next((kind for kind in others if kind.code == code), ProviderUnavailable)(message)

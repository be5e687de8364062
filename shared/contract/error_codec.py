"""Errors as results contain them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contract.result import ErrorBody
from shared.errors import JobError, ProviderUnavailable, UpstreamError, UpstreamFacts


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


def error_from_body(body: Mapping[str, Any]) -> UpstreamError:
    """The error in the stored outcome of a part."""
    kinds = {kind.code: kind for kind in UpstreamError.__subclasses__()}
    facts = UpstreamFacts(body.get("status"), body.get("request_id"), detail=body.get("detail") or {})
    return kinds.get(body["code"], ProviderUnavailable)(body["message"], facts)

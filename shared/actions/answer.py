"""Errors that come as answers: within a 2xx response, or an event of its stream. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shared.errors import UpstreamError
from shared.upstream.error_body import Refusal, refusal_of
from shared.upstream.error_mapping import map_answered_error
from shared.upstream.messages import Response

_ANSWERS = frozenset({"response", "chat.completion", "chat.completion.chunk", "text_completion", "list", "error"})
"""
What the `object` of an answer can be. Others, such as a batch or a fine-tuning job, are states of something that is
stored at the provider: reading one has succeeded even if that has failed.
"""


def answered_error(values: Iterable[Any], response: Response) -> UpstreamError | None:
    """
    Return the error that a 2xx response is, with the endpoint's words; None if it is an answer.

    `values`: the response's JSON values, such as the events of a stream, of which the first error counts.
    """
    refusals = (_refusal(value) for value in values)
    refusal = next((refusal for refusal in refusals if refusal is not None), None)
    return None if refusal is None else map_answered_error(response.status, response.request_id, refusal)


def _refusal(value: Any) -> Refusal | None:
    if isinstance(value, list):  # Google's gateways
        value = value[0] if value and isinstance(value[0], dict) and "error" in value[0] else None
    if not isinstance(value, dict):
        return None
    within = value.get("response")  # of an event of the Responses API
    parts = [part for part in (value, within) if isinstance(part, dict)]
    return next((refusal for part in parts if (refusal := _refusal_of(part)) is not None), None)


def _refusal_of(part: dict[str, Any]) -> Refusal | None:
    kind = part.get("object") or "error"
    if not isinstance(kind, str) or kind not in _ANSWERS:
        return None
    errors = [part.get("error"), *_errors_of_choices(part.get("choices"))]
    if part.get("type") == "error" or part.get("object") == "error":
        errors.append(part)
    refusals = (refusal_of(error) for error in errors if error)
    refusal = next((refusal for refusal in refusals if refusal.message or refusal.codes), None)
    if refusal is None and kind == "response" and part.get("status") == "failed":
        return Refusal("its `status` is failed.")
    return refusal


def _errors_of_choices(choices: Any) -> list[Any]:
    """OpenRouter's answers have an error in the choice that it has ended."""
    return [choice.get("error") for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []

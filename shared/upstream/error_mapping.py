"""
Maps an AI endpoint's error response to an error with the contract's code.

Pure. Knows the error bodies of OpenAI, Azure OpenAI and Foundry's `/models`, from their documentation and SDKs:
`{"error": {code, message, type, innererror}}`, `{status, code, message, detail: {loc}}` and
`{statusCode, message}`. Never quotes the text of a 401: providers repeat the key in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from shared.contract.decoding import json_object
from shared.errors import (
    AccountBlocked,
    ContentFiltered,
    CredentialRejected,
    ModelNotFound,
    NetworkRefused,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamTimeout,
)

_FILTERED = {
    "content_filter",
    "contentfilter",  # Azure's older images API
    "responsibleaipolicyviolation",
    "content_policy_violation",
    "moderation_blocked",
    "invalid_prompt",  # OpenAI's reasoning models: "your prompt was flagged as potentially violating our usage policy"
}
_NO_MODEL = {"deploymentnotfound", "model_not_found", "modelnotfound", "unknown_model", "no_model_name"}
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_BLOCKED = {"account_deactivated", "accountblocked", "resourceblocked"}
# Azure: 403 with the code AccessDenied or 403, "Access denied due to Virtual Network/Firewall rules.", "Public
# access is disabled. Please configure private endpoint."
_NETWORK = re.compile(
    r"virtual network|firewall rule|public (?:network )?access is disabled|configure private endpoint", re.IGNORECASE
)
_UNSUPPORTED_REGION = "unsupported_country_region_territory"
_TRANSIENT = {408, 409, 429}
# Refusals that providers charge, or may: Microsoft's cost page names a 408, and a 400 by the content filter or the
# input limit; a gateway's 502 and 504 can come after the provider has charged
# (learn.microsoft.com/azure/foundry/concepts/manage-costs).
_CHARGED = {408, 502, 504}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length", "request_too_large"}
_INPUT_LIMIT = re.compile(r"maximum context length|context window|input (?:is too long|tokens exceed)", re.IGNORECASE)
_QUOTE_LIMIT = 500
"""Characters of a provider's text that a message quotes."""


def map_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the error for a response other than 2xx. Header names are in lower case."""
    error = _read_error(body)
    codes = {str(code).lower() for code in (error.get("code"), error.get("type"), _inner(error).get("code")) if code}
    facts = UpstreamFacts(
        status=status,
        request_id=read_request_id(headers),
        retry_after_s=read_retry_after(headers),
        transient=_is_transient(status, headers),
        detail=_detail(error),
    )
    message = str(error.get("message") or "")
    kind, opening = _classify(status, codes, message)
    permanent = (QuotaExhausted, ContentFiltered, AccountBlocked, ModelNotFound, CredentialRejected)
    if issubclass(kind, permanent) and facts.transient:
        facts = replace(facts, retry_after_s=None, transient=False)
    if status in _CHARGED or kind is ContentFiltered or codes & _TOO_LONG or _INPUT_LIMIT.search(message):
        facts = replace(facts, unanswered=True)
    return kind(opening + _quote(kind, error), facts)


def read_request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request, which its support asks for."""
    return headers.get("x-request-id") or headers.get("apim-request-id") or headers.get("x-ms-request-id")


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, or None; a header in milliseconds precedes `retry-after`."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def shorten(text: str) -> str:
    """Return a provider's or a model's text on one line and cut, so that an error message can quote it."""
    line = " ".join(text.split())
    return line[:_QUOTE_LIMIT] + ("…" if len(line) > _QUOTE_LIMIT else "")


def _classify(status: int, codes: set[str], message: str) -> tuple[type[UpstreamError], str]:  # noqa: PLR0911, C901  # a table
    if status == 401:  # noqa: PLR2004
        return CredentialRejected, "The endpoint refused the connection's credential (401)"
    if codes & _FILTERED:
        return ContentFiltered, "The provider's content policy stopped the prompt"
    if codes & _BLOCKED or (status == 403 and "temporarily blocked" in message.lower()):  # noqa: PLR2004
        return AccountBlocked, "The customer's account or resource is blocked by the provider"
    if codes & _NO_MODEL:
        return ModelNotFound, "The endpoint has no such model or deployment"
    if codes & _NO_QUOTA or status == 402:  # noqa: PLR2004
        return QuotaExhausted, "The customer's account has no quota or credit left"
    if _UNSUPPORTED_REGION in codes:
        return NetworkRefused, f"The provider does not serve the country or region that this app calls from ({status})"
    if status == 403 and _NETWORK.search(message):  # noqa: PLR2004
        return NetworkRefused, (
            "The endpoint's network rules block this app (403); the owner of the resource must allow the network that "
            "the app calls from"
        )
    if status == 403:  # noqa: PLR2004
        return CredentialRejected, "The connection's credential has no permission for this operation (403)"
    if status == 429:  # noqa: PLR2004
        return RateLimited, "The endpoint limits the customer's rate (429)"
    if status == 408:  # noqa: PLR2004
        return UpstreamTimeout, "The endpoint reported a timeout (408)"
    if status >= 500:  # noqa: PLR2004
        return ProviderUnavailable, f"The endpoint failed ({status})"
    if 300 <= status < 400:  # noqa: PLR2004
        return RequestRejected, f"The endpoint answered with a redirect ({status}); redirects are not followed"
    return RequestRejected, f"The endpoint refused the request ({status})"


def _is_transient(status: int, headers: Mapping[str, str]) -> bool:
    should_retry = headers.get("x-should-retry")
    if should_retry in {"true", "false"}:
        return should_retry == "true"
    return status in _TRANSIENT or status >= 500  # noqa: PLR2004


def _quote(kind: type[UpstreamError], error: Mapping[str, Any]) -> str:
    message = error.get("message")
    if issubclass(kind, CredentialRejected) or not isinstance(message, str) or not message.strip():
        return "."
    return f": {shorten(message)}"


def _read_error(body: bytes) -> dict[str, Any]:
    document = json_object(body)
    error = document.get("error")
    if isinstance(error, str):
        return {**document, "message": document.get("message") or error}
    return error if isinstance(error, dict) else document


def _inner(error: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = error.get("innererror") or error.get("inner_error")
    return inner if isinstance(inner, dict) else {}


def _detail(error: Mapping[str, Any]) -> dict[str, Any]:
    detail = {name: error[name] for name in ("code", "type", "param") if isinstance(error.get(name), str)}
    location = error["detail"].get("loc") if isinstance(error.get("detail"), dict) else None
    if isinstance(location, list) and location[:1] == ["body"] and location[1:]:
        detail.setdefault("param", ".".join(str(part) for part in location[1:]))
    for source in (_inner(error), error):
        verdicts = source.get("content_filter_result") or source.get("content_filter_results")  # Azure's images API
        if isinstance(verdicts, dict):
            return {**detail, "content_filter_result": verdicts}
    return detail


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None

"""
What an AI endpoint's refusal means: status, headers and body to one error with the contract's code.

Pure. Knows the error bodies of OpenAI, Azure OpenAI and Foundry's `/models`, gathered from their
documentation and SDKs: `{"error": {code, message, type, innererror}}`, `{status, code, message,
detail: {loc}}` and `{statusCode, message}`. Never repeats a 401's text: providers quote the key in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_FOREIGN = "unsupported_country_region_territory"
_TRANSIENT = {408, 409, 429}
_SAID_LIMIT = 500


def failure(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """The error that an answer other than 2xx amounts to. `headers` are looked up in lower case."""
    said = _read(body)
    codes = {str(code).lower() for code in (said.get("code"), said.get("type"), _inner(said).get("code")) if code}
    facts = UpstreamFacts(
        status=status,
        request_id=request_id(headers),
        retry_after_s=retry_after(headers),
        transient=_is_transient(status, headers),
        detail=_detail(said),
    )
    kind, opening = _classify(status, codes, str(said.get("message") or ""))
    permanent = (QuotaExhausted, ContentFiltered, AccountBlocked, ModelNotFound, CredentialRejected)
    if issubclass(kind, permanent) and facts.transient:
        facts = UpstreamFacts(status, facts.request_id, None, transient=False, detail=facts.detail)
    return kind(opening + _quote(kind, said), facts)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of the call, for its support."""
    return headers.get("x-request-id") or headers.get("apim-request-id") or headers.get("x-ms-request-id")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that the server asks to wait; the header in milliseconds wins over `retry-after`."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def said_in_short(text: str) -> str:
    """What a provider or a model says, on one line and cut, to be quoted in an error's message."""
    line = " ".join(text.split())
    return line[:_SAID_LIMIT] + ("…" if len(line) > _SAID_LIMIT else "")


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
    if _FOREIGN in codes:
        return NetworkRefused, f"The provider does not serve the country or region that this app calls from ({status})"
    if status == 403 and _NETWORK.search(message):  # noqa: PLR2004
        return NetworkRefused, (
            "The endpoint's network rules do not let this app in (403): whoever owns the resource has to allow the "
            "network that the app calls from"
        )
    if status == 403:  # noqa: PLR2004
        return CredentialRejected, "The connection's credential may not do this (403)"
    if status == 429:  # noqa: PLR2004
        return RateLimited, "The endpoint limits the customer's rate (429)"
    if status == 408:  # noqa: PLR2004
        return UpstreamTimeout, "The endpoint gave up on the request (408)"
    if status >= 500:  # noqa: PLR2004
        return ProviderUnavailable, f"The endpoint failed ({status})"
    if 300 <= status < 400:  # noqa: PLR2004
        return RequestRejected, f"The endpoint answered with a redirect ({status}), which is not followed"
    return RequestRejected, f"The endpoint refused the request ({status})"


def _is_transient(status: int, headers: Mapping[str, str]) -> bool:
    told = headers.get("x-should-retry")
    if told in {"true", "false"}:
        return told == "true"
    return status in _TRANSIENT or status >= 500  # noqa: PLR2004


def _quote(kind: type[UpstreamError], said: Mapping[str, Any]) -> str:
    message = said.get("message")
    if issubclass(kind, CredentialRejected) or not isinstance(message, str) or not message.strip():
        return "."
    return f": {said_in_short(message)}"


def _read(body: bytes) -> dict[str, Any]:
    told = json_object(body)
    error = told.get("error")
    if isinstance(error, str):
        return {**told, "message": told.get("message") or error}
    return error if isinstance(error, dict) else told


def _inner(said: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = said.get("innererror") or said.get("inner_error")
    return inner if isinstance(inner, dict) else {}


def _detail(said: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: said[name] for name in ("code", "type", "param") if isinstance(said.get(name), str)}
    place = said["detail"].get("loc") if isinstance(said.get("detail"), dict) else None
    if isinstance(place, list) and place[:1] == ["body"] and place[1:]:
        kept.setdefault("param", ".".join(str(part) for part in place[1:]))
    for where in (_inner(said), said):
        verdicts = where.get("content_filter_result") or where.get("content_filter_results")  # as Azure's images say it
        if isinstance(verdicts, dict):
            return {**kept, "content_filter_result": verdicts}
    return kept


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None

"""
Maps an AI endpoint's refusal to an error with the contract's code, by its status, its codes and its sentence. Pure.

A status alone says little: a 403 can be about the network, a permission, a quota, a parameter or the prompt. The text
about a refused key is never quoted, because providers repeat a part of the key in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.errors import (
    AccountBlocked,
    ContentFiltered,
    CredentialRejected,
    ModelNotFound,
    NetworkRefused,
    PermissionRefused,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamTimeout,
)
from shared.upstream.error_body import Refusal, read_refusal
from shared.upstream.server_wait import read_rate_limit_reset, read_retry_after, read_wait_in_text

_FILTERED = {
    "content_filter",
    "contentfilter",  # Azure's older images API
    "responsibleaipolicyviolation",
    "content_policy_violation",
    "moderation_blocked",
    "invalid_prompt",  # OpenAI's reasoning models: "your prompt was flagged as potentially violating our usage policy"
}
_NO_MODEL = {"deploymentnotfound", "model_not_found", "modelnotfound", "unknown_model", "no_model_name"}
_NO_QUOTA = {
    *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
    *("billing_error", "contract_spend_limit_reached", "enforced_spend_limit_reached"),  # Anthropic's, as the next
    *("linked_organization_spend_limit_reached", "linked_organization_billing_unavailable"),
}
_BLOCKED = {"account_deactivated", "accountblocked", "resourceblocked", "organization_on_hold"}
_UNSUPPORTED_REGION = {"unsupported_country_region_territory", "region_not_supported"}
_NO_PERMISSION = {"permissiondenied", "permission_denied", "permission_error", "insufficient_permissions"}
_CLAUDE_TYPES = {"invalid_request_error", "not_found_error", "permission_error"}
"""Of Anthropic's errors, those that only their sentences tell apart."""
_RATE_LIMIT = {"rate_limit_exceeded", "rate_limit_error", "resource_exhausted", "too_many_requests"}
_WRONG_REQUEST = ("invalid", "unsupported", "bad")
"""How the code of an answered error begins if the request is its reason."""
# Azure: 403 with the code AccessDenied or 403, "Access denied due to Virtual Network/Firewall rules.", "Public
# access is disabled. Please configure private endpoint." OpenAI: 401 ip_not_authorized, "Your request IP does not
# match the configured IP allowlist for your project or organization."
_NETWORK = re.compile(
    r"virtual network|firewall rule|public (?:network )?access is disabled|configure private endpoint|IP allowlist",
    re.IGNORECASE,
)
# OpenAI: 401 or 403, "You have insufficient permissions for this operation. Missing scopes: model.request." Entra: 401
# or 403, "The principal … lacks the required data action …".
_PERMISSION = re.compile(r"missing scopes?\b|insufficient permissions?|lacks the required", re.IGNORECASE)
# API Management: 403, "Token quota is exceeded. Try again in 50 seconds.", "Out of call volume quota. Quota will be
# replenished in 00:00:50."
_QUOTA = re.compile(
    r"quota (?:is |was |has been )?exceeded|out of [a-z ]{1,40}quota|quota will be replenished|rate limit",
    re.IGNORECASE,
)
# OpenRouter: 403, "… requires moderation on …. Your input was flagged for "violence"".
_FLAGGED = re.compile(
    r"\b(?:input|prompt|content) (?:was|is|has been) flagged|content[ _-](?:policy|filter)", re.IGNORECASE
)
# OpenAI: 403, "You are not allowed to request logprobs from this model."
_PARAMETER = re.compile(r"not allowed to request", re.IGNORECASE)
_WRONG_KEY = re.compile(
    r"(?:invalid|incorrect|wrong|expired|revoked|unknown)[^.]{0,30}\b(?:key|token|credential)"
    r"|\b(?:key|token|credential)[^.]{0,30}\b(?:invalid|incorrect|wrong|expired|revoked|not valid)",
    re.IGNORECASE,
)
_TRANSIENT = {408, 409, 429}
# Refusals that providers charge, or may: Microsoft's cost page names a 408, and a 400 by the content filter or the
# input limit; a gateway's 502 and 504, and Cloudflare's 524, can come after the provider has charged
# (learn.microsoft.com/azure/foundry/concepts/manage-costs).
_CHARGED = {408, 502, 504, 524}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length", "request_too_large"}
_INPUT_LIMIT = re.compile(
    r"maximum (?:context|input) length|context window|(?:input|prompt) is too long|input tokens exceed", re.IGNORECASE
)
_PERMANENT = (QuotaExhausted, ContentFiltered, AccountBlocked, ModelNotFound, CredentialRejected)
_STATUS_DIGITS = 3
_MAX_REQUEST_ID = 200
"""Characters. A header may have 256 KiB, and a result must fit a message."""

_Kind = tuple[type[UpstreamError], str]
"""The error's class, and how its message begins."""


def map_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the error for a response other than 2xx. Header names are in lower case."""
    refusal, wait_s = read_refusal(body), read_retry_after(headers)
    kind, opening = _classify(status, refusal, names_wait=wait_s is not None)
    transient = _is_transient(status, headers)
    if kind is RateLimited:
        transient = transient or status == 403  # noqa: PLR2004
        waits = (wait_s, read_rate_limit_reset(headers), read_wait_in_text(refusal.message))
        wait_s = next((wait for wait in waits if wait is not None), None)
    elif issubclass(kind, _PERMANENT) and transient:
        wait_s, transient = None, False
    facts = UpstreamFacts(
        status=status,
        request_id=read_request_id(headers),
        retry_after_s=wait_s,
        transient=transient,
        unanswered=_may_be_charged(status, kind, refusal),
        detail=refusal.detail,
    )
    return kind(opening + _quote(kind, refusal), facts)


def map_answered_error(status: int, request_id: str | None, refusal: Refusal) -> UpstreamError:
    """
    Return the error for a refusal that came as an answer: in a 2xx response, or as an event of its stream.

    It is not retried, because the call was answered. Its code may be a status.
    """
    own_status = next((int(code) for code in refusal.codes if code.isdecimal() and len(code) == _STATUS_DIGITS), 0)
    kind, _ = _classify(own_status, refusal)
    if kind is RequestRejected and not own_status:
        kind = RateLimited if refusal.codes & _RATE_LIMIT else ProviderUnavailable
        if any(code.startswith(_WRONG_REQUEST) for code in refusal.codes):
            kind = RequestRejected
    facts = UpstreamFacts(status=status, request_id=request_id, detail=refusal.detail)
    return kind(f"The endpoint answered {status} with an error{_quote(kind, refusal)}", facts)


def read_request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request, which its support asks for."""
    text = headers.get("x-request-id") or headers.get("apim-request-id") or headers.get("x-ms-request-id")
    text = text or headers.get("request-id")  # Anthropic's
    return text and text[:_MAX_REQUEST_ID]


def _classify(status: int, refusal: Refusal, *, names_wait: bool = False) -> _Kind:  # noqa: PLR0911, C901  # a table
    codes, message = refusal.codes, refusal.message
    if status == 401:  # noqa: PLR2004
        return _classify_unauthorized(refusal)
    if codes & _FILTERED:
        return ContentFiltered, "The provider's content policy stopped the prompt"
    if codes & _BLOCKED or (status == 403 and "temporarily blocked" in message.lower()):  # noqa: PLR2004
        return AccountBlocked, "The customer's account or resource is blocked by the provider"
    if codes & _NO_MODEL:
        return ModelNotFound, "The endpoint has no such model or deployment"
    if codes & _NO_QUOTA or status == 402:  # noqa: PLR2004
        return QuotaExhausted, "The customer's account has no quota or credit left"
    if codes & _UNSUPPORTED_REGION:
        return NetworkRefused, f"The provider does not serve the country or region that this app calls from ({status})"
    if codes & _CLAUDE_TYPES and (kind := _classify_claude(refusal)) is not None:
        return kind
    if status == 403:  # noqa: PLR2004
        return _classify_forbidden(refusal, names_wait=names_wait)
    if status == 429:  # noqa: PLR2004
        return RateLimited, "The endpoint limits the customer's rate (429)"
    if status == 408:  # noqa: PLR2004
        return UpstreamTimeout, "The endpoint reported a timeout (408)"
    if status >= 500:  # noqa: PLR2004
        return ProviderUnavailable, f"The endpoint failed ({status})"
    if 300 <= status < 400:  # noqa: PLR2004
        return RequestRejected, f"The endpoint answered with a redirect ({status}); redirects are not followed"
    return RequestRejected, f"The endpoint refused the request ({status})"


def _classify_claude(refusal: Refusal) -> _Kind | None:
    from shared.upstream.claude_refusals import classify  # noqa: PLC0415  # few customers have Claude

    return classify(refusal.codes, refusal.message)


def _classify_unauthorized(refusal: Refusal) -> _Kind:
    if "ip_not_authorized" in refusal.codes or _NETWORK.search(refusal.message):
        return _network_refused(401)
    if refusal.codes & _NO_PERMISSION or _PERMISSION.search(refusal.message):
        return _permission_refused(401)
    return CredentialRejected, "The endpoint refused the connection's credential (401)"


def _classify_forbidden(refusal: Refusal, *, names_wait: bool) -> _Kind:  # noqa: PLR0911  # a table
    message = refusal.message
    if _NETWORK.search(message):
        return _network_refused(403)
    if refusal.codes & _NO_PERMISSION or _PERMISSION.search(message):
        return _permission_refused(403)
    if names_wait or _QUOTA.search(message):
        return RateLimited, "The endpoint limits the customer's rate or quota (403)"
    if _FLAGGED.search(message):
        return ContentFiltered, "The provider's content policy stopped the prompt"
    if _PARAMETER.search(message):
        return RequestRejected, "The endpoint refused the request (403)"
    if _WRONG_KEY.search(message):
        return CredentialRejected, "The endpoint refused the connection's credential (403)"
    return _permission_refused(403)


def _network_refused(status: int) -> _Kind:
    return NetworkRefused, (
        f"The endpoint's network rules block this app ({status}); the owner of the resource must allow the network "
        "that the app calls from"
    )


def _permission_refused(status: int) -> _Kind:
    return PermissionRefused, f"The connection's credential has no permission for this operation ({status})"


def _is_transient(status: int, headers: Mapping[str, str]) -> bool:
    should_retry = headers.get("x-should-retry")
    if should_retry in {"true", "false"}:
        return should_retry == "true"
    return status in _TRANSIENT or status >= 500  # noqa: PLR2004


def _may_be_charged(status: int, kind: type[UpstreamError], refusal: Refusal) -> bool:
    too_long = bool(refusal.codes & _TOO_LONG or _INPUT_LIMIT.search(refusal.message))
    return status in _CHARGED or kind is ContentFiltered or too_long


def _quote(kind: type[UpstreamError], refusal: Refusal) -> str:
    return "." if kind in {CredentialRejected, NetworkRefused} else refusal.quote

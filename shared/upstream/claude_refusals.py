"""
What Anthropic's refusals say in their sentences alone. Pure; imported when one of its types is met.

Its types are those of a status: 400 and 403 stand for a spent credit and for a parameter that a model doesn't take.
"""

from __future__ import annotations

import re

from shared.errors import AccountBlocked, ContentFiltered, ModelNotFound, QuotaExhausted, UpstreamError

_NO_CREDIT = re.compile(r"credit balance is too low|reached your specified .{0,20}usage limits")
_DISABLED = "organization has been disabled"
_FILTERED = "blocked by content filtering policy"
_PARAMETER = re.compile(
    r"`([a-z_]{1,60})` (?:is deprecated|is not supported|may only be set|must be (?:[^`]{1,80} )?unset|cannot both be)"
    r"|\b([a-z_]{1,60}): Extra inputs are not permitted"
)


def classify(codes: frozenset[str], message: str) -> tuple[type[UpstreamError], str] | None:
    """
    Return the error's class and how its message begins; None if the status says enough.

    The sentences: 404 "model: claude-x"; 400 "Your credit balance is too low …", "You have reached your specified API
    usage limits. …", "This organization has been disabled.", "Output blocked by content filtering policy".
    """
    if "not_found_error" in codes and message.startswith("model: "):
        return ModelNotFound, "The endpoint has no such model or deployment"
    if _NO_CREDIT.search(message):
        return QuotaExhausted, "The customer's account has no quota or credit left"
    if _DISABLED in message:
        return AccountBlocked, "The customer's account or resource is blocked by the provider"
    if _FILTERED in message:
        return ContentFiltered, "The provider's content policy stopped the answer"
    return None


def refused_parameter(text: str) -> str | None:
    """
    Return the parameter that a sentence refuses, or None.

    "`temperature` is deprecated for this model.", "`temperature` may only be set to 1 when thinking is enabled. …",
    "`top_k` must be unset when …", "`temperature` and `top_p` cannot both be specified for this model. …",
    "top_p: Extra inputs are not permitted".
    """
    match = _PARAMETER.search(text)
    return match and match[match.lastindex or 0]

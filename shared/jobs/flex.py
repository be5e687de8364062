"""
OpenAI's flex tier: half the price, if there is room. If not, the refusal costs nothing, and the job waits.

Imported for jobs with that processing alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.contract.job import Options
from shared.errors import InvalidJob, UpstreamError, UpstreamTimeout

_NO_ROOM = 429
_CODE = "resource_unavailable"
_MIN_WAIT_S, _MAX_WAIT_S = 15.0, 300.0
_WAITED_PART = 0.25
"""Of how long the job has waited, that it waits again."""
_LAST_WAIT_S = 6.0


def check_flex_tier(request: Any) -> None:
    """Raise InvalidJob if a decoded input asks for another service tier."""
    parameters = (request[0] if isinstance(request, list) else request).parameters
    if parameters.get("service_tier") not in (None, "flex"):
        raise InvalidJob("`input.parameters.service_tier` must be flex or left out if `options.processing` is flex.")


def is_without_room(error: UpstreamError) -> bool:
    """Return whether the tier has no room for a call, which is not billed."""
    return error.facts.status == _NO_ROOM and error.facts.detail.get("code") == _CODE


def explain_no_room(error: UpstreamError, options: Options, left_s: float) -> UpstreamError:
    """
    Return an error that asks for a long wait if the tier has no room, else `error`.

    It is what the job ends with if its deadline, `left_s` seconds from now, comes first. Waits grow to some minutes,
    and become shorter towards the deadline. A job without retries is sent once.
    """
    if not is_without_room(error) or options.max_retries == 0:
        return error
    grown_s = min(max((options.lasts_s - left_s) * _WAITED_PART, _MIN_WAIT_S), _MAX_WAIT_S)
    wait_s = max(min(grown_s, max(left_s / 2, _LAST_WAIT_S)), error.facts.retry_after_s or 0)
    message = f"The flex tier had no room for the job before its deadline of {options.lasts_s:g} s. {error}"
    return UpstreamTimeout(message, replace(error.facts, retry_after_s=wait_s, transient=True))

"""
What a job of `processing: cheapest` buys at once, because a batch would come too late: at the flex tier if that has
room, else at the list price (or, if it is a chat, in a window of hours: see `jobs.cheapest_chat`).
"""

from __future__ import annotations

import re

from shared.actions.operation import JsonOperation
from shared.errors import RateLimited, RequestRejected, UpstreamError, UpstreamRetryLater
from shared.jobs.context import ActionContext
from shared.jobs.flex import is_without_room
from shared.upstream.messages import Response

FLEX, LIST_PRICE = "flex", "default"
_FLEX_OPERATIONS = frozenset({"chat/completions", "responses"})
_MIN_FLEX_S = 600.0
"""Before the job's deadline: a call at the flex tier may take minutes."""
_TIER = "service_tier"
_names_tier = re.compile(rf"\b{_TIER}\b").search


async def buy_now(context: ActionContext, operation: JsonOperation) -> Response:
    """Return the response to an operation that is called at once. Raises as `Context.call`."""
    response = await buy_at_flex(context, operation)
    return await ActionContext.call(context, operation) if response is None else response


async def buy_at_flex(context: ActionContext, operation: JsonOperation) -> Response | None:
    """As `buy_now`; None if the flex tier is not to be had. The operation can then be called at the list price."""
    endpoint, body = context.connection.endpoint, operation.body
    operation.set_members(model=endpoint.model_in_body(context.model))  # a batch may have a deployment of its own
    if body.get(_TIER) is not None or not _takes_flex(context, operation):
        return None
    operation.set_members(service_tier=FLEX)
    try:
        return await ActionContext.call(context, operation)
    except (RateLimited, RequestRejected, UpstreamRetryLater) as error:
        reason = error.reason if isinstance(error, UpstreamRetryLater) else error
        if not _is_about_the_tier(reason):
            raise
        if isinstance(reason, RequestRejected):
            context.capabilities.learn_replacement(FLEX, LIST_PRICE)
        context.stopped = context.failed = None  # that was about this tier alone
    operation.set_members(service_tier=None)
    return None


def _takes_flex(context: ActionContext, operation: JsonOperation) -> bool:
    is_sold = context.connection.endpoint.provider == "openai" and operation.name in _FLEX_OPERATIONS
    is_refused = context.capabilities.replacement_for(FLEX) != FLEX
    return is_sold and not is_refused and not context.strict and context.attempt.time.seconds_left() > _MIN_FLEX_S


def _is_about_the_tier(error: UpstreamError) -> bool:
    """Return whether the tier is refused, or has no room. A refusal that names no parameter says so in its sentence."""
    if not isinstance(error, RequestRejected):
        return is_without_room(error)
    parameter = error.facts.detail.get("param")
    return parameter == _TIER if parameter else _names_tier(str(error)) is not None

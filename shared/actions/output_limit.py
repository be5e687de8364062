"""
The limit of an answer that a budget needs and the job has not set.

It is sent as `max_tokens`, which the older models take; the newer ones refuse it by name, and it is renamed. If the
model's own limit is lower, the refusal says so, and that one is sent.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shared.actions.base import Context
from shared.contract.chat import LIMITS, thinking_budget
from shared.errors import RequestRejected
from shared.upstream.messages import Response

_OPERATION = "max_tokens"
_STATUSES = frozenset({400, 422})
# OpenAI: "max_tokens is too large: 16384. This model supports at most 4096 completion tokens, whereas you provided
# 16384." Others: "max_tokens must be less than or equal to 8192"; "maximum allowed number of output tokens is 4096".
# Anthropic: "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku".
_LOWER = re.compile(
    r"tokens?\b.{0,120}?(?:at most|less than or equal to|cannot exceed|maximum(?: \w+){0,6}? is|<=|>) ?([0-9]{2,6})",
    re.IGNORECASE | re.DOTALL,
)

Complete = Callable[..., Awaitable[tuple[Response, list[str]]]]
"""`completion.complete_chat` of some messages."""


async def complete_limited(
    complete: Complete, parameters: Mapping[str, Any], is_final: Callable[[RequestRejected], bool], ctx: Context
) -> tuple[Response, list[str]]:
    """Return what `complete` returns for the parameters with the limit that a budget needs."""
    assert ctx.output_limit is not None  # noqa: S101  # else none is needed
    parameters = {name: value for name, value in parameters.items() if name not in LIMITS}  # they limit nothing
    wanted = ctx.output_limit
    if "thinking" in parameters:  # Claude's, behind a gateway
        wanted += thinking_budget(parameters)
    learned = ctx.capabilities.batch_limit(_OPERATION)
    limit = min(wanted, learned or wanted)

    def is_lower(error: RequestRejected) -> bool:
        return lower_limit(error, limit) is not None

    try:
        return await complete(
            {**parameters, "max_tokens": limit}, is_final=lambda error: is_lower(error) or is_final(error)
        )
    except RequestRejected as error:
        lower = lower_limit(error, limit)
        if lower is None:
            raise
    ctx.capabilities.learn_batch_limit(_OPERATION, lower)
    return await complete({**parameters, "max_tokens": lower}, is_final=is_final)


def lower_limit(error: RequestRejected, limit: int) -> int | None:
    """Return the model's own limit if a refusal says that ours is higher, else None."""
    match = _LOWER.search(str(error)) if error.facts.status in _STATUSES else None
    return int(match[1]) if match and int(match[1]) < limit else None

"""A call whose request is adapted after a refusal: the next try is made only if a new call might be, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from shared.errors import (
    LeaseLost,
    QuotaExhausted,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
)
from shared.jobs.context import ActionContext
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import ApiKey, Operation, Response, UpstreamRequest
from tests.support.contexts import context_of

REFUSED = RequestRejected("Unsupported parameter: 'top_p'.", UpstreamFacts(400))
ANSWER = Response(200, {}, b"{}", "request")


class Adaptable(Operation):
    """An operation that has one parameter to leave out."""

    adapted = False

    def adapt(self, error: UpstreamError) -> bool:
        """See Operation."""
        del error
        self.adapted, adapted = True, self.adapted
        return not adapted


@dataclass
class Endpoint:
    """Refuses the first try, after it has done something, and answers the next ones."""

    then: Callable[[], None] = lambda: None
    tries: int = 0
    timeouts_s: list[float] = field(default_factory=list)

    async def send(self, *_: Any, timeout_s: float) -> Response:
        """See UpstreamClient."""
        self.tries += 1
        self.timeouts_s.append(timeout_s)
        if self.tries == 1:
            self.then()
            raise REFUSED
        return ANSWER


def context(endpoint: Endpoint, **options: Any) -> ActionContext:
    """The context of a job on that endpoint."""
    access = ApiKey("api-key", Secret("key"))
    return context_of(cast(UpstreamClient, endpoint), "https://contoso.openai.azure.com", access, **options)


def operation() -> Operation:
    """An operation that can be adapted once."""
    return Adaptable(UpstreamRequest("POST", "https://contoso.openai.azure.com/openai/v1/chat/completions"))


async def test_an_adapted_request_is_sent_at_once() -> None:
    """The refusal is no retry, and the call has its answer, which is billed once."""
    ctx = context(endpoint := Endpoint(), max_retries=0)

    assert ANSWER == await ctx.call(operation())

    assert 2 == endpoint.tries
    assert [ANSWER] == ctx.attempt.usage.responses


async def test_a_refusal_that_comes_late_is_left_to_the_next_attempt() -> None:
    """If the attempt has no time for another try, which would be cut short and billed, the job is requeued."""
    ctx = context(endpoint := Endpoint())

    def use_up_time() -> None:
        ctx.attempt.time.ends_at = time.monotonic() + 60  # less than a try may take, and long before the deadline

    endpoint.then = use_up_time

    with pytest.raises(UpstreamRetryLater):
        await ctx.call(operation())

    assert 1 == endpoint.tries
    assert 0 == len(ctx.attempt.usage)


async def test_no_try_follows_what_stops_all_calls() -> None:
    """A refusal of the whole account, which another call has met meanwhile, ends the call."""
    ctx = context(endpoint := Endpoint())
    exhausted = QuotaExhausted("No credit is left.")
    endpoint.then = lambda: setattr(ctx, "stopped", exhausted)

    with pytest.raises(QuotaExhausted):
        await ctx.call(operation())

    assert 1 == endpoint.tries


async def test_no_try_follows_a_lost_lease() -> None:
    """Once another worker has the job, the adapted request is not sent."""
    ctx = context(endpoint := Endpoint())
    endpoint.then = lambda: setattr(ctx.attempt, "lease_lost", LeaseLost("Lost."))

    with pytest.raises(LeaseLost):
        await ctx.call(operation())

    assert 1 == endpoint.tries

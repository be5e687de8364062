"""A call whose request is adapted after a refusal: the next try is made only if a new call might be, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from shared.connections.endpoint import parse_endpoint
from shared.errors import (
    ContentFiltered,
    LeaseLost,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
)
from shared.jobs.context import ActionContext
from shared.jobs.list_price import buy_now
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

    async def send(self, *_: Any, **__: Any) -> Response:
        """See UpstreamClient."""
        self.tries += 1
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


def use_up_time(ctx: ActionContext) -> None:
    """Leave the attempt less time than a try may take, long before the job's deadline."""
    ctx.attempt.time.ends_at = time.monotonic() + 60


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (use_up_time, UpstreamRetryLater),
        (lambda ctx: setattr(ctx, "stopped", QuotaExhausted("No credit is left.")), QuotaExhausted),
        (lambda ctx: setattr(ctx.attempt, "lease_lost", LeaseLost("Lost.")), LeaseLost),
    ],
    ids=["no time", "stopped by another call", "lease lost"],
)
async def test_no_try_follows_if_no_call_may(then: Callable[[ActionContext], None], error: type[Exception]) -> None:
    """
    The adapted request is not sent if the attempt has no time for it, which would cut it short and bill it; nor after a
    refusal of the whole account, which another call has met meanwhile; nor once another worker has the job.
    """
    ctx = context(endpoint := Endpoint())
    endpoint.then = lambda: then(ctx)

    with pytest.raises(error):
        await ctx.call(operation())

    assert (1, 0) == (endpoint.tries, len(ctx.attempt.usage))


async def test_what_a_tier_has_refused_is_no_reason_for_another_connection() -> None:
    """A job that buys at the list price then has met what that call has met."""
    no_room = RateLimited("Full.", UpstreamFacts(429, detail={"code": "resource_unavailable"}))
    errors = [no_room, ContentFiltered("Filtered.", UpstreamFacts(400))]

    class Refusing(Endpoint):
        async def send(self, *_: Any, **__: Any) -> Response:
            raise errors.pop(0)

    ctx = context(Refusing(), max_retries=0, deadline_s=7200)
    ctx.connection = replace(ctx.connection, endpoint=parse_endpoint("https://api.openai.com/v1"))
    ctx.attempt.usage.model = "gpt"

    with pytest.raises(ContentFiltered):
        await buy_now(ctx, ctx.operation("chat/completions", {}))

    assert ([], None, None) == (errors, ctx.failed, ctx.stopped)

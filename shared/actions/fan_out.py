"""Jobs of many parts: side by side, and what they come to together. Knows no provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from shared.actions.base import Completed
from shared.errors import CredentialRejected, JobError, UpstreamRetryLater

Outcome = Any | Exception
"""What a part gave, or what it raised."""


async def side_by_side(works: Iterable[Awaitable[Any]]) -> list[Outcome]:
    """Every part's outcome, in order. One that fails does not end the others: they may be paid for already."""
    return await asyncio.gather(*works, return_exceptions=True)


def settle(outcomes: Sequence[Outcome], answer: Callable[[], Completed]) -> Completed:
    """
    `answer()`, unless more can be done: then raises what says so, with that answer to fall back on.

    Raises RetryLater where a part has to wait, CredentialRejected where the key was refused and may have been
    rotated, and whatever is nobody's answer, such as LeaseLost.
    """
    raised = [one for one in outcomes if isinstance(one, Exception)]
    for error in raised:
        if not isinstance(error, JobError | UpstreamRetryLater):
            raise error
    waits = [error for error in raised if isinstance(error, UpstreamRetryLater)]
    if waits:
        longest = max(waits, key=lambda wait: wait.delay_s)
        longest.retries = max(wait.retries for wait in waits)
        longest.answer = answer()
        raise longest
    refused = next((error for error in raised if isinstance(error, CredentialRejected)), None)
    if refused is not None:
        refused.answer = answer()
        raise refused
    return answer()


def reason_of(error: Exception) -> JobError:
    """The job's error that a part's exception stands for."""
    if isinstance(error, UpstreamRetryLater):
        return error.reason
    assert isinstance(error, JobError)  # noqa: S101  # `settle` lets nothing else through
    return error

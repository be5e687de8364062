"""Jobs of many parts: run side by side, and joined into one outcome. Knows no provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from shared.actions.base import Completed, Deferred, Outcome
from shared.errors import CredentialRejected, JobError, UpstreamRetryLater

PART = "-"
"""Stands before its number in the key of a step's part (see `Context.step_part`)."""
Part = Any | Exception
"""What a part returned, or what it raised."""


async def side_by_side(works: Iterable[Awaitable[Any]]) -> list[Part]:
    """Return every part's result or exception, in order. A failed part doesn't end the others, which may be billed."""
    return await asyncio.gather(*works, return_exceptions=True)


def join(parts: Sequence[Part], complete: Callable[[], Completed]) -> Outcome:
    """
    Return `complete()`, marked as deferred if a part has to wait, or as rejected if a part's key was refused.

    Raises what is not a part's own failure, such as LeaseLost.
    """
    errors = [part for part in parts if isinstance(part, Exception)]
    for error in errors:
        if not isinstance(error, JobError | UpstreamRetryLater):
            raise error
    waits = [error for error in errors if isinstance(error, UpstreamRetryLater)]
    if waits:
        longest = max(waits, key=lambda wait: wait.delay_s)
        longest.retries = max(wait.retries for wait in waits)
        return Deferred(longest, complete())
    rejected = next((error for error in errors if isinstance(error, CredentialRejected)), None)
    return replace(complete(), rejected=rejected)


def reason_of(error: Exception) -> JobError:
    """Return the job's error that a part's exception stands for."""
    if isinstance(error, UpstreamRetryLater):
        return error.reason
    assert isinstance(error, JobError)  # noqa: S101  # `join` raises everything else
    return error

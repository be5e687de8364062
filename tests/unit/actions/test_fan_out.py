"""Jobs of many parts: what their outcomes are together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.actions.base import Completed, Deferred
from shared.actions.fan_out import join, reason_of, side_by_side
from shared.errors import CredentialRejected, InvalidJob, LeaseLost, RateLimited, UpstreamFacts, UpstreamRetryLater

COMPLETED = Completed({"answers": []})
REJECTED = CredentialRejected("No.", UpstreamFacts(401))


def wait(delay_s: float, retries: int) -> UpstreamRetryLater:
    """Return the exception of a part that has to wait."""
    return UpstreamRetryLater(RateLimited(f"Wait {delay_s:g} s."), delay_s, retries)


def joined(*parts: Any) -> Any:
    """Return the outcome of these parts."""
    return join(parts, lambda: COMPLETED)


async def test_failed_part_does_not_end_the_others():
    """Parts run at the same time; the results are in order, and a failed part's result is its exception."""
    started = asyncio.Event()

    async def slow() -> str:
        started.set()
        await asyncio.sleep(0.01)
        return "slow"

    async def failing() -> str:
        await started.wait()
        raise REJECTED

    assert ["slow", REJECTED] == await side_by_side([slow(), failing()])


def test_answered_parts_are_completed():
    """The outcome is the completed one. It says if a part's key was refused: another one may help."""
    assert COMPLETED == joined("a", "b", InvalidJob("No."))
    assert joined("a", REJECTED).rejected is REJECTED


def test_longest_wait_defers_the_job():
    """If parts have to wait, the job has the longest wait and the most retries, and the rest as its fallback."""
    outcome = joined("a", wait(30, 2), wait(60, 1), REJECTED)

    assert isinstance(outcome, Deferred)
    assert (60, 2) == (outcome.reason.delay_s, outcome.reason.retries)
    assert COMPLETED == outcome.fallback


def test_other_exceptions_are_raised():
    """An exception that is not a part's own, such as a lost lease, is raised."""
    with pytest.raises(LeaseLost):
        joined("a", wait(30, 0), LeaseLost("Another worker has it."))


def test_reason_of_a_wait_is_the_endpoints_error():
    """A part that has to wait has the error of the endpoint; another one its own."""
    assert "Wait 30 s." == str(reason_of(wait(30, 0)))
    assert reason_of(REJECTED) is REJECTED

"""Many requests, a few at a time."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from shared.storage.bulk import gather_outcomes


async def test_what_is_cut_off_before_its_turn_is_closed() -> None:
    """Else Python warns of each request that a worker which stops has not begun."""
    requests = [asyncio.sleep(60) for _ in range(40)]
    task = asyncio.create_task(gather_outcomes(requests))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert {inspect.CORO_CLOSED} == set(map(inspect.getcoroutinestate, requests))


async def test_an_outcome_is_a_result_or_an_error() -> None:
    """Of each, in order."""

    async def halve(number: int) -> float:
        if number % 2:
            raise ValueError(number)
        return number / 2

    outcomes = await gather_outcomes(map(halve, range(40)))
    assert [number / 2 for number in range(0, 40, 2)] == outcomes[::2]
    assert {ValueError} == set(map(type, outcomes[1::2]))


async def test_one_request_needs_no_task() -> None:
    """Its error is an outcome all the same, and none has no outcome."""

    async def fail() -> None:
        raise ValueError

    async def current() -> object:
        return asyncio.current_task()

    assert [asyncio.current_task()] == await gather_outcomes([current()])
    assert [ValueError] == [type(each) for each in await gather_outcomes([fail()])]
    assert [] == await gather_outcomes([])

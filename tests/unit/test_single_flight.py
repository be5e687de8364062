"""One request for many: who shares it, and who starts another."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import InvalidJob, VaultUnavailable
from shared.single_flight import SingleFlight


class Work:
    """Counts its runs, each of which takes one turn of the event loop."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.runs = 0
        self._failure = failure

    async def __call__(self) -> int:
        """Return how often it has run."""
        self.runs += 1
        number = self.runs
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        return number


async def test_a_caller_that_comes_when_it_is_done_starts_another():
    """A result is shared only while it is awaited: not even in the turn of the loop in which it ends."""
    flight, work = SingleFlight[str, int](), Work()

    async def twice() -> list[int]:
        return [await flight.run("key", work), await flight.run("key", work)]

    assert [[1, 2]] * 3 == await asyncio.gather(*(twice() for _ in range(3)))
    assert 3 == await flight.run("key", work)


@pytest.mark.parametrize("failure", [VaultUnavailable("No.", 7), InvalidJob("No.")], ids=["wait", "job"])
async def test_each_caller_gets_an_error_of_its_own(failure: Exception):
    """Its class, message and wait are those of the request, which is made once."""
    flight, work = SingleFlight[str, int](), Work(failure)

    errors = await asyncio.gather(*(flight.run("key", work) for _ in range(5)), return_exceptions=True)

    assert (1, 5) == (work.runs, len(set(map(id, errors))))
    assert {(type(failure), "No.", str(vars(failure)))} == {
        (type(error), str(error), str(vars(error))) for error in errors if isinstance(error, Exception)
    }

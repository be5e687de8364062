"""One request for many: who shares it, and who starts another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared import single_flight
from shared.errors import InvalidJob, VaultUnavailable
from shared.single_flight import Grouped, SingleFlight


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


class Requests:
    """Answers what is wanted by its double, a few at a time; keeps what was wanted together."""

    def __init__(self, limit: int = 10) -> None:
        self.sent: list[tuple[str, list[int]]] = []
        self.grouped = Grouped[str, int, int](self._send, limit=limit)

    async def _send(self, key: str, wanted: Sequence[int]) -> Sequence[int | BaseException]:
        self.sent.append((key, list(wanted)))
        await asyncio.sleep(0)
        if 0 in wanted:
            raise VaultUnavailable("No.", 7)
        return [ValueError(number) if number < 0 else 2 * number for number in wanted]


async def test_what_is_wanted_during_a_request_shares_the_next_one():
    """The first goes at once, with whatever is wanted in the same turn of the loop; each gets its own outcome."""
    requests = Requests()

    async def late(number: int) -> int:
        await asyncio.sleep(0)
        return await requests.grouped.run("key", number)

    first = [requests.grouped.run("key", number) for number in (1, 2)]
    outcomes = await asyncio.gather(*first, *(late(number) for number in (3, -4, 5)), return_exceptions=True)

    assert [("key", [1, 2]), ("key", [3, -4, 5])] == requests.sent
    assert [2, 4, 6, 10] == [each for each in outcomes if isinstance(each, int)]
    assert [(ValueError, "-4")] == [(type(each), str(each)) for each in outcomes if isinstance(each, Exception)]


async def test_keys_have_requests_of_their_own_and_limits():
    """Of each key, no more than fit."""
    requests = Requests(limit=2)

    outcomes = await asyncio.gather(*(requests.grouped.run(key, number) for number in (1, 2, 3) for key in "ab"))

    assert [2, 2, 4, 4, 6, 6] == outcomes
    assert [("a", [1, 2]), ("a", [3]), ("b", [1, 2]), ("b", [3])] == sorted(requests.sent)


async def test_a_request_that_fails_as_a_whole_fails_for_all_of_it():
    """Those that come later are not concerned, nor are those whose task was cancelled meanwhile."""
    requests = Requests()
    tasks = [asyncio.create_task(requests.grouped.run("key", number)) for number in (0, 1, 2)]
    await asyncio.sleep(0)
    tasks[1].cancel()

    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [VaultUnavailable, asyncio.CancelledError, VaultUnavailable] == list(map(type, outcomes))
    assert 6 == await requests.grouped.run("key", 3)


async def test_what_is_wanted_soon_after_a_request_shares_the_next_one(monkeypatch: pytest.MonkeyPatch):
    """It waits for the pause; but as soon as there is enough for a request, that is sent."""
    monkeypatch.setattr(single_flight, "PAUSE_S", 3600.0)
    requests = Requests(limit=3)
    assert 2 == await requests.grouped.run("key", 1)
    tasks = []
    for number in (2, 3):
        tasks.append(asyncio.create_task(requests.grouped.run("key", number)))
        await asyncio.sleep(0.01)
    assert [("key", [1])] == requests.sent

    assert 8 == await asyncio.wait_for(requests.grouped.run("key", 4), 5)

    assert [4, 6] == await asyncio.gather(*tasks)
    assert [("key", [1]), ("key", [2, 3, 4])] == requests.sent
    assert 10 == await asyncio.wait_for(Requests().grouped.run("key", 5), 5)


async def test_a_pause_ends(monkeypatch: pytest.MonkeyPatch):
    """However little there is by then."""
    monkeypatch.setattr(single_flight, "PAUSE_S", 0.01)
    requests = Requests()

    assert [2, 4, 6] == [await requests.grouped.run("key", number) for number in (1, 2, 3)]

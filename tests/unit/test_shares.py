"""How a worker divides what it has little of among customers."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.shares import Shares
from tests.support.rows import every_row

TOTAL = 64
NAMES = st.sampled_from("abcdefgh")
STEPS = st.lists(st.tuples(st.sampled_from(["take", "take", "take", "give back"]), NAMES, st.integers(1, 9)))


@given(STEPS)
@settings(max_examples=150)
def test_no_customer_has_more_than_half_of_what_the_others_leave(steps: list[tuple[str, str, int]]):
    """
    Whatever is taken and given back, in whatever amounts, the sum is bounded, a customer that had something only got
    more within half of what the others left, and nothing is counted that was given back.
    """
    shares, taken = Shares(TOTAL), Counter[str]()
    for step, name, amount in steps:
        others = taken.total() - taken[name]
        if step == "give back":
            if taken[name] >= amount:
                shares.give_back(name, amount)
                taken[name] -= amount
            continue
        is_first = not taken[name]
        if shares.take(name, amount):
            taken[name] += amount
            assert is_first or taken[name] <= (TOTAL - others) / 2
        else:
            assert taken.total() + amount > TOTAL or (not is_first and taken[name] + amount > (TOTAL - others) // 2)
        assert taken.total() <= TOTAL
        assert +taken == shares.taken


@every_row("customers", [1, 2, 3, 4, 5])
def test_there_is_room_for_one_more(customers: int):
    """Even if each takes all that it can, a new customer gets something."""
    shares = Shares(TOTAL)
    for number in range(customers):
        while shares.take(f"c{number}"):
            pass

    assert TOTAL // 2 == shares.taken["c0"]
    assert shares.take("new")


async def test_whoever_waits_is_served_in_order():
    """Those who fit are granted in the order in which they came; one over its own share does not hold up the others."""
    shares, order = Shares(4), list[str]()

    async def work(name: str, customer: str, amount: int) -> None:
        await shares.wait(customer, amount)
        order.append(name)

    assert (True, True) == (shares.take("a"), shares.take("a"))
    tasks = [asyncio.create_task(work(name, name[0], 1)) for name in ("a1", "b1", "a2", "c1", "d1")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ["b1", "c1"] == order
    for customer in "aab":
        shares.give_back(customer)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks[:1], *tasks[4:])

    assert ["b1", "c1", "d1", "a1"] == order[:2] + sorted(order[2:4], reverse=True)
    tasks[2].cancel()


async def test_a_large_request_is_not_starved_by_small_ones():
    """A customer that has nothing waits for what it needs, and those who need less come after it."""
    shares = Shares(10)
    for name in ("a", "b"):
        assert shares.take(name, 4)
    large = asyncio.create_task(shares.wait("large", 8))
    await asyncio.sleep(0)
    small = asyncio.create_task(shares.wait("small", 1))
    await asyncio.sleep(0)
    assert (False, False) == (large.done(), small.done())

    shares.give_back("a", 4)
    shares.give_back("b", 4)
    async with asyncio.timeout(5):
        await asyncio.gather(large, small)

    assert {"large": 8, "small": 1} == shares.taken


@pytest.mark.parametrize("is_granted", [False, True])
async def test_who_is_cancelled_takes_nothing(is_granted: bool):
    """A cancelled wait leaves nothing taken, even if it was granted in the same moment; the next one is served."""
    shares = Shares(1)
    assert shares.take("a")
    first, second = (asyncio.create_task(shares.wait(name)) for name in ("b", "c"))
    await asyncio.sleep(0)
    if is_granted:
        shares.give_back("a")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    if not is_granted:
        shares.give_back("a")
    async with asyncio.timeout(5):
        await second

    assert {"c": 1} == shares.taken


def test_a_block_gives_back_what_it_took():
    """Even if it fails; one that found no room has nothing to give back."""
    shares = Shares(2)

    def fail() -> None:
        with shares.tried("a") as first, shares.tried("a") as second:
            assert (True, False) == (first, second)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with shares.tried("b") as is_taken:
        assert is_taken

    assert {} == shares.taken

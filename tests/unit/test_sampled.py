"""Which points of many a test tries in which tier."""

from __future__ import annotations

import itertools

import pytest

from tests.support.sampled import Sampled, sampled_tests


def test_a_sample_is_every_eighth_point_and_at_least_one():
    """Each table that is sampled starts at the next point, however many points there are; the long tier has all."""
    sampled = Sampled(is_whole=False, start=1)

    assert [1, 9, 17] == [*sampled(range(18))]
    assert [2, 10, 18] == [*itertools.islice(sampled(itertools.count()), 3)]
    assert [3, 8] == [*sampled(range(10), share=5)]
    assert [2] == [*sampled(range(3))]
    assert [] == [*sampled(())]
    assert [*range(8)] == [*Sampled()(range(8))]


@pytest.mark.parametrize("case", range(9))
def test_cases_start_at_different_points_and_the_long_tier_has_them_all(
    request: pytest.FixtureRequest, sampled: Sampled, case: int
):
    """Each test that samples is in both tiers; so is this one."""
    tests = sampled_tests(request.session.items)
    assert request.node in tests
    tier = request.config.option.markexpr

    assert tier != "long" or all(test.get_closest_marker("long") for test in tests)
    assert ([case % 8] if tier == "not long" else [*range(8)]) == [*sampled(range(8))]

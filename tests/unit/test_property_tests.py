"""How many examples property tests try in which tier."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.property_tests import property_tests, shorten


@pytest.mark.parametrize(("examples", "few"), [(5, 5), (40, 10), (600, 60)])
def test_a_shortened_test_tries_a_tenth_but_not_fewer_than_ten(examples: int, few: int):
    """The number in its own settings counts, and shortening it twice is shortening it once."""
    tried = []

    @settings(max_examples=examples, database=None)
    @given(st.integers())
    def property_test(number: int) -> None:
        tried.append(number)

    shorten(property_test)
    shorten(property_test)
    property_test()

    assert few == len(tried)


@given(st.none())
def test_property_tests_are_in_both_tiers(request: pytest.FixtureRequest, nothing: None):
    """Each is in the long tier, with all its examples, and in the default one, with few; so is this one."""
    assert nothing is None
    tests = property_tests(request.session.items)
    assert request.node in tests
    tier = request.config.option.markexpr

    assert {tier == "not long"} == {hasattr(test.obj, "whole_settings") for test in tests}
    assert tier != "long" or all(test.get_closest_marker("long") for test in tests)

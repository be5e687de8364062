"""Days."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.clock import shifted


@given(st.dates(), st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_a_day_is_shifted_within_the_calendar(day: date, by: timedelta):
    """Beyond the first or the last day there is that day."""
    shift = timedelta(days=by.days)
    expected = date.min if day.toordinal() + by.days < 1 else date.max
    if date.min.toordinal() <= day.toordinal() + by.days <= date.max.toordinal():
        expected = day + shift

    assert expected == shifted(day, by)

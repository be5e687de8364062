"""Periods of statements: months and ranges of days, as requests name them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.periods import Days, PeriodInvalid, is_month, read_period
from shared.clock import shifted
from tests.support.rows import every_row

TODAY = date(2026, 11, 14)


def period(**parameters: str) -> Days:
    """Return the period of a query; `from` is spelt `first` and `to` is spelt `last`."""
    names = {"month": "month", "first": "from", "last": "to"}
    return read_period({names[name]: text for name, text in parameters.items()}, TODAY, lambda name: f"`{name}`")


@given(st.dates(date(1000, 1, 1)))
def test_a_month_is_its_days(day: date):
    """A month's days are all that have its name, and have that month; one day fewer is no month."""
    month = f"{day:%Y-%m}"
    days = Days.of_month(month)

    assert month == days.month == str(days)
    assert (1, month) == (days.first.day, f"{days.last:%Y-%m}")
    assert shifted(days.last, timedelta(days=1)).day in {1, 31}  # 31: there is no later day
    assert Days(days.first, days.last - timedelta(days=1)).month is None


@every_row(
    ("parameters", "first", "last"),
    [
        ({}, date(2026, 11, 1), date(2026, 11, 30)),
        ({"month": "2024-02"}, date(2024, 2, 1), date(2024, 2, 29)),
        ({"first": "2026-11-29", "last": "2026-12-02"}, date(2026, 11, 29), date(2026, 12, 2)),
        ({"first": "2026-11-29", "last": "2026-11-29"}, date(2026, 11, 29), date(2026, 11, 29)),
        ({"first": "1000-01-01", "last": "9999-12-31"}, date(1000, 1, 1), date(9999, 12, 31)),
    ],
)
def test_parameters_name_a_period(parameters: dict[str, str], first: date, last: date):
    """A month, or a first and a last day, both included; by default this month."""
    assert Days(first, last) == period(**parameters)


@every_row(
    ("parameters", "text"),
    [
        *(({"month": text}, "`month` must be a month") for text in ("", "2026-13", "0999-01", "2026-11-01")),
        *(({"first": text, "last": "2026-11-30"}, "`from` must be a day") for text in ("", "2026-11", "2026-11-31")),
        *(({"first": "2026-11-01", "last": text}, "`to` must be a day") for text in ("", "20261130", "2026-1-1")),
        ({"first": "2026-11-01", "last": "2026-11-01T00"}, "`to` must be a day"),
        ({"first": "2026-11-02", "last": "2026-11-01"}, "`from` must not be later than `to`"),
        ({"first": "2026-11-02"}, "`from` and `to` need each other"),
        ({"last": "2026-11-02"}, "`from` and `to` need each other"),
        ({"month": "2026-11", "first": "2026-11-02", "last": "2026-11-02"}, "`month` and `from` exclude each other"),
    ],
)
def test_other_parameters_are_refused(parameters: dict[str, str], text: str):
    """The message names the parameter and what would be right."""
    with pytest.raises(PeriodInvalid, match=text):
        period(**parameters)


@every_row(
    ("text", "valid"),
    [
        *((f"2026-{number:02}", 1 <= number <= 12) for number in range(14)),
        *((text, False) for text in ("2026-1", "2026-111", "2026-11\n", "x2026-11", "26-11", "2026/11", "٢٠٢٦-11", "")),
        ("0000-01", False),
    ],
)
def test_months(text: str, valid: bool):
    """A month has four digits, a hyphen, and 01 to 12."""
    assert valid is bool(is_month(text))

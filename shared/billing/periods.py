"""Periods of statements: days in UTC, the first and the last included. Pure."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

is_month = re.compile(r"[1-9][0-9]{3}-(?:0[1-9]|1[0-2])").fullmatch
_is_day = re.compile(r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}").fullmatch
PERIOD_NAMES = ("month", "from", "to")
"""The parameters of a query that name a period."""


class PeriodInvalid(ValueError):
    """The parameters name no period; the text says which of them is wrong."""


@dataclass(frozen=True, slots=True)
class Days:
    """The days from `first` to `last`."""

    first: date
    last: date

    @classmethod
    def of_month(cls, month: str) -> Days:
        """Return the days of a month such as `2026-11`."""
        year, number = map(int, month.split("-"))
        return cls(date(year, number, 1), date(year, number, monthrange(year, number)[1]))

    @property
    def month(self) -> str | None:
        """The month, if they are the days of one."""
        month = f"{self.first:%Y-%m}"
        return month if self == Days.of_month(month) else None

    def __str__(self) -> str:
        """The period in words, after "in" or "of"."""
        return self.month or (f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}")


def read_period(parameters: Mapping[str, str | None], today: date, label: Callable[[str], str]) -> Days:
    """
    Return the period that `month`, or `from` and `to`, name; by default the month of `today`.

    `label` says how a parameter is written. Raises PeriodInvalid.
    """
    month, first, last = map(parameters.get, PERIOD_NAMES)
    if first is None and last is None:
        month = f"{today:%Y-%m}" if month is None else month
        if not is_month(month):
            raise PeriodInvalid(f"{label('month')} must be a month, such as 2026-11.")
        return Days.of_month(month)
    if month is not None:
        raise PeriodInvalid(f"{label('month')} and {label('from')} exclude each other.")
    if first is None or last is None:
        raise PeriodInvalid(f"{label('from')} and {label('to')} need each other: they are the first and the last day.")
    days = Days(_read_day(first, label("from")), _read_day(last, label("to")))
    if days.first > days.last:
        raise PeriodInvalid(f"{label('from')} must not be later than {label('to')}.")
    return days


def _read_day(text: str, label: str) -> date:
    try:
        if _is_day(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise PeriodInvalid(f"{label} must be a day, such as 2026-11-29.")

"""
Which of many points a test tries: every eighth in the default tier, all of them in the long one.

It is for a test that does the same at each operation at which a worker may die, at each write that may fail, or for
each seed. One that asks for the fixture `sampled` is in both tiers, without a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

SHARE = 8
_Point = TypeVar("_Point")


def few_by_default(rows: Iterable[Any], share: int = SHARE) -> list[Any]:
    """Return the rows of `pytest.mark.parametrize`; all but one of so many are long. The default tier has that one."""
    return [
        row
        if not number % share
        else pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.long)
        for number, row in enumerate(rows)
    ]


def sampled_tests(items: Iterable[pytest.Item]) -> list[pytest.Function]:
    """Return the tests that sample points."""
    return [item for item in items if isinstance(item, pytest.Function) and "sampled" in item.fixturenames]


@dataclass
class Sampled:
    """Chooses points, which may be endless. The same test chooses the same ones each time."""

    is_whole: bool = True
    start: int = 0
    """Each table that is sampled starts at another point, and so does each case of a test."""

    def __call__(self, points: Iterable[_Point], *, share: int = SHARE) -> Iterator[_Point]:
        """Return one of so many of the points, at least one, or all of them."""
        if self.is_whole:
            return iter(points)
        start, self.start = self.start % share, self.start + 1
        return _every(points, start, share)


def _every(points: Iterable[_Point], start: int, share: int) -> Iterator[_Point]:
    last, skipped = None, True
    for number, point in enumerate(points):
        last = (point,)
        if number % share == start:
            skipped = False
            yield point
    if skipped and last:
        yield last[0]


def sampled_of(test: pytest.Item) -> Sampled:
    """Return what chooses a test's points."""
    indices = test.callspec.indices.values() if hasattr(test, "callspec") else ()
    return Sampled(test.config.option.markexpr != "not long", sum(indices))

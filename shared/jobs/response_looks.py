"""When a response that is made in its provider's background is looked at. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from shared.storage.base import MAX_HIDDEN_S

MIN_WAIT_S, MAX_SHORT_WAIT_S = 2.0, 30.0
"""Between two looks in the first two minutes."""
MAX_WAIT_S = 600.0
"""Between two later ones."""
_AGES_FOR_S = 8 * 24 * 3600.0
"""A job waits for seven days at most."""
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _ages() -> Iterator[float]:
    age_s = MIN_WAIT_S
    while age_s < _AGES_FOR_S:
        yield age_s
        if age_s < MAX_HIDDEN_S:
            age_s += min(age_s, MAX_SHORT_WAIT_S)
        else:
            age_s += min(max(age_s / 4, MAX_HIDDEN_S + MIN_WAIT_S), MAX_WAIT_S)


_AGES = tuple(_ages())


def next_look(created_at: datetime, after: datetime) -> datetime:
    """
    Return when a response of that age is looked at first after a time.

    Old ones are looked at together, at whole minutes.
    """
    last = bisect_right(_AGES, (after - created_at).total_seconds())
    for age_s in _AGES[max(last - 1, 0) : last + 2]:
        look_at = created_at + timedelta(seconds=age_s)
        if age_s > MAX_HIDDEN_S:
            look_at += (_EPOCH - look_at) % _MINUTE
        if look_at > after:
            return look_at
    return after + timedelta(seconds=MAX_WAIT_S)

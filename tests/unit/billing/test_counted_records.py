"""Which usage records count: the placeholders of crashed attempts, their markers, and pages in between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.billing.usage_records import CountedRows, counted, place_of_attempt, place_of_call, place_of_marker
from shared.storage.base import Row

CASES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "a crashed attempt": (["0000", "~1"], ["0000", "~1"]),
    "a slow attempt that was billed nothing": (["0000", "~1", "~1.0"], ["0000"]),
    "a slow attempt": (["0000", "~1", "~1.0", "~1.1", "~1.2"], ["0000", "~1.1", "~1.2"]),
    "a slow attempt whose placeholder is not written yet": (["~1.0", "~1.1"], ["~1.1"]),
    "a crashed attempt with an earlier call cut short": (["~1", "~1.1", "~1.2"], ["~1", "~1.1", "~1.2"]),
    "the tenth call of an attempt": (["~1", "~1.10"], ["~1", "~1.10"]),
    "two crashed attempts": (["~1", "~2"], ["~1", "~2"]),
    "the first of two was slow": (["~1", "~1.0", "~2"], ["~2"]),
    "the second of two was slow": (["~1", "~2", "~2.0"], ["~1"]),
    "the first of ten was slow": (["~1", "~1.0", "~10"], ["~10"]),
    "the tenth was slow": (["~1", "~10", "~10.0"], ["~1"]),
}


def rows(places: Sequence[str], job: str = "job-1_a") -> list[Row]:
    """Records with these places, in the order of their keys."""
    keys = [f"u_2026-11_{job}_{place}" for place in places]
    assert sorted(keys) == keys
    return [Row("contoso", key, {}) for key in keys]


@pytest.mark.parametrize(("places", "expected"), CASES.values(), ids=CASES)
def test_which_records_count(places: Sequence[str], expected: Sequence[str]) -> None:
    """A placeholder counts unless its attempt has a marker; a marker never counts; everything else does."""
    assert expected == [row.key.removeprefix("u_2026-11_job-1_a_") for row in counted(rows(places))]


@pytest.mark.parametrize(("places", "expected"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_do_not_matter(places: Sequence[str], expected: Sequence[str], size: int) -> None:
    """The same records count, each once, wherever a page ends, and if pages are empty."""
    reader, read = CountedRows(), []
    for start in range(0, len(places), size):
        read += reader.read(rows(places)[start : start + size])
        read += reader.read([])

    read += reader.rest()

    assert expected == [row.key.removeprefix("u_2026-11_job-1_a_") for row in read]


def test_a_marker_is_of_its_own_job_and_month() -> None:
    """A placeholder at the end of one job's records counts, although the next job's begin with a marker."""
    jobs = [*rows(["~1"]), *rows(["~1.0"], "job-2_a")]

    assert jobs[:1] == counted(jobs)


def test_places() -> None:
    """A marker is right behind its placeholder, and before the calls of the attempt."""
    places = [place_of_attempt(1), place_of_marker(1), place_of_call(1, 1), place_of_call(1, 10), place_of_attempt(10)]

    assert ["~1", "~1.0", "~1.1", "~1.10", "~10"] == places == sorted(places)

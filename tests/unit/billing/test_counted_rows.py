"""Which usage records count: the placeholders of crashed attempts, their markers, and pages in between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.billing.usage_records import CountedRows, call_suffix, counted, marker_suffix, placeholder_suffix
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
    "steps whose keys look like a placeholder's and a marker's": (["a", "a.0"], ["a", "a.0"]),
}


def rows(suffixes: Sequence[str], job: str = "job-1_a") -> list[Row]:
    """Return records whose keys end with these suffixes, in the order of their keys."""
    keys = [f"u_2026-11_{job}_{suffix}" for suffix in suffixes]
    assert sorted(keys) == keys
    return [Row("contoso", key, {}) for key in keys]


@pytest.mark.parametrize(("suffixes", "expected"), CASES.values(), ids=CASES)
def test_markers_supersede_placeholders(suffixes: Sequence[str], expected: Sequence[str]) -> None:
    """A placeholder counts unless its attempt has a marker; a marker never counts; everything else does."""
    assert expected == [row.key.removeprefix("u_2026-11_job-1_a_") for row in counted(rows(suffixes))]


@pytest.mark.parametrize(("suffixes", "expected"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_make_no_difference(suffixes: Sequence[str], expected: Sequence[str], size: int) -> None:
    """The same records count, each once, wherever a page ends, and if pages are empty."""
    reader, read = CountedRows(), []
    for start in range(0, len(suffixes), size):
        read += reader.read(rows(suffixes)[start : start + size])
        read += reader.read([])

    read += reader.rest()

    assert expected == [row.key.removeprefix("u_2026-11_job-1_a_") for row in read]


def test_marker_belongs_to_its_job() -> None:
    """A placeholder counts if it is a job's last record, even if another job's marker follows."""
    jobs = [*rows(["~1"]), *rows(["~1.0"], "job-2_a")]

    assert jobs[:1] == counted(jobs)


def test_suffixes_are_sorted() -> None:
    """A marker follows its placeholder, before the calls of its attempt."""
    suffixes = [placeholder_suffix(1), marker_suffix(1), call_suffix(1, 1), call_suffix(1, 10), placeholder_suffix(10)]

    assert ["~1", "~1.0", "~1.1", "~1.10", "~10"] == suffixes == sorted(suffixes)

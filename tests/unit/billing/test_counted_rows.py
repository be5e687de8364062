"""Which usage records count: the placeholders of crashed attempts, their markers, and pages in between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


JOBS = st.sampled_from(["job-1_a", "job-1_b", "job-1.0_a", "job-1~_a", "x_y_a"])
ATTEMPTS = st.integers(1, 12)
SUFFIXES = st.one_of(
    st.integers(0, 20).map(lambda number: f"{number:04}"),
    st.tuples(st.integers(0, 20), st.integers(1, 3)).map(lambda step: f"{step[0]:04}.{step[1]}"),
    ATTEMPTS.map(placeholder_suffix),
    ATTEMPTS.map(marker_suffix),
    st.tuples(ATTEMPTS, st.integers(1, 12)).map(lambda call: call_suffix(*call)),
)
RECORDS = st.lists(st.tuples(JOBS, SUFFIXES), max_size=20, unique=True).map(
    lambda keys: [Row("acme", f"u_2026-11_{job}_{suffix}", {}) for job, suffix in sorted(keys, key="_".join)]
)


def keys(rows: Sequence[Row]) -> list[str]:
    """Return the keys of records."""
    return [row.key for row in rows]


def rows(suffixes: Sequence[str], job: str = "job-1_a") -> list[Row]:
    """Return records whose keys end with these suffixes, in the order of their keys."""
    records = [Row("contoso", f"u_2026-11_{job}_{suffix}", {}) for suffix in suffixes]
    assert sorted(keys(records)) == keys(records)
    return records


@pytest.mark.parametrize(("suffixes", "expected"), CASES.values(), ids=CASES)
def test_markers_supersede_placeholders(suffixes: Sequence[str], expected: Sequence[str]) -> None:
    """A placeholder counts unless its attempt has a marker; a marker never counts; everything else does."""
    assert expected == [row.key.removeprefix("u_2026-11_job-1_a_") for row in counted(rows(suffixes))]


def test_marker_belongs_to_its_job() -> None:
    """A placeholder counts if it is a job's last record, even if another job's marker follows."""
    jobs = [*rows(["~1"]), *rows(["~1.0"], "job-2_a")]

    assert jobs[:1] == counted(jobs)


def test_suffixes_are_sorted() -> None:
    """A marker follows its placeholder, before the calls of its attempt."""
    suffixes = [placeholder_suffix(1), marker_suffix(1), call_suffix(1, 1), call_suffix(1, 10), placeholder_suffix(10)]

    assert ["~1", "~1.0", "~1.1", "~1.10", "~10"] == suffixes == sorted(suffixes)


@given(RECORDS, st.data())
def test_pages_of_any_size_give_the_same_records(rows: list[Row], data: st.DataObject):
    """Wherever pages end, and if some are empty, the same records count, each once, in the order of their keys."""
    reader, counting, rest = CountedRows(), [], list(rows)
    while rest:
        size = data.draw(st.integers(0, len(rest)))
        counting += reader.read(rest[:size])
        rest = rest[size:]
    counting += reader.rest()

    assert keys(counted(rows)) == keys(counting)


@given(RECORDS)
def test_a_placeholder_counts_unless_its_attempt_has_a_marker(rows: list[Row]):
    """A marker never counts, and every other record does."""
    existing = set(keys(rows))

    expected = []
    for key in keys(rows):
        suffix = key.rpartition("_")[2]
        is_own = suffix.startswith("~")
        if is_own and suffix.endswith(".0"):
            continue
        if is_own and "." not in suffix and f"{key}.0" in existing:
            continue
        expected.append(key)

    assert expected == keys(counted(rows))

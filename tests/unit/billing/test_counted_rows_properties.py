"""What holds for the usage records of any jobs, however they are read."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.billing.usage_records import CountedRows, call_suffix, counted, marker_suffix, placeholder_suffix
from shared.storage.base import Row

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
    return [row.key for row in rows]


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

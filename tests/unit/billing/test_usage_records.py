"""Usage records: their values, their keys, and which of them count."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_records import (
    MAX_MARKER_DISTANCE,
    RecordLabels,
    attempt_of,
    call_suffix,
    is_placeholder,
    marker_row,
    placeholder_days,
    placeholder_key,
    placeholder_suffix,
    usage_rows,
)
from shared.contract.result import ConnectionLabel
from shared.contract.usage import COUNTS, Usage
from shared.storage.base import Row
from tests.support.counted_records import counted
from tests.support.rows import every_row

AT = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")


def labels(job_id: str = "j", **values: Any) -> RecordLabels:
    """Return the labels of a job's records."""
    return RecordLabels("acme", job_id, "chat", "m", LABEL, **values)


def keys(records: list[Row]) -> list[str]:
    """Return the records' keys without their day."""
    return [row.key.removeprefix("u_2026-11-30_") for row in records]


def test_record_has_the_facts_of_its_call():
    """A record is in the customer's partition, and has the account, the outcome and all that is known of its call."""
    usage = Usage(
        calls=1,
        input_tokens=5,
        cached_tokens=3,
        output_tokens=4,
        reasoning_tokens=0,
        total_tokens=9,
        seconds=1.5,
        derived=("output_tokens",),
        consistent=True,
    )
    call = Call(usage, "gpt-4.1-2025-04-14", "req-1", 1, None, "lost", "priority", "batch", b'{"a":1}', "response-1f")

    row, stored = usage_rows(labels("job-1", deployment_scope="data_zone"), [call], AT)

    assert ("acme", "u_2026-11-30_job-1_0000", "") == (row.partition, row.key, row.etag)
    assert {
        "job_id": "job-1",
        "action": "chat",
        "model": "m",
        "connection": "default",
        "source": "key_vault",
        "provider": "openai",
        "billed_to": "customer",
        "at": AT,
        "outcome": "lost",
        "reported": True,
        "calls": 1,
        "input_tokens": 5,
        "cached_tokens": 3,
        "output_tokens": 4,
        "reasoning_tokens": 0,
        "total_tokens": 9,
        "images": 1,
        "seconds": 1.5,
        "service_tier": "priority",
        "processing": "batch",
        "deployment_scope": "data_zone",
        "derived": "output_tokens",
        "consistent": True,
        "provider_usage": '{"a":1}',
        "answered_by": "gpt-4.1-2025-04-14",
        "request_id": "req-1",
    } == row.values
    consumed = call.consumed()
    for name in ("calls", *COUNTS, "service_tier", "processing", "consistent"):
        assert getattr(consumed, name) == row.values.get(name), name
    assert ",".join(consumed.derived) == row.values["derived"]
    assert Row("acme", "m_response-1f", {"at": AT, "record": row.key}) == stored


@pytest.mark.parametrize(("call", "outcome", "calls"), [(Call(images=2), "answered", 1), (UNANSWERED, "unanswered", 0)])
def test_unreported_usage_is_marked(call: Call, outcome: str, calls: int):
    """A record says if its provider reported no usage, and has no counts then. An unanswered call counts zero calls."""
    (row,) = usage_rows(labels(), [call], AT)

    assert (outcome, False, calls, call.images) == tuple(
        row.values.get(name) for name in ("outcome", "reported", "calls", "images")
    )
    assert {"input_tokens", "output_tokens", "answered_by", "request_id", "derived", "provider_usage"}.isdisjoint(
        row.values
    )


@every_row("length", [1, 200, 201, 40_000])
def test_long_names_are_cut(length: int):
    """Of a model's name and a request id, a record has the first 200 characters: a table refuses very long ones."""
    (row,) = usage_rows(labels(), [Call(None, "m" * length, "r" * length)], AT)

    assert ("m" * min(length, 200), "r" * min(length, 200)) == (row.values["answered_by"], row.values["request_id"])


@every_row(
    ("incarnation", "suffix", "expected"),
    [
        ("", "", ["j_0000", "j_0001", "j_0002"]),
        ("0a1b", "", ["j_0a1b_0000", "j_0a1b_0001", "j_0a1b_0002"]),
        ("", "p0001", ["j_p0001", "j_p0001.1", "j_p0001.2"]),
        ("0a1b", "~1", ["j_0a1b_~1", "j_0a1b_~1.1", "j_0a1b_~1.2"]),
    ],
)
def test_same_calls_have_the_same_keys(incarnation: str, suffix: str, expected: list[str]):
    """The same calls of the same job have the same keys each time, so that a record can't be written twice."""
    rows = usage_rows(labels(incarnation=incarnation), [Call()] * 3, AT, suffix=suffix)

    assert (expected, rows) == (
        keys(rows),
        usage_rows(labels(incarnation=incarnation), [Call()] * 3, AT, suffix=suffix),
    )
    assert ["j_0009", "j_0010"] == keys(usage_rows(labels(), [Call()] * 11, AT))[9:]


def test_different_jobs_have_different_keys():
    """Records of two jobs never have the same key, whatever their ids, also if an id is used again after its job."""
    jobs = ["j", "j_0000", "j_0001", "j_0000_0000", "2026-11-30", "_"]

    all_keys = [
        key
        for job, incarnation in itertools.product(jobs, ("0a1b2c3d", "00000000", ""))
        for key in keys(usage_rows(labels(job, incarnation=incarnation), [Call()] * 2, AT))
    ]

    assert len(jobs) * 6 == len(set(all_keys))


_attempts = st.tuples(
    st.sampled_from(["job-1", "job-1.0", "job-1~", "x_y"]), st.sampled_from(["a", "b"]), st.integers(1, 12)
)
_days = st.integers(0, MAX_MARKER_DISTANCE.days).map(lambda days: AT - timedelta(days=days))
_records = st.lists(
    st.tuples(_attempts, st.sampled_from(["call", "step", "placeholder", "marker"]), _days), max_size=20
)


@given(_records)
def test_a_placeholder_counts_unless_its_attempt_has_a_marker(records: list[tuple[Any, ...]]):
    """Of all records, a marker, of whatever day, never counts, and every other record does."""
    rows, expected = {}, set()
    for (job, incarnation, attempt), kind, at in records:
        job_labels = labels(job, incarnation=incarnation)
        suffix = {"call": call_suffix(attempt, 1), "step": "0001.1", "placeholder": placeholder_suffix(attempt)}.get(
            kind
        )
        row = (
            marker_row(job_labels, attempt, at, since=at)
            if suffix is None
            else usage_rows(job_labels, [Call()], at, suffix=suffix)[0]
        )
        rows[row.key] = row
        settled = any(other[:2] == ((job, incarnation, attempt), "marker") for other in records)
        if suffix is not None and not (kind == "placeholder" and settled):
            expected.add(row.key)

    assert sorted(expected) == [row.key for row in counted(rows.values())]


@pytest.mark.parametrize(("since", "first"), [(None, 62), (timedelta(days=62), 62), (timedelta(hours=1), 1)])
def test_a_marker_has_placeholders_of_few_days(since: timedelta | None, first: int):
    """They are at most 62 days older, and not older than the attempt, give or take a day between two clocks."""
    marker = marker_row(labels("x_y"), 2, AT, since=AT - (since or timedelta(0)))
    if since is None:
        marker = replace(marker, values={})
    (placeholder,) = usage_rows(labels("x_y"), [UNANSWERED], AT - timedelta(days=3), suffix=placeholder_suffix(2))

    assert (date(2026, 11, 30) - timedelta(days=first), date(2026, 11, 30)) == placeholder_days(marker)
    assert placeholder.key == placeholder_key(marker, date(2026, 11, 27))
    assert is_placeholder(placeholder)
    assert attempt_of(placeholder) == attempt_of(marker)

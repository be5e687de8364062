"""Usage records: their values and their keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.billing.usage import Call
from shared.billing.usage_records import MARKER, usage_rows
from shared.contract.result import ConnectionLabel, Usage
from shared.storage.base import Row

AT = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")


def rows(calls: list[Call], job_id: str = "j", **options: Any) -> list[Row]:
    """Return the records of a job's calls."""
    return usage_rows("acme", job_id, "chat", "m", LABEL, calls, AT, **options)


def keys(records: list[Row]) -> list[str]:
    """Return the records' keys without their month."""
    return [row.key.removeprefix("u_2026-11_") for row in records]


def test_record_has_the_facts_of_its_call():
    """A record is in the customer's partition, and has the account, the outcome and all counts of its call."""
    usage = Usage(calls=1, input_tokens=5, output_tokens=4, cached_tokens=3, reasoning_tokens=2)

    (row,) = rows([Call(usage, "gpt-4.1-2025-04-14", "req-1", images=1, outcome="lost")], "job-1")

    assert ("acme", "u_2026-11_job-1_0000", "") == (row.partition, row.key, row.etag)
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
        "output_tokens": 4,
        "cached_tokens": 3,
        "reasoning_tokens": 2,
        "images": 1,
        "answered_by": "gpt-4.1-2025-04-14",
        "request_id": "req-1",
    } == row.values


@pytest.mark.parametrize(
    ("call", "outcome", "calls"),
    [
        (Call(None, images=2), "answered", 1),
        (Call(None, outcome="unanswered"), "unanswered", 0),
        (MARKER, "answered", 0),
    ],
)
def test_unreported_usage_is_marked(call: Call, outcome: str, calls: int):
    """A record says if its provider reported no usage. An unanswered call and a marker count zero calls."""
    (row,) = rows([call])

    assert (outcome, call is MARKER, calls, 0, call.images) == tuple(
        row.values[name] for name in ("outcome", "reported", "calls", "input_tokens", "images")
    )
    assert {"answered_by", "request_id"}.isdisjoint(row.values)


@pytest.mark.parametrize("length", [1, 200, 201, 40_000])
def test_long_names_are_cut(length: int):
    """Of a model's name and a request id, a record has the first 200 characters: a table refuses very long ones."""
    (row,) = rows([Call(None, "m" * length, "r" * length)])

    assert ("m" * min(length, 200), "r" * min(length, 200)) == (row.values["answered_by"], row.values["request_id"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["j_0000", "j_0001", "j_0002"]),
        ({"incarnation": "0a1b"}, ["j_0a1b_0000", "j_0a1b_0001", "j_0a1b_0002"]),
        ({"suffix": "p0001"}, ["j_p0001", "j_p0001.1", "j_p0001.2"]),
        ({"incarnation": "0a1b", "suffix": "~1"}, ["j_0a1b_~1", "j_0a1b_~1.1", "j_0a1b_~1.2"]),
    ],
)
def test_same_calls_have_the_same_keys(options: dict[str, str], expected: list[str]):
    """
    The same calls of the same job have the same keys each time, so that a record can't be written twice. Their four
    decimal digits sort them by number.
    """
    assert expected == keys(rows([Call(None)] * 3, **options)) == keys(rows([Call(None)] * 3, **options))
    assert options or ["j_0009", "j_0010", "j_0011"] == keys(rows([Call(None)] * 12))[9:]
    assert [] == rows([], **options)


def test_different_jobs_have_different_keys():
    """Records of two jobs never have the same key, whatever their ids, also if an id is used again after its job."""
    jobs = ["j", "j_0000", "j_0001", "j_0000_0000", "2026-11", "_"]

    all_keys = [
        key
        for job in jobs
        for incarnation in ("0a1b2c3d", "00000000", "")
        for key in keys(rows([Call(None)] * 2, job, incarnation=incarnation))
    ]

    assert len(jobs) * 6 == len(set(all_keys))

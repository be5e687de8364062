"""Usage records of any jobs, for tests of statements."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from hypothesis import strategies as st

from shared.billing.statement_sums import DIMENSIONS
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.storage.base import Row
from tests.support.fakes import MemoryTable

MONTH = "2026-11"
NOVEMBER_DAYS = (date(2026, 11, 1), date(2026, 11, 30))

_counts = st.none() | st.integers(0, 2**31 - 1)
_usages = st.none() | st.builds(
    Usage,
    calls=st.just(1),
    input_tokens=_counts,
    output_tokens=_counts,
    cached_tokens=_counts,
    reasoning_tokens=_counts,
    seconds=st.none() | st.integers(0, 10**6).map(lambda ms: ms / 1000),
    derived=st.sampled_from([(), ("output_tokens",)]),
    consistent=st.booleans(),
)
_calls = st.builds(
    Call,
    _usages,
    images=st.none() | st.integers(0, 10),
    outcome=st.sampled_from(["answered", "lost", "unanswered"]),
    service_tier=st.sampled_from([None, "default", "priority"]),
)
_labels = st.builds(
    ConnectionLabel,
    name=st.sampled_from(["default", "spare"]),
    source=st.sampled_from(["key_vault", "static"]),
    provider=st.sampled_from(["openai", "foundry"]),
    billed_to=st.sampled_from(["customer", "operator"]),
)
_times = st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 30, 23, 59, 59), timezones=st.just(UTC))  # noqa: DTZ001
_names = st.sampled_from(
    ["gpt-4o", "", "=1+1", "+1", "-1", "@x", "'x", "\tx", " =1", "a,b", 'a"b', "a\r\nb", "ü", "\uff1d1"]
)
_models = _names | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)

JOBS = st.tuples(_models, st.sampled_from(["chat", "raw"]), _labels, st.lists(_calls, max_size=4), _times)
"""Model, action, connection, calls and time."""
dimensions = st.lists(st.sampled_from(DIMENSIONS), unique=True)


def records_of(jobs: list[tuple[Any, ...]], customer: str = "acme") -> list[Row]:
    """Return the usage records of jobs."""
    return [
        row
        for number, (model, action, label, calls, at) in enumerate(jobs)
        for row in usage_rows(RecordLabels(customer, f"job{number}", action, model, label), calls, at)
    ]


async def table_of(rows: list[Row], table: MemoryTable | None = None) -> MemoryTable:
    """Return a table with these rows, by default one with small pages."""
    table = MemoryTable(page_size=3) if table is None else table
    for row in rows:
        await table.insert(row)
    return table

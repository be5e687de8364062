"""
Usage records: one row for each call, in the customer's partition. Append-only: no worker changes another's. Pure.

An attempt that takes over from one that crashed appends a placeholder for it, `unanswered`: a call that was under way
may have been billed. If the attempt was only slow, it appends its own records later, and then a marker that says that
all its calls are on record. A placeholder counts unless its attempt has the marker; that rule is applied when records
are read (`CountedRows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from shared.billing.usage import Call
from shared.contract.result import ConnectionLabel, Usage
from shared.storage.base import Row

_MAX_NAME_LENGTH = 200
"""Characters of a name in an endpoint's response. If the table refused the record, the model would be called again."""
MARKER = Call(Usage())
"""The call of a marker. It consumed nothing, and is not counted."""
_MARKER_SUFFIX = ".0"


def placeholder_suffix(attempt: int) -> str:
    """Return how the key of the placeholder for a crashed attempt ends."""
    return f"~{attempt}"


def call_suffix(attempt: int, number: int) -> str:
    """
    Return how the key of an attempt's record of a call ends that belongs to no step.

    Numbers count from 1; 0 is the marker's.
    """
    return f"~{attempt}.{number}"


def marker_suffix(attempt: int) -> str:
    """Return how the key of the marker ends that all calls of an attempt are on record: right after its placeholder."""
    return f"~{attempt}{_MARKER_SUFFIX}"


def usage_rows(
    customer: str,
    job_id: str,
    action: str,
    model: str,
    label: ConnectionLabel,
    calls: Sequence[Call],
    at: datetime,
    *,
    incarnation: str = "",
    suffix: str = "",
) -> list[Row]:
    """
    Return a usage record for each call: `u_{month}_{job_id}_{incarnation}_{number}`.

    A `suffix`, such as a step's key, replaces the number; the second and later calls then have `.1`, `.2` … after it.
    The key identifies the call, so that a record can't be written twice.
    """
    rows = []
    for number, call in enumerate(calls):
        consumed = call.consumed()
        values: dict[str, Any] = {
            "job_id": job_id,
            "action": action,
            "model": model,
            "connection": label.name,
            "source": label.source,
            "provider": label.provider,
            "billed_to": label.billed_to,
            "at": at,
            "outcome": call.outcome,
            # Whether zeros are counts: a provider may report none. Images are always counted.
            "reported": call.tokens is not None,
            **{name: getattr(consumed, name) for name in Usage.__struct_fields__},
        }
        values |= {"answered_by": call.model[:_MAX_NAME_LENGTH]} if call.model else {}
        values |= {"request_id": call.request_id[:_MAX_NAME_LENGTH]} if call.request_id else {}
        ending = f"{number:04}" if not suffix else f"{suffix}.{number}" if number else suffix
        parts = ("u", f"{at:%Y-%m}", job_id, *([incarnation] if incarnation else []), ending)
        rows.append(Row(customer, "_".join(parts), values))
    return rows


class CountedRows:
    """Selects the usage records that count from all records, which it reads page by page in the order of their keys."""

    def __init__(self) -> None:
        self._placeholder: Row | None = None
        """The last record read, if it is a placeholder. It counts unless its marker is the next record."""

    def read(self, rows: Iterable[Row]) -> list[Row]:
        """Return the records of one page that count. A placeholder at its end is returned with the next page."""
        counted: list[Row] = []
        for row in rows:
            suffix = row.key.rpartition("_")[2]
            if self._placeholder is not None and row.key != f"{self._placeholder.key}{_MARKER_SUFFIX}":
                counted.append(self._placeholder)
            self._placeholder = row if _is_placeholder(suffix) else None
            if self._placeholder is None and not _is_marker(suffix):
                counted.append(row)
        return counted

    def rest(self) -> list[Row]:
        """Return the placeholder at the end of the last page, if it counts."""
        return [] if self._placeholder is None else [self._placeholder]


def counted(rows: Iterable[Row]) -> list[Row]:
    """Return the records that count. `rows`: all records, in the order of their keys."""
    reader = CountedRows()
    return [*reader.read(rows), *reader.rest()]


def _is_placeholder(suffix: str) -> bool:
    return suffix.startswith("~") and "." not in suffix


def _is_marker(suffix: str) -> bool:
    return suffix.startswith("~") and suffix.endswith(_MARKER_SUFFIX)

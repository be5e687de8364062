"""
Usage records: one row a call, in the customer's partition. Append-only: no worker corrects another's. Pure.

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
"""Characters of a name that an endpoint gives. A record that the table refuses would have the job bought again."""
MARKER = Call(Usage())
"""The call of a marker. It consumed nothing, and is not counted."""
_MARKER_SUFFIX = ".0"


def place_of_attempt(attempt: int) -> str:
    """Return the place, in a usage record's key, of the placeholder for an attempt that crashed."""
    return f"~{attempt}"


def place_of_call(attempt: int, number: int) -> str:
    """
    Return the place of an attempt's own record of a call that belongs to no step.

    Numbers count from 1; 0 is the place of the marker.
    """
    return f"~{attempt}.{number}"


def place_of_marker(attempt: int) -> str:
    """Return the place of the marker that all calls of an attempt are on record: right after its placeholder."""
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
    place: str = "",
) -> list[Row]:
    """
    Return a usage record for each call: `u_{month}_{job_id}_{incarnation}_{number}`.

    If the calls have a `place` of their own in the job, such as a step's key, it stands instead of the number (and
    `.1`, `.2` … after it). The key identifies the call, so that a record can't be written twice.
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
            # Counts that the provider did not report are marked as missing, not as zero. Images are always counted.
            "reported": call.tokens is not None,
            **{name: getattr(consumed, name) for name in Usage.__struct_fields__},
        }
        values |= {"answered_by": call.model[:_MAX_NAME_LENGTH]} if call.model else {}
        values |= {"request_id": call.request_id[:_MAX_NAME_LENGTH]} if call.request_id else {}
        suffix = f"{number:04}" if not place else f"{place}.{number}" if number else place
        parts = ("u", f"{at:%Y-%m}", job_id, *([incarnation] if incarnation else []), suffix)
        rows.append(Row(customer, "_".join(parts), values))
    return rows


class CountedRows:
    """Usage records that count, out of all records in the order of their keys, read page by page."""

    def __init__(self) -> None:
        self._placeholder: Row | None = None
        """The last record read, if it is a placeholder. It counts unless its marker is the next record."""

    def read(self, rows: Iterable[Row]) -> list[Row]:
        """Return the records of one page that count. A placeholder at its end is returned with the next page."""
        counted: list[Row] = []
        for row in rows:
            place = row.key.rpartition("_")[2]
            if self._placeholder is not None and row.key != f"{self._placeholder.key}{_MARKER_SUFFIX}":
                counted.append(self._placeholder)
            self._placeholder = row if _is_placeholder(place) else None
            if self._placeholder is None and not _is_marker(place):
                counted.append(row)
        return counted

    def rest(self) -> list[Row]:
        """Return the placeholder at the end of the last page, if it counts."""
        return [] if self._placeholder is None else [self._placeholder]


def counted(rows: Iterable[Row]) -> list[Row]:
    """Return the records that count out of all of them, in the order of their keys."""
    reader = CountedRows()
    return [*reader.read(rows), *reader.rest()]


def _is_placeholder(place: str) -> bool:
    return place.startswith("~") and "." not in place


def _is_marker(place: str) -> bool:
    return place.startswith("~") and place.endswith(_MARKER_SUFFIX)

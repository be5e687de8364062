"""
Usage records: one row for each call, in the customer's partition. Append-only: no worker changes another's. Pure.

A record belongs to the day of the transaction that wrote it, and its key begins with that day:
`u_{day}_{job_id}_{incarnation}_{call}`. A day is closed soon after its end: what is not written by then gets a later
day (`on_time`).

An attempt that takes over from one that crashed appends a placeholder for it, `unanswered`: a call that was under way
may have been billed. If the attempt was only slow, it appends its own records later, and then a marker that says that
all its calls are on record: the placeholder's key with `m_` in front, and maybe another day. A placeholder counts on
its day unless its attempt has a marker of that day or of an earlier one. A marker of a later day withdraws it on its
own day, as a record that counts -1: no day changes after it was closed. The rule is applied when records are read
(`usage_entries`). A call in a batch that could not be read in time has a placeholder of its own, in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from shared.billing.usage import Call
from shared.clock import shifted
from shared.contract.result import ConnectionLabel
from shared.contract.usage import MIXED, Usage
from shared.storage.base import Row

MAX_MARKER_DISTANCE = timedelta(days=62)
"""
Between a placeholder and its marker. Both are written between the start of an attempt and the end of its job, and no
job waits for longer than 32 days.
"""
RECORD = "record"
"""The column of an `m_` row with the key of the usage record that was written with it."""
_CLOCK_SKEW = timedelta(days=1)
"""More than the clocks of two workers differ by."""
SINCE = "since"
"""The column of a marker with a time before its placeholder's."""
JOBS = "jobs"
"""The column of how many jobs were closed with a record: 1, or missing."""
LATEST_WRITE = timedelta(minutes=10)
"""After the end of a day, until which records of the day are written."""
_is_dated = re.compile(r"[ucm]_[0-9]{4}-[0-9]{2}-[0-9]{2}_").match
_DAY = slice(len("u_"), len("u_2026-11-29"))
"""Where the day is in a key."""
_MAX_NAME_LENGTH = 200
"""Characters of a name in an endpoint's response. If the table refused the record, the model would be called again."""


def placeholder_suffix(attempt: int) -> str:
    """Return how the key of the placeholder for a crashed attempt ends."""
    return f"~{attempt}"


def call_suffix(attempt: int, number: int) -> str:
    """Return how the key of an attempt's record of a call ends that belongs to no step. Numbers count from 1."""
    return f"~{attempt}.{number}"


@dataclass(frozen=True, slots=True)
class RecordLabels:
    """What all usage records of a job have in common."""

    customer: str
    job_id: str
    action: str
    model: str
    connection: ConnectionLabel
    deployment_scope: str | None = None
    incarnation: str = ""
    served: Mapping[str, ConnectionLabel] = field(default_factory=dict, hash=False)
    """The connections of calls that another one has served, by their `metered_as`."""

    def key(self, kind: str, at: datetime, ending: str = "") -> str:
        """Return the key of a record (`u`), marker (`m`) or closed job (`c`)."""
        return "_".join((kind, at.isoformat()[:10], self.job_id, *filter(None, (self.incarnation, ending))))


def usage_rows(labels: RecordLabels, calls: Sequence[Call], at: datetime, *, suffix: str = "") -> list[Row]:
    """
    Return a usage record for each call, written `at`: `u_{day}_{job_id}_{incarnation}_{number}`.

    A `suffix`, such as a step's key, replaces the number; the second and later calls then have `.1`, `.2` … after it.
    The key identifies the call, so that a record can't be written twice. A call that is `metered_as` something has a
    second row, `m_{metered_as}`, which names the record.
    """
    rows = []
    for number, call in enumerate(calls):
        ending = f"{number:04}" if not suffix else f"{suffix}.{number}" if number else suffix
        key = labels.key("u", at, ending)
        rows.append(Row(labels.customer, key, record_values(labels, call, at)))
        if call.metered_as:
            rows.append(Row(labels.customer, metered_key(call.metered_as), {"at": at, RECORD: key}))
    return rows


def with_closed_job(labels: RecordLabels, rows: Sequence[Row], billed: Usage, at: datetime) -> list[Row]:
    """
    Return the usage records that are written with the end of a job that succeeded, at least in part, so that it counts.

    The first of them that was answered has a column `jobs`. If all answered calls are on record already, as steps,
    there is a row for the job alone, `c_{day}_{job_id}_{incarnation}`. A job without an answered call does not count.
    `billed`: what the job's steps have consumed.
    """
    for number, row in enumerate(rows):
        if row.values.get("outcome") == "answered" and row.values.get("calls"):
            closing = Row(row.partition, row.key, {**row.values, JOBS: 1})
            return [*rows[:number], closing, *rows[number + 1 :]]
    if not billed.calls:
        return list(rows)
    values = record_values(labels, Call(service_tier=_single(billed.service_tier)), at) | {"calls": 0, JOBS: 1}
    if processing := _single(billed.processing):
        values["processing"] = processing  # in the line of its calls
    return [*rows, Row(labels.customer, labels.key("c", at), values)]


def has_answer(calls: Sequence[Call], billed: Usage) -> bool:
    """Return whether a job that succeeds with these calls counts; see `with_closed_job`."""
    return bool(billed.calls) or any(call.outcome == "answered" and call.consumed().calls for call in calls)


def is_closed_job(values: Mapping[str, Any]) -> bool:
    """Return whether a row counts a closed job and is no record of a call; see `with_closed_job`."""
    return bool(values.get(JOBS)) and not values.get("calls")


def _single(label: str | None) -> str | None:
    return None if label == MIXED else label


def metered_key(metered_as: str) -> str:
    """Return the key of the row that says that a stored response or batch has a usage record."""
    return f"m_{metered_as}"


def marker_row(labels: RecordLabels, attempt: int, at: datetime, *, since: datetime) -> Row:
    """
    Return the marker that all calls of an attempt are on record.

    `since`: when the attempt had not started yet, so that its placeholder is later.
    """
    return Row(labels.customer, labels.key("m", at, placeholder_suffix(attempt)), {"at": at, SINCE: since})


def record_values(labels: RecordLabels, call: Call, at: datetime) -> dict[str, Any]:
    """Return what a usage record says of a call, by column."""
    label = labels.served.get(call.metered_as, labels.connection)
    consumed = msgspec.structs.asdict(call.consumed()) | {"deployment_scope": labels.deployment_scope}
    texts = {
        "answered_by": (call.model or "")[:_MAX_NAME_LENGTH],
        "request_id": (call.request_id or "")[:_MAX_NAME_LENGTH],
        "derived": ",".join(consumed.pop("derived")),
        "provider_usage": (call.provider_usage or b"").decode(),
    }
    return {
        "job_id": labels.job_id,
        "action": labels.action,
        "model": labels.model,
        "connection": label.name,
        "source": label.source,
        "provider": label.provider,
        "billed_to": label.billed_to,
        "at": at,
        "outcome": call.outcome,
        "reported": call.usage is not None,
        **{name: value for name, value in consumed.items() if value is not None},
        **{name: text for name, text in texts.items() if text},
    }


def is_placeholder(row: Row) -> bool:
    """Return whether a usage record is the placeholder of an attempt, or of a call."""
    suffix = row.key.rpartition("_")[2]
    return suffix.startswith("~") and "." not in suffix


def stands_for_attempt(row: Row) -> bool:
    """Return whether a usage record is the placeholder of an attempt that crashed."""
    return row.key.rpartition("_~")[2].isdecimal()


def attempt_of(row: Row) -> str:
    """Return the part of a placeholder's or marker's key that identifies what it stands for: all after its day."""
    return row.key[_DAY.stop + 1 :]


def placeholder_key(marker: Row, day: date) -> str:
    """Return the key that the placeholder of a marker has if it is of that day."""
    return f"u_{day}_{attempt_of(marker)}"


def placeholder_days(marker: Row) -> tuple[date, date]:
    """Return the first and the last day that a placeholder may be of which this marker supersedes or withdraws."""
    last = day_of(marker)
    first, since = shifted(last, -MAX_MARKER_DISTANCE), marker.values.get(SINCE)
    return (first if since is None else max(first, shifted(since.date(), -_CLOCK_SKEW))), last


def day_of(row: Row) -> date:
    """Return the day of a usage record or of a row that counts a closed job: that in its key."""
    return date.fromisoformat(row.key[_DAY])


def on_time(rows: Sequence[Row], at: datetime) -> Sequence[Row]:
    """
    Return rows as they may be written `at`: those of a day that ended LATEST_WRITE ago or more become `at`'s.

    A transaction with such rows must be one that was not made yet. That is so if it repeats the earlier one's operation
    id at the same etag: only one of the two can be made.
    """
    oldest = (at - LATEST_WRITE).isoformat()[:10]
    late = [row for row in rows if row.key[_DAY] < oldest and _is_dated(row.key)]
    if not late:
        return rows
    keys = {row.key: _moved(row.key, at) for row in late}
    return [
        replace(row, key=keys.get(row.key, row.key), values={**row.values, **_new_values(row, keys, at)})
        for row in rows
    ]


def is_late(row: Row, at: datetime) -> bool:
    """Return whether a row belongs to a day of which nothing is written any more `at` that time."""
    return on_time([row], at) != [row]


def possible_keys(row: Row, at: datetime) -> list[str]:
    """Return the keys that a row may have been written under until `at`: with its own day, and the later ones."""
    if not is_late(row, at):
        return [row.key]
    days = (at.date() - day_of(row)).days + 1
    return [_moved(row.key, at - timedelta(days=back)) for back in reversed(range(days))]


def _moved(key: str, at: datetime) -> str:
    return f"{key[: _DAY.start]}{at:%Y-%m-%d}{key[_DAY.stop :]}"


def _new_values(row: Row, keys: Mapping[str, str], at: datetime) -> dict[str, Any]:
    """What changes in a row if the rows with these keys get others."""
    moved = {"at": at} if row.key in keys else {}
    return {**moved, RECORD: keys[row.values[RECORD]]} if row.values.get(RECORD) in keys else moved

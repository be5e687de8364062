"""
The rows of a response that a job waits for, in the customer's partition. Pure.

`w_{connection}={hash of its id}` is the response: providers' events, which name nothing else, find its job by it.
`w_{connection}!{time}_{creation}` says when it is looked at next, so that the poll of the connection reads what is due
and nothing else (see `jobs.polls`). Both are inserted with what makes the job wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from shared.jobs.response_looks import next_look
from shared.jobs.schedule_entries import KEY_DIGITS, entry_time, key_at
from shared.storage.base import Row

PREFIX, LAST = "w_", "w`"
"""How the keys of all rows about responses begin, and the end of their range."""
_EXACT = timedelta(microseconds=999)
_COPIED = ("job_id", "at", "response", "account", "model")


def response_row(customer: str, connection: str, creation: str, values: Mapping[str, Any]) -> Row:
    """Return the row of a response that is known. `values` has its id, account and model, its job's id, and `at`."""
    own = {**{name: values[name] for name in _COPIED}, "creation": creation}
    return Row(customer, response_key(connection, values["response"]), own)


def response_key(connection: str, response_id: str) -> str:
    """Return the key of a response's row: an id may be too long for one."""
    return f"{PREFIX}{connection}={hashlib.sha256(response_id.encode()).hexdigest()[:40]}"


def look_row(
    customer: str, connection: str, creation: str, values: Mapping[str, Any], after: datetime, not_before: datetime
) -> Row:
    """
    Return the row of a response's first look after a time, if it is `not_before` another; of its wake-up if that is
    due before (`wake_at`). `values`: as of `response_row`; the response may be empty.
    """
    due_at = min(max(next_look(values["at"], after), not_before), values["wake_at"])
    own = {**{name: values[name] for name in _COPIED}, "wake_at": values["wake_at"]}
    return Row(customer, look_key(connection, due_at, creation), own)


def look_key(connection: str, due_at: datetime, creation: str) -> str:
    """Return the key of the row of a look. It is no earlier than the look."""
    return f"{look_range(connection)[0]}{key_at(due_at + _EXACT)}_{creation}"


def look_range(connection: str) -> tuple[str, str]:
    """Return the range of the keys of a connection's looks."""
    return f"{PREFIX}{connection}!", f"{PREFIX}{connection}!~"


def look_time(look: Row) -> datetime:
    """Return when a look is due."""
    return entry_time(look.key.partition("!")[2])


def creation_of(look: Row) -> str:
    """Return which creation the response of a look has come of."""
    return look.key.partition("!")[2][KEY_DIGITS + 1 :]


def names_of(row: Row) -> tuple[str, str]:
    """Return the connection and the creation of a row; no creation if it is a poll's, or a look's."""
    name = row.key.removeprefix(PREFIX)
    if "=" in name:
        return name.partition("=")[0], row.values["creation"]
    connection, _, creation = name.partition("~")
    return connection.partition("!")[0], creation

"""
What the jobs table holds of batches, all in the customer's partition. Pure.

`p_{batch}` is a batch, `g_{group}` names those of a group that lines may still join, `l_{batch}_{number}` is a line
(see jobs.lines). A batch's id begins with the time at which it was opened, so that they are in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from shared.contract.batch import BatchState
from shared.ids import new_id
from shared.jobs.batch_message import PREFIX, batch_key
from shared.jobs.versions import VERSION, check_version
from shared.storage.base import Row

State = BatchState
"""
`gathering`: lines may join. `sending`: its file is uploaded, and the batch created. `waiting`: it is at the provider.
`harvesting`: answers are read. `waking`: all that will come has been read, and its jobs continue. `done`: they do.
"""
HARVESTED: frozenset[State] = frozenset({"waking", "done"})
MAX_LINES = 10_000
MAX_BYTES = 50_000_000
DEADLINE_SPREAD = timedelta(hours=1)
"""By which the deadlines of a batch's jobs may differ from the first one's."""
LEASE_S = 180.0
"""Longer than any request to the provider that changes something."""
SPACING_S = 3.0
"""Between two looks at a batch that its provider's events ask for."""
MAX_ERROR_LENGTH = 500


class Group(NamedTuple):
    """What lines have in common that may be in one batch."""

    customer: str
    connection: str
    model: str
    """As it stands in the lines."""
    operation: str

    @property
    def key(self) -> str:
        """The key of the row that names its open batches."""
        names = "\0".join(self)
        return f"g_{hashlib.sha256(names.encode()).hexdigest()[:40]}"


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch's row."""

    customer: str
    batch_id: str
    etag: str
    connection: str
    model: str
    operation: str
    opened_at: datetime
    first_deadline: datetime
    """Of the job that opened it."""
    cancel_at: datetime
    """When it is cancelled, for the sake of the job that needs it first."""
    due_at: datetime
    """When it is looked at next."""
    state: State = "gathering"
    lines: int = 0
    bytes: int = 0
    """Of its file."""
    owner: str = ""
    lease_until: datetime | None = None
    input_file_id: str = ""
    create_begun: bool = False
    """Whether a request that creates it was sent; whether it arrived may not be known."""
    create_began_at: datetime | None = None
    """When it was last sent."""
    was_created_again: bool = False
    """Whether the provider may have it twice: see BATCH_CREATED_AGAIN."""
    doubles: int = 0
    """Other batches of its file that the provider has shown."""
    doubled_lines: int = 0
    """How many lines those have answered."""
    account: str = ""
    """Which account its file is at (see `account`)."""
    label: str = ""
    """What usage records say of the connection that it was sent with, as JSON."""
    provider_id: str = ""
    provider_status: str = ""
    output_file_id: str = ""
    error_file_id: str = ""
    completed_lines: int = 0
    """How many answers the provider says there are."""
    answered: int = 0
    failed: int = 0
    woken: int = 0
    """Lines whose jobs have been continued."""
    is_overdue: bool = False
    """Whether its jobs have gone on without what was not read of it by then."""
    error_code: str = ""
    error: str = ""
    """Why the provider did not run it, or why the last try came to nothing."""
    version: int = VERSION

    @property
    def settled_lines(self) -> int:
        """How many lines have an answer, or the reason why there is none."""
        return self.answered + self.failed

    @property
    def is_full(self) -> bool:
        """Whether no line fits."""
        return self.lines >= MAX_LINES or self.bytes >= MAX_BYTES

    @property
    def last_turn_at(self) -> datetime | None:
        """When a turn at it wrote its row last, None before the first."""
        return None if self.lease_until is None else self.lease_until - timedelta(seconds=LEASE_S)

    def gathers_until(self, window_s: float) -> datetime:
        """Return when it is sent at the latest."""
        return self.opened_at + timedelta(seconds=window_s)


_COLUMNS = [each.name for each in fields(BatchRecord) if each.name not in {"customer", "batch_id", "etag"}]


def new_batch_id(at: datetime) -> str:
    """Return the id of a batch that is opened at a time."""
    return f"{_milliseconds(at)}-{new_id()[:8]}"


def key_at(at: datetime) -> str:
    """Return the key that those of the batches begin after that were opened since then."""
    return batch_key(_milliseconds(at))


def _milliseconds(at: datetime) -> str:
    return f"{int(at.timestamp() * 1000):014}"


def batch_row(batch: BatchRecord) -> Row:
    """Return a batch as a row."""
    values = {name: value for name in _COLUMNS if (value := getattr(batch, name)) is not None}
    return Row(batch.customer, batch_key(batch.batch_id), values, batch.etag)


def read_batch(row: Row) -> BatchRecord:
    """Return the batch in a row. Raises NewerVersion."""
    check_version(row.values.get("version", 0), "batch's row")
    values: dict[str, Any] = {name: row.values[name] for name in _COLUMNS if row.values.get(name) is not None}
    return BatchRecord(row.partition, row.key.removeprefix(PREFIX), row.etag, **values)


class OpenBatch(NamedTuple):
    """A batch that its group's row names."""

    batch_id: str
    first_deadline: datetime


MAX_OPEN = 8
"""Batches that a group's row names. Each is for other deadlines; the oldest goes first."""


def read_open(values: Mapping[str, Any]) -> list[OpenBatch]:
    """Return the batches that a group's row names."""
    return msgspec.json.decode(values.get("batches") or "[]", type=list[OpenBatch])


def open_values(group: Group, batches: list[OpenBatch]) -> dict[str, Any]:
    """Return the columns of a group's row."""
    return {
        "batches": msgspec.json.encode(batches[-MAX_OPEN:]).decode(),
        "connection": group.connection,
        "operation": group.operation,
    }

"""A write of an attempt that may have to be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from shared.ids import new_id
from shared.jobs.lease import Lease
from shared.storage.base import Row


@dataclass(slots=True)
class PendingWrite:
    """A write of the job's row, and how many of the things that wait to be written it includes."""

    send: Callable[..., Awaitable[Lease | None]]
    steps: int = 0
    usage: int = 0
    rows: Sequence[Row] = ()
    operation_id: str = field(default_factory=new_id)

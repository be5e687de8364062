"""Tables and queues in memory. The same contract tests hold them and the adapters for Azure."""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from shared.clock import now
from shared.errors import StorageUnavailable
from shared.storage.base import (
    MAX_HIDDEN_S,
    MAX_TRANSACTION_ROWS,
    TIMESTAMP,
    Row,
    RowChanged,
    RowExists,
    RowPage,
)


class Fault(Enum):
    """What goes wrong with one write."""

    REFUSED = "nothing is written, and StorageUnavailable is raised"
    LOST = "it is made, and StorageUnavailable is raised all the same"
    TWICE = "it is made, its response gets lost, and it is sent again"


class SortedRows(dict[tuple[str, str], Row]):
    """Rows by partition and key, whose order is known, so that a range of a million rows is found at once."""

    def __init__(self, rows: Mapping[tuple[str, str], Row] | None = None) -> None:
        super().__init__(rows or {})
        self.order = sorted(self)

    def __setitem__(self, id_: tuple[str, str], row: Row) -> None:
        """Set a row."""
        if id_ not in self:
            bisect.insort(self.order, id_)
        super().__setitem__(id_, row)

    def __delitem__(self, id_: tuple[str, str]) -> None:
        """Delete a row."""
        super().__delitem__(id_)
        del self.order[bisect.bisect_left(self.order, id_)]

    def pop(self, id_: tuple[str, str], *default: Any) -> Any:
        """Delete a row and return it."""
        if id_ in self:
            del self.order[bisect.bisect_left(self.order, id_)]
        return super().pop(id_, *default)

    def clear(self) -> None:
        """Delete all rows."""
        super().clear()
        self.order.clear()

    def between(self, partition: str, first: str, last: str) -> Iterator[tuple[str, str]]:
        """Return the partition's keys that are at least `first` and less than `last`, in their order."""
        start = bisect.bisect_left(self.order, (partition, first))
        return map(self.order.__getitem__, range(start, bisect.bisect_left(self.order, (partition, last))))


@dataclass
class MemoryTable:
    """See `Table`. `faults` happen to the next writes, one each, None being none; while `down`, every request fails."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    faults: deque[Fault | None] = field(default_factory=deque)
    down: bool = False
    page_size: int = 1000
    counts: Counter[str] = field(default_factory=Counter)
    """Pages, deletions and steps to the next partition, each of them one operation."""
    rows_read: int = 0
    """Rows that pages have returned."""
    operations: int = 0
    """All operations, as Azure bills them."""
    _written: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _operations: dict[tuple[str, str], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep rows sorted, whoever sets them."""
        is_plain = name == "rows" and not isinstance(value, SortedRows)
        super().__setattr__(name, SortedRows(value) if is_plain else value)

    async def insert(self, row: Row, *, beside: Sequence[Row] = (), operation_id: str = "") -> str:
        """See `Table`."""
        return (await self._write(row, beside, operation_id, RowExists))[0]

    async def read(self, partition: str, key: str) -> Row | None:
        """See `Table`."""
        return await self._find(partition, key)

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See `Table`."""
        return (await self._write(row, [], operation_id, RowChanged))[0]

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See `Table`."""
        return await self._write(changed, added, operation_id, RowChanged)

    async def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See `Table`."""
        await self._pass()
        for row in list(self._between(partition, first, last)):
            yield row

    async def page(
        self,
        partition: str,
        first: str,
        last: str,
        *,
        older: Mapping[str, datetime] | None = None,
        where: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        after: str = "",
    ) -> RowPage:
        """See `Table`."""
        self.counts["page"] += 1
        await self._pass()
        rest = self._between(partition, max(first, after), last)
        matching = (row for row in rest if self._is_older(row, older) and _meets(row, where))
        matches = list(itertools.islice(matching, self.page_size + 1))
        rows = [row if columns is None else self._select(row, columns) for row in matches[: self.page_size]]
        self.rows_read += len(rows)
        return RowPage(rows, "".join(row.key for row in matches[self.page_size :][:1]))

    async def next_partition(self, after: str) -> str | None:
        """See `Table`."""
        self.counts["next_partition"] += 1
        await self._pass()
        order = self._sorted.order
        index = bisect.bisect_left(order, (f"{after}\0", ""))
        return order[index][0] if index < len(order) else None

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """See `Table`."""
        assert len(rows) <= 100
        assert len({row.partition for row in rows}) <= 1
        self.counts["delete"] += bool(rows)
        await self._pass()
        fault = self.faults.popleft() if self.faults and rows else None
        if fault is Fault.REFUSED:
            raise StorageUnavailable("The write was refused.")
        changed = []
        for row in rows:
            current = self.rows.get((row.partition, row.key))
            if current and row.etag and current.etag != row.etag:
                changed.append(row.key)
            else:
                self.rows.pop((row.partition, row.key), None)
        if fault is Fault.LOST:
            raise StorageUnavailable("The response was lost.")
        return changed

    def _between(self, partition: str, first: str, last: str) -> Iterator[Row]:
        return map(self.rows.__getitem__, self._sorted.between(partition, first, last))

    def has_any(self, partitions: Sequence[str], last: str) -> bool:
        """Return whether one of the partitions has a key that is less than `last`."""
        order = self._sorted.order
        starts = [(bisect.bisect_left(order, (partition, "")), partition) for partition in partitions]
        return any(start < len(order) and order[start] < (partition, last) for start, partition in starts)

    @property
    def _sorted(self) -> SortedRows:
        assert isinstance(self.rows, SortedRows)
        return self.rows

    def _is_older(self, row: Row, older: Mapping[str, datetime] | None) -> bool:
        times = self._with_time(row)
        return not older or any(name in times and times[name] < limit for name, limit in older.items())

    def _select(self, row: Row, columns: Sequence[str]) -> Row:
        return replace(row, values={name: value for name, value in self._with_time(row).items() if name in columns})

    def _with_time(self, row: Row) -> dict[str, Any]:
        return {**row.values, TIMESTAMP: self._written[row.partition, row.key]}

    async def _write(
        self, row: Row, beside: Sequence[Row], operation_id: str, conflict: type[RowExists | RowChanged]
    ) -> Sequence[str]:
        """Insert or merge `row`, depending on which conflict it can meet, and write the rows beside it."""
        await self._pass()
        operation_id = operation_id or f"own-{next(self._numbers)}"
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.REFUSED:
            raise StorageUnavailable("The write was refused.")
        written = self._write_now(row, beside, operation_id, conflict)
        if fault is Fault.LOST:
            raise StorageUnavailable("The response was lost.")
        if fault is Fault.TWICE:
            written = self._write_now(row, beside, operation_id, conflict)
        if written:
            return written
        current = await self._find(row.partition, row.key)
        if current is not None and self._operations[row.partition, row.key] == operation_id:
            return [current.etag]
        raise conflict(row.key, current)

    def _write_now(self, row: Row, beside: Sequence[Row], operation_id: str, conflict: type[Exception]) -> list[str]:
        """Write all rows, and return their etags; or write none, and return nothing."""
        assert {row.partition} == {written.partition for written in (row, *beside)}
        assert 1 + len(beside) == len({written.key for written in (row, *beside)}) <= MAX_TRANSACTION_ROWS
        at = {(written.partition, written.key): written.etag for written in beside}
        at[row.partition, row.key] = "" if conflict is RowExists else row.etag
        if any((self.rows[id_].etag if id_ in self.rows else "") != etag for id_, etag in at.items()):
            return []
        etags, written_at = [], now()
        for written in (row, *beside):
            etags.append(f'W/"{next(self._numbers)}"')
            id_ = (written.partition, written.key)
            old = self.rows[id_].values if id_ in self.rows else {}
            self.rows[id_] = Row(*id_, {**old, **written.values}, etags[-1])
            self._written[id_] = written_at
            self._operations[id_] = operation_id if written is row else ""
        return etags

    async def _find(self, partition: str, key: str) -> Row | None:
        await self._pass()
        return self.rows.get((partition, key))

    async def _pass(self) -> None:
        vars(self)["operations"] += 1  # `__setattr__` would take longer than the read
        await asyncio.sleep(0)  # others run meanwhile, as they do while Storage answers
        if self.down:
            raise StorageUnavailable("The table is down.")


def _meets(row: Row, where: Mapping[str, str] | None) -> bool:
    conditions = ((*condition.split(), value) for condition, value in (where or {}).items())
    return all(
        name in row.values and (row.values[name] == value) == (operator == "eq") for name, operator, value in conditions
    )


@dataclass
class MemoryQueues:
    """See `Queues`. `sent` holds the messages of each queue, with their delays."""

    sent: defaultdict[str, list[tuple[bytes, float]]] = field(default_factory=lambda: defaultdict(list))
    down: bool = False
    missing: frozenset[str] = frozenset()
    """Queues that do not exist."""

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """See `Queues`."""
        if self.down or queue in self.missing:
            raise StorageUnavailable("The queue is down.")
        assert delay_s <= MAX_HIDDEN_S, "A message must not be hidden for so long."
        self.sent[queue].append((body, delay_s))

"""
Usage records of a day, grouped so that a sum costs what its records cost, by any price book, to the last digit. Pure.

A price depends on a record's labels, on the step of its input tokens, on whether they or the output's are unknown, and
on which of the other counts are not 0: for these it needs a price of its own. So records are in one group only if they
agree in all of it; then the price of the sum is the sum of the prices, and what has no price has none for all of them.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from shared.billing.price_lookup import STEP
from shared.billing.pricing import MAY_BE_UNKNOWN, PRICED_APART, ordinary_tokens
from shared.billing.usage_entries import LABELS, Entry, add_exact
from shared.billing.usage_records import JOBS, is_closed_job
from shared.contract.usage import COUNTS

MAX_PART_BYTES = 60_000
"""Of a part as it is stored: a column holds 64 KiB."""
_PART_TEXT_BYTES = 512 * 1024
"""Of a part before it is compressed; records that have little in common get smaller parts."""


class _Packed(msgspec.Struct, array_like=True):
    """A group as it is stored."""

    labels: list[str]
    reported: bool
    derived: str
    consistent: bool | None
    step: int
    priced_on: str
    """Empty: on its day."""
    rows: int
    calls: int
    jobs: int
    counts: list[Any]
    """In the order of COUNTS. A text is a number that is not whole, or was not reported as one."""


@dataclass(slots=True)
class UsageGroups:
    """The groups of a day. `steps` are the numbers of input tokens that price books distinguish, in their order."""

    day: date
    steps: Sequence[int]
    groups: dict[tuple[Any, ...], _Packed] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Add records, each to its group."""
        for entry in entries:
            key = _key(entry, self.steps)
            group = self.groups.get(key)
            if group is None:
                group = self.groups[key] = _empty(entry, self.steps)
            values = entry.values
            group.rows += entry.rows
            group.calls += values.get("calls", 0)
            group.jobs += values.get(JOBS, 0)
            for index, name in enumerate(COUNTS):
                if (count := values.get(name)) is not None:
                    group.counts[index] = add_exact(group.counts[index], count)

    def pack(self) -> list[bytes]:
        """Return the groups as parts of at most MAX_PART_BYTES; always the same for the same records."""
        texts = sorted(map(msgspec.json.encode, self.groups.values()))
        parts: list[bytes] = []
        start = size = 0
        for index, text in enumerate(texts):
            if size and size + len(text) > _PART_TEXT_BYTES:
                parts += _compressed(texts[start:index])
                start, size = index, 0
            size += len(text)
        return [*parts, *_compressed(texts[start:])]


def unpack(part: bytes, day: date) -> list[Entry]:
    """Return the groups of a part."""
    groups = msgspec.json.decode(zlib.decompress(part), type=list[_Packed])
    return [_entry(group, day) for group in groups]


def _key(entry: Entry, steps: Sequence[int]) -> tuple[Any, ...]:
    values = entry.values
    ordinary = [(tokens > 0) - (tokens < 0) for tokens in ordinary_tokens(values)]
    return (
        *(values.get(name) or "" for name in LABELS),
        *(values.get(name) is None for name in MAY_BE_UNKNOWN),
        *(bool(values.get(name)) for name in PRICED_APART),
        *ordinary,
        is_closed_job(values),
        bool(values.get("reported")),
        values.get("derived") or "",
        values.get("consistent"),
        _step(values.get("input_tokens"), steps),
        entry.priced_on,
    )


def _step(tokens: int | None, steps: Sequence[int]) -> int:
    index = bisect_right(steps, tokens or 0)
    return steps[index - 1] if index else 0


def _empty(entry: Entry, steps: Sequence[int]) -> _Packed:
    values = entry.values
    return _Packed(
        labels=[values.get(name) or "" for name in LABELS],
        reported=bool(values.get("reported")),
        derived=values.get("derived") or "",
        consistent=values.get("consistent"),
        step=_step(values.get("input_tokens"), steps),
        priced_on="" if entry.priced_on == entry.day else f"{entry.priced_on}",
        rows=0,
        calls=0,
        jobs=0,
        counts=[None] * len(COUNTS),
    )


def _compressed(texts: Sequence[bytes]) -> list[bytes]:
    part = zlib.compress(b"[%b]" % b",".join(texts))
    if len(part) <= MAX_PART_BYTES or len(texts) == 1:
        return [part]
    middle = len(texts) // 2
    return [*_compressed(texts[:middle]), *_compressed(texts[middle:])]


def _entry(group: _Packed, day: date) -> Entry:
    counts = {
        name: Decimal(count) if isinstance(count, str) else count
        for name, count in zip(COUNTS, group.counts, strict=True)
        if count is not None
    }
    values: dict[str, Any] = {
        **{name: text for name, text in zip(LABELS, group.labels, strict=True) if text},
        "reported": group.reported,
        "calls": group.calls,
        STEP: group.step,
        **counts,
    }
    if group.derived:
        values["derived"] = group.derived
    if group.consistent is not None:
        values["consistent"] = group.consistent
    if group.jobs:
        values[JOBS] = group.jobs
    return Entry(day, date.fromisoformat(group.priced_on) if group.priced_on else day, values, group.rows)

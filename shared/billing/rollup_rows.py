"""The rows of a day's rollup, `r_{day}_{part}` in the customer's partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import uuid4

from shared.billing.usage_entries import Entry
from shared.billing.usage_groups import unpack
from shared.billing.usage_records import day_of
from shared.storage.base import Row

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Rollup:
    """A day, rolled up."""

    day: date
    count: int
    """Of the keys that it was calculated from."""
    sha256: str
    steps: tuple[int, ...]
    parts: tuple[bytes, ...]
    """Empty: there is too much to roll up."""

    @property
    def entries(self) -> list[Entry]:
        """What the day has."""
        return [entry for part in self.parts for entry in unpack(part, self.day)]

    def serves(self, steps: Iterable[int]) -> bool:
        """Return whether it has what a price book with these steps distinguishes."""
        return bool(self.parts) and set(steps) <= set(self.steps)


def rollup_rows(customer: str, rollup: Rollup, at: datetime) -> list[Row]:
    """Return the rows of a day's rollup that is calculated `at` that time."""
    build = uuid4().hex
    head: dict[str, Any] = {
        "format": _FORMAT,
        "at": at,
        "count": rollup.count,
        "sha256": rollup.sha256,
        "parts": len(rollup.parts),
        **steps_values(rollup.steps),
    }
    return [
        Row(customer, f"r_{rollup.day}_{number:03}", {"build": build, "groups": part, **({} if number else head)})
        for number, part in enumerate(rollup.parts or (b"",))
    ]


def read_rollup(rows: Sequence[Row]) -> Rollup | None:
    """Return the rollup in a day's rows; None if it is of another format, or is just being replaced."""
    head = rows[0].values
    if head.get("format") != _FORMAT:
        return None
    parts = [row.values for row in rows[: head["parts"]]]
    if len(parts) < head["parts"] or any(part["build"] != head["build"] for part in parts):
        return None
    groups = tuple(part["groups"] for part in parts)
    return Rollup(day_of(rows[0]), head["count"], head["sha256"], read_steps(rows[0]), groups)


def steps_values(steps: Iterable[int]) -> Mapping[str, str]:
    """Return the column of the steps that a rollup distinguishes."""
    return {"steps": ",".join(map(str, sorted(steps)))}


def read_steps(row: Row) -> tuple[int, ...]:
    """Return the steps in a row."""
    return tuple(int(text) for text in row.values["steps"].split(",") if text)

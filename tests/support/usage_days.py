"""Usage of several days, of every kind that statements distinguish, for tests of rollups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from shared.billing.pricing import Pricing
from shared.billing.rollups import Rollups
from shared.billing.statements import Statements
from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_records import (
    RecordLabels,
    call_suffix,
    marker_row,
    placeholder_suffix,
    usage_rows,
    with_closed_job,
)
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.statement import Statement
from shared.contract.usage import COUNTS, Usage
from shared.storage.base import Row
from tests.support.fakes import MemoryTable

FIRST = date(2026, 10, 29)
DAYS = 6
"""Some of October and some of November."""
SOON = timedelta(minutes=15)


@dataclass(frozen=True)
class UsedDay:
    """What a customer did on a day, and how many days are rolled up after it."""

    jobs: Sequence[tuple[ConnectionLabel, str | None, Sequence[Call], bool]]
    """Connection, deployment scope, calls, and whether it was closed as a job of steps."""
    attempts: Sequence[tuple[int, bool]]
    """Attempts of one job by number, each with a placeholder, or else a marker, on this day."""
    rolled_up: int


def _mostly(random: Random, usual: Any, *others: Any) -> Any:
    """Return one value in most cases, so that records have much in common."""
    return usual if random.random() < 0.8 else random.choice(others)


def _call(random: Random) -> Call:
    tokens = [None, 0, 1, 5, 999, 1000, 1000, 1000, 300_000]
    parts = {name: _mostly(random, None, 0, 6, 1000) for name in COUNTS}
    fixed = {
        "calls": _mostly(random, 1, 0),
        "input_tokens": random.choice(tokens),
        "output_tokens": random.choice(tokens),
        "images": None,
        "seconds": _mostly(random, None, 0.0, 27.0, 9.47, 0.001, 1 / 3),
        "derived": _mostly(random, (), ("output_tokens",), ("input_tokens", "output_tokens")),
        "consistent": _mostly(random, True, None, False),
    }
    return Call(
        _mostly(random, Usage(**{**parts, **fixed}), None),
        _mostly(random, "m", None, "m-2", "x"),
        images=_mostly(random, None, 0, 2),
        outcome=_mostly(random, "answered", "lost", "unanswered"),
        service_tier=_mostly(random, None, "default", "flex"),
        processing=_mostly(random, "standard", "batch"),
    )


def _day(seed: int, attempts: Sequence[tuple[int, bool]], rolled_up: int) -> UsedDay:
    random = Random(seed)
    jobs = []
    for _ in range(random.choice([0, 1, 12])):
        label = ConnectionLabel(
            name=_mostly(random, "default", "spare"),
            source="key_vault",
            provider=_mostly(random, "openai", "foundry"),
            billed_to=_mostly(random, "customer", "operator"),
        )
        calls = [_call(random) for _ in range(random.randrange(5))]
        jobs.append((label, _mostly(random, None, "global"), calls, random.random() < 0.5))
    return UsedDay(jobs, attempts, rolled_up)


def random_days(random: Random) -> list[UsedDay]:
    """Return days as `used_days` has them, without hypothesis."""
    return [
        _day(
            random.randrange(2**32),
            [(random.randint(1, 4), random.random() < 0.5) for _ in range(random.randint(0, 3))],
            random.randint(0, DAYS),
        )
        for _ in range(DAYS)
    ]


used_days = st.lists(
    st.builds(
        _day,
        st.integers(0, 2**32),
        st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=3),
        st.integers(0, DAYS),
    ),
    min_size=DAYS,
    max_size=DAYS,
)
"""Of each day most records have much in common, as they do in life."""

_P = {"provider": "openai", "model": "m*"}
BOOKS: list[dict[str, Any]] = [
    {"prices": [_P | {"input": "2.123456789", "output": "8"}]},
    {
        "prices": [
            _P
            | {"input": "2", "cached": "0.5", "output": "8", "image": "0.02", "second": "0.0001", "characters": "15"},
            _P | {"input": "4", "output": "16", "min_input_tokens": 1000, "audio_input": "7", "image_output": "30"},
            _P | {"input": "9", "output": "9", "min_input_tokens": 300_000},
            _P | {"input": "1", "output": "4", "processing": "batch", "effective_from": "2026-10-31"},
            _P | {"input": "1", "output": "5", "service_tier": "flex", "deployment_scope": "global"},
            {"provider": "foundry", "model": "m", "call": "0.01", "second": "0.5"},
            {"provider": "foundry", "model": "m-2", "call": "0.01", "image_output": "30", "audio_input": "7"},
            {"provider": "openai", "model": "by-call", "call": "0.01"},
        ],
        "models": [{"deployment": "deployment", "model": "m"}],
        "markups": [{"percent": "20", "per_job": "0.003", "effective_from": "2026-11-01"}],
        "rates": [{"from": "USD", "to": "EUR", "rate": "0.92", "effective_from": "2026-10-30"}],
    },
    {
        "prices": [
            {"provider": provider, "model": "*", "input": "3", "output": "1", "min_input_tokens": step}
            for provider in ("openai", "foundry")
            for step in (0, 1, 5, 999)
        ]
    },
]


def pricing_of(book: dict[str, Any]) -> Pricing:
    """Return the prices of a book in dollars."""
    return Pricing(decode_price_book(json.dumps({"currency": "USD", **book}).encode()))


def rows_of(day: UsedDay, at: datetime, marked: set[int], placed: set[int]) -> list[Row]:
    """Return the rows of a day. An attempt has one placeholder and one marker at most, on whatever days."""
    rows: list[Row] = []
    for number, (label, scope, calls, is_stepped) in enumerate(day.jobs):
        labels = RecordLabels("acme", f"job-{at:%m%d}-{number}", "chat", "deployment", label, scope, "0123abcd")
        usage = usage_rows(labels, calls, at, suffix="p" if is_stepped else "")
        billed = sum((call.consumed() for call in calls), Usage())
        rows += (
            [*usage, *with_closed_job(labels, [], billed, at)]
            if is_stepped
            else with_closed_job(labels, usage, Usage(), at)
        )
    label = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
    slow = RecordLabels("acme", "slow", "chat", "m", label, incarnation="0123abcd")
    for attempt, is_placeholder in day.attempts:
        if is_placeholder and attempt not in placed:
            placed.add(attempt)
            rows += usage_rows(slow, [UNANSWERED], at, suffix=placeholder_suffix(attempt))
        if not is_placeholder and attempt not in marked:
            marked.add(attempt)
            rows += usage_rows(slow, [Call(Usage(calls=1, input_tokens=7))], at, suffix=call_suffix(attempt, 1))
            since = datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(hours=1)
            rows.append(marker_row(slow, attempt, at, since=since))
    return rows


@dataclass
class RolledTable:
    """A table whose days are rolled up as time goes on."""

    table: MemoryTable
    now: datetime = datetime(2026, 11, 1, tzinfo=UTC)

    @property
    def rollups(self) -> Rollups:
        """Its rollups."""
        return Rollups(self.table, lambda: self.now)

    async def use(self, days: Sequence[UsedDay], steps: Iterable[int]) -> None:
        """Let the days pass."""
        marked: set[int] = set()
        placed: set[int] = set()
        for number, day in enumerate(days):
            start = datetime.combine(FIRST + timedelta(days=number), datetime.min.time(), UTC)
            for row in rows_of(day, start + timedelta(hours=12), marked, placed):
                await self.table.insert(row)
            self.now = start + timedelta(days=1) + SOON
            for _ in range(day.rolled_up):
                await self.rollups.advance("acme", steps)

    def raw(self) -> MemoryTable:
        """Return a table with its records alone."""
        raw = replace(self.table, rows={}, page_size=1000)
        for key, row in self.table.rows.items():
            if not key[1].startswith("r_"):
                raw.rows[key] = row
        return raw

    async def read(
        self, first: date, last: date, by: Sequence[str], pricing: Pricing | None
    ) -> tuple[Statement, Statement]:
        """Return the statement from rollups, and that from the records alone."""
        read = [Statements(table).read("acme", first, last, by, pricing) for table in (self.table, self.raw())]
        return await read[0], await read[1]

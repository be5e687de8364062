"""What rollups are compared with, and how they are made right again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given, settings

from shared.billing.rollup_check import check_rollups, rebuild_rollups
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.storage.base import Row
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row
from tests.support.usage_days import DAYS, FIRST, RolledTable, UsedDay, used_days

LABELS = RecordLabels(
    "acme", "a", "chat", "m", ConnectionLabel(name="default", source="static", provider="openai", billed_to="operator")
)
DAY = date(2026, 11, 14)
AT = datetime(2026, 11, 14, 12, tzinfo=UTC)
MONTH = date(2026, 11, 1), date(2026, 11, 30)
CALLS = [Call(Usage(calls=1, input_tokens=100, seconds=0.5), "m") for _ in range(3)]


async def rolled() -> RolledTable:
    """Return a table with three calls, rolled up."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 16, tzinfo=UTC))
    for row in usage_rows(LABELS, CALLS, AT):
        await table.table.insert(row)
    assert DAY == await table.rollups.advance("acme", (50,))
    return table


async def differences(table: RolledTable) -> list[tuple[date, str]]:
    """Return what differs in November."""
    differing = [each async for day in check_rollups(table.rollups, "acme", *MONTH) for each in day]
    assert {"acme"} >= {each.customer for each in differing}
    return [(each.day, each.message) for each in differing]


def changed(table: MemoryTable, key: str, **values: Any) -> None:
    """Change a row as nobody does."""
    row = table.rows["acme", key]
    table.rows["acme", key] = replace(row, values={**row.values, **values})


def added(table: MemoryTable, key: str) -> None:
    """Add a copy of a record."""
    row = table.rows["acme", "u_2026-11-14_a_0001"]
    table._written["acme", key] = AT
    table.rows["acme", key] = replace(row, key=key)


@every_row(
    ("change", "expected"),
    [
        (lambda table: table.counts.clear(), []),
        (
            lambda table: table.rows.pop(("acme", "u_2026-11-14_a_0001")),
            [
                (DAY, "2 rows of usage, and 3 when the day was rolled up"),
                *(
                    (DAY, f"{name} of m: {records} in the records, {rolled} in the rollup")
                    for name, records, rolled in (
                        ("records", 2, 3),
                        ("calls", 2, 3),
                        ("input_tokens", 200, 300),
                        ("seconds", 1.0, 1.5),
                    )
                ),
            ],
        ),
        (
            lambda table: (added(table, "u_2026-11-14_b_0001"), table.rows.pop(("acme", "u_2026-11-14_a_0001"))),
            [(DAY, "3 rows of usage, with other keys than when the day was rolled up")],
        ),
        (
            lambda table: changed(table, "u_2026-11-14_a_0001", output_tokens=7),
            [(DAY, "output_tokens of m: 7 in the records, none in the rollup")],
        ),
        (
            lambda table: changed(table, "u_2026-11-14_a_0001", connection="other"),
            [(DAY, "the sums are the same, but not by connection, action, tier, or what else a price depends on")],
        ),
        (
            lambda table: added(table, "u_2026-11-03_a_0000"),
            [(date(2026, 11, 3), "1 row of usage, and no rollup: statements leave them out")],
        ),
        (
            lambda table: changed(table, "r_2026-11-14_000", format=0),
            [(DAY, "the rollup is incomplete, or of another version of the app; the day is read from its records")],
        ),
        (lambda table: added(table, "u_2026-11-15_a_0000"), []),
    ],
    ids=["nothing", "lost", "replaced", "count", "label", "late", "format", "not rolled up"],
)
async def test_each_difference_is_named(change: Callable[[MemoryTable], Any], expected: list[tuple[date, str]]):
    """Number and hash of the keys, and each sum, are compared; a rebuilt rollup is what its records are."""
    table = await rolled()
    change(table.table)

    assert expected == await differences(table)
    assert len({day for day, _ in expected} | {DAY}) == await rebuild_rollups(table.rollups, "acme", *MONTH)
    assert [] == await differences(table)
    statement, raw = await table.read(*MONTH, [], None)
    assert raw == statement


async def test_a_customer_without_rollups_has_nothing_to_compare():
    """Its days are read from their records."""
    table = RolledTable(MemoryTable())
    await table.table.insert(Row("acme", "u_2026-11-14_a_0000", {"calls": 1}))

    assert [] == await differences(table)
    assert 0 == await rebuild_rollups(table.rollups, "acme", *MONTH)


@settings(max_examples=10, deadline=None)
@given(days=used_days)
async def test_rollups_differ_in_nothing_from_their_records(days: list[UsedDay]):
    """Whatever is rolled up when."""
    table = RolledTable(MemoryTable(page_size=3))
    await table.use(days, (5, 1000))

    differing = [each async for each in check_rollups(table.rollups, "acme", FIRST, FIRST + timedelta(days=DAYS))]

    assert not any(differing)


async def test_a_range_of_centuries_is_compared_and_rebuilt():
    """No more than from the first day with usage on is read."""
    table = await rolled()
    reads = 0
    page = table.table.page

    async def counting_page(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return await page(*args, **options)

    table.table.page = counting_page  # type: ignore[method-assign]
    century = date(1000, 1, 1), date(9999, 12, 31)

    checked = [each async for each in check_rollups(table.rollups, "acme", *century)]
    rebuilt = await rebuild_rollups(table.rollups, "acme", *century)

    assert not any(checked)
    assert rebuilt
    assert reads < 200

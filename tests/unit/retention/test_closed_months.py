"""Closed months outlive jobs, usage records and the customer, for as many years as the setting says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.billing.closed_records import ERASED_KEY, blob_name, record_key
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.errors import SettingInvalid, StorageUnavailable
from shared.jobs.schedule import Schedule
from shared.retention.closed_months import ClosedMonthRemoval, kept_from
from shared.retention.expiry import Removed
from shared.retention.sweep import Sweep
from shared.settings import find_faults, read_settings
from shared.storage.base import Row
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.rows import every_row

FILES = ("json", "csv", "html", "internal")
BASE = {"JobStorage": "UseDevelopmentStorage=true"}


async def close(table: MemoryTable, blobs: MemoryBlobs, document: DocumentId, at: datetime, customer: str) -> None:
    """Leave what closing a month leaves, as far as retention looks at it."""
    await table.insert(Row(customer, record_key(document), {"closed_at": at, "files": "{}"}))
    for file in FILES:
        await blobs.write("statements", blob_name(customer, document, file), b"{}", "application/json")


async def storage() -> tuple[MemoryTable, MemoryBlobs]:
    """Return Storage with three documents each of two customers, one of whom is called like the price books' folder."""
    table, blobs = MemoryTable(page_size=2), MemoryBlobs()
    for customer in ("contoso", "prices"):
        for document, year in (
            (DocumentId("2015-11"), 2015),
            (DocumentId("2015-12"), 2016),
            (DocumentId("2015-12", 1), 2026),
        ):
            await close(table, blobs, document, datetime(year, 1 if year > 2015 else 12, 1, tzinfo=UTC), customer)
        await table.insert(Row(customer, "n_00000001", {"document": "2015-11"}))
        await table.insert(Row(customer, ERASED_KEY, {"at": datetime(2015, 1, 1, tzinfo=UTC)}))
    await blobs.write("statements", f"prices/{'0' * 64}.json", b"{}", "application/json")
    return table, blobs


async def sweep(table: MemoryTable, blobs: MemoryBlobs, at: datetime, **values: str) -> Sweep:
    """Run a sweep at that time."""
    schedule = Schedule(table, MemoryQueues(), "jobs", "callbacks", "batches")
    swept = Sweep(table, blobs, read_settings(BASE | values), schedule)
    assert "complete" == await swept.run(at)
    return swept


@every_row(
    ("years", "at", "left"),
    [
        ("10", (2026, 11, 29), ["2015-12", "2015-12-1"]),
        ("10", (2026, 1, 15), ["2015-12", "2015-12-1"]),
        ("10", (2025, 12, 31), ["2015-11", "2015-12", "2015-12-1"]),
        ("10", (2027, 1, 31), ["2015-12-1"]),
        ("10", (2037, 1, 31), []),
        ("0", (2099, 1, 31), ["2015-11", "2015-12", "2015-12-1"]),
    ],
)
async def test_documents_are_kept_for_whole_years(years: str, at: tuple[int, int, int], left: list[str]):
    """
    By the year in which they were closed, with all their files; numbers, price books and other rows stay, whatever the
    customer is called.
    """
    table, blobs = await storage()
    others = {at for at in table.rows if not at[1].startswith("x_2")}

    swept = await sweep(table, blobs, datetime(*at, tzinfo=UTC), RETAIN_STATEMENTS_YEARS=years)

    for customer in ("contoso", "prices"):
        assert [f"x_{name}" for name in left] == sorted(
            key for at, key in table.rows if at == customer and "x_2" in key
        )
        names = {name for _, name in blobs.blobs if name.startswith(f"{customer}/2")}
        assert {
            f"{customer}/{name}.{end}" for name in left for end in ("json", "csv", "html", "internal.json")
        } == names
    assert others <= table.rows.keys()
    assert ("statements", f"prices/{'0' * 64}.json") in blobs.blobs
    assert 2 * (3 - len(left)) == swept.removed.statements


async def test_nothing_else_removes_a_document():
    """Neither the retention of jobs and usage, nor a job with the name of a document or of the container."""
    table, blobs = await storage()
    old = datetime(2020, 1, 1, tzinfo=UTC)
    for job_id in ("statements", "2015-12.json", "statement-2015-12"):
        values = {"state": "done", "submitted_at": old, "finished_at": old, "result_body": b"{}"}
        await table.insert(Row("contoso", f"j_{job_id}", values))
        await blobs.write("results", f"contoso/{job_id}/result.json", b"{}", "application/json")
    before = {at: blob for at, blob in blobs.blobs.items() if at[0] == "statements"}

    values = {"RETAIN_JOBS_DAYS": "1", "RETAIN_USAGE_MONTHS": "1", "RETAIN_STATEMENTS_YEARS": "0"}
    await sweep(table, blobs, now() + timedelta(days=100), **values)

    assert before == blobs.blobs
    assert [] == [key for _, key in table.rows if key.startswith("j_")]


async def test_files_are_removed_before_the_record():
    """If a file can't be removed, the record stays, and a later sweep finds both by it."""
    table, blobs = await storage()
    blobs.locked.add("contoso/2015-11.csv")
    removed = Removed()
    removal = ClosedMonthRemoval(table, blobs, "statements", removed, datetime(2016, 1, 1, tzinfo=UTC))
    with pytest.raises(StorageUnavailable, match="locked"):
        await removal.remove("contoso", "")
    assert ("contoso", "x_2015-11") in table.rows
    blobs.locked.clear()

    assert ("", 1) == (await removal.remove("contoso", ""), removed.statements)
    assert ("contoso", "x_2015-11") not in table.rows
    assert not [name for _, name in blobs.blobs if name.startswith("contoso/2015-11")]


def test_no_limit_keeps_everything():
    """0 years are forever."""
    assert (None, datetime(2016, 1, 1, tzinfo=UTC)) == (
        kept_from(0, datetime(2026, 11, 29, tzinfo=UTC)),
        kept_from(10, datetime(2026, 11, 29, tzinfo=UTC)),
    )


@every_row(
    ("values", "names"),
    [
        ({"STATEMENTS_CONTAINER": "results"}, "RESULTS_CONTAINER"),
        ({"RESULTS_CONTAINER": "statements"}, "RESULTS_CONTAINER"),
        ({"STATEMENTS_CONTAINER": "templates"}, "TEMPLATES_CONTAINER"),
        ({"INPUT_CONTAINERS": "inputs,statements"}, "INPUT_CONTAINERS"),
    ],
)
def test_jobs_neither_read_nor_write_the_container_of_documents(values: dict[str, Any], names: str):
    """A container for both is a wrong setting: a job could read a bill, replace it, or have it removed with itself."""
    with pytest.raises(SettingInvalid, match=f"STATEMENTS_CONTAINER must be a container that {names} does not name"):
        read_settings(BASE | values)
    assert 1 == len(find_faults(BASE | values))

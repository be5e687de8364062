"""An export is brought into a deployment: complete, once, and without changing what is there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.closed_records import ClosedRecords
from shared.billing.outbox import PARTITION, outbox_row
from shared.clock import now, rfc3339
from shared.errors import InvalidJob, StorageUnavailable
from shared.jobs.schedule_entries import PARTITIONS
from shared.retention.customer_data import CustomerData
from shared.retention.customer_import import CustomerImport, Imported
from shared.retention.export_directory import LISTS
from shared.retention.export_reader import ExportReader, InvalidExport
from shared.retention.exported_rows import decode_row, encode_row
from shared.settings import read_settings
from shared.storage.base import Row
from tests.support.crashing_storage import Fate, Mortal, WorkerDied
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row
from tests.support.sampled import Sampled

SETTINGS = read_settings({"JobStorage": "UseDevelopmentStorage=true"})
MOMENT = datetime(2026, 11, 20, 13, 12, 0, 123456, tzinfo=UTC)
VALUES = st.one_of(
    st.text(),
    st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)),
    st.binary(),
)
NAMES = st.text("abcdefghij_", min_size=1) | st.sampled_from(["key", "values", "types"])


@given(st.dictionaries(NAMES, VALUES))
def test_a_row_survives(values: Mapping[str, Any]):
    """Whatever a table can hold comes back with its type."""
    row = Row("contoso", "j_1", values)

    read = decode_row("contoso", json.loads(json.dumps(encode_row(row))))

    assert row == read
    assert [type(value) for value in row.values.values()] == [type(read.values[name]) for name in row.values]


PRICES = {("statements", "prices/1.json"): (b"{}", "application/json")}
"""No customer's."""


class Deployment:
    """The Storage of one."""

    def __init__(self) -> None:
        self.table, self.blobs = MemoryTable(page_size=7), MemoryBlobs(page_size=2)

    async def fill(self) -> None:
        """Add what a customer of many kinds of data has."""
        for number in range(60):
            result = {"state": "done", "result_body": b'{"a": "\xc3\xa4"}', "finished_at": MOMENT}
            await self.table.insert(Row("contoso", f"j_{number}", result))
        await self.table.insert(Row("contoso", "j_queued", {"state": "queued"}))
        waits = {"state": "waiting", "waits": "job", "wakeup": b"\xff", "due_at": MOMENT + timedelta(days=400)}
        await self.table.insert(Row("contoso", "j_waits", waits))
        await self.table.insert(Row("contoso", "customer", {"state": "suspended"}))
        await self.table.insert(Row("contoso", "n_00000007", {"document": "2026-10"}))
        await self.blobs.write("statements", "prices/1.json", b"{}", "application/json")
        for container, name in (("results", "1/result.json"), ("inputs", "ä#%?.PNG"), ("statements", "2026-10.json")):
            await self.blobs.write(container, f"contoso/{name}", f"{container} {name}".encode(), "text/plain")
        await self.blobs.write("statements", "contoso/2026-10.internal.json", b"{}", "application/json")

    def values(self) -> dict[tuple[str, str], Any]:
        """Return the values of the customer's rows."""
        return {at: row.values for at, row in self.table.rows.items() if at[0] == "contoso"}

    async def bring(self, directory: Path) -> Imported:
        """Import an export."""
        return await CustomerImport(self.table, self.blobs, SETTINGS, ExportReader(directory)).run()


@pytest.fixture
async def exported(tmp_path: Path) -> Deployment:
    """A deployment that has exported its customer into `tmp_path`."""
    deployment = Deployment()
    await deployment.fill()
    await CustomerData(deployment.table, deployment.blobs, SETTINGS, "contoso").export(tmp_path)
    return deployment


async def test_an_import_brings_everything_once(exported: Deployment, tmp_path: Path):
    """
    Rows with the types of their values, blobs with theirs, and the entry of the job that waits. Jobs that had not ended
    and wait for nothing are counted. Another import of the same changes nothing.
    """
    deployment = Deployment()

    first, second = await deployment.bring(tmp_path), await deployment.bring(tmp_path)

    assert exported.values() == deployment.values()
    assert exported.blobs.blobs == deployment.blobs.blobs | PRICES
    assert Imported(rows=64, blobs=4, unfinished=1, documents=["2026-10"]) == first
    assert Imported(existing=68, unfinished=1, documents=["2026-10"]) == second
    (entry,) = [row for at, row in deployment.table.rows.items() if at[0] in PARTITIONS]
    assert {"customer": "contoso", "job_id": "waits"} == entry.values


async def test_two_imports_at_a_time_bring_everything_once(exported: Deployment, tmp_path: Path):
    """Whichever of them writes a row or a blob, the other finds it as it is in the export."""
    deployment = Deployment()

    both = await asyncio.gather(deployment.bring(tmp_path), deployment.bring(tmp_path))

    assert (exported.values(), exported.blobs.blobs) == (deployment.values(), deployment.blobs.blobs | PRICES)
    assert (64, 4, 68) == tuple(sum(getattr(each, name) for each in both) for name in ("rows", "blobs", "existing"))
    assert [[], []] == [each.different for each in both]


async def test_what_nothing_sends_is_counted(tmp_path: Path):
    """Jobs that had not ended, cancelled ones among them, and callbacks, if no message of theirs is in their rows."""
    old, new, callback = Deployment(), Deployment(), {"state": "done", "callback_url": "https://example.com"}
    rows: dict[str, dict[str, Any]] = {
        "running": {"state": "running", "lease_until": MOMENT},
        "cancelled": {"state": "cancelled"},
        "first": callback,
        "next": {**callback, "callback_status": "waiting"},
        "later": {**callback, "callback_status": "waiting", "waits": "callback", "wakeup": b"{}", "due_at": MOMENT},
        "delivered": {**callback, "callback_status": "delivered"},
        "failed": {**callback, "callback_status": "failed"},
        "none": {"state": "done", "callback_url": ""},
    }
    for job_id, values in rows.items():
        await old.table.insert(Row("contoso", f"j_{job_id}", values))
    await CustomerData(old.table, old.blobs, SETTINGS, "contoso").export(tmp_path)

    assert Imported(rows=8, unfinished=2, callbacks=2) == await new.bring(tmp_path)


async def test_what_waits_to_be_exported_is_announced(tmp_path: Path):
    """Else the billing systems would get it after the next sweep."""
    old, new = Deployment(), Deployment()
    await old.table.insert(outbox_row("contoso", ["u_2026-11-29_a"], ["events"], MOMENT, "x"))
    await CustomerData(old.table, old.blobs, SETTINGS, "contoso").export(tmp_path)

    await new.bring(tmp_path)

    assert (PARTITION, "contoso") in new.table.rows


async def test_an_erasure_is_undone(tmp_path: Path):
    """
    A customer that is imported after its erasure has its usage back, but for what came after the export: the months
    before can be closed and corrected again. The import says so, and another erasure undoes that in turn.
    """
    deployment, month = Deployment(), f"{now() - timedelta(minutes=30):%Y-%m}"
    data = CustomerData(deployment.table, deployment.blobs, SETTINGS, "contoso")
    records, before = ClosedRecords(cast("Any", deployment.table)), "2020-01"
    await deployment.fill()
    await data.export(tmp_path)
    await data.erase()
    erased_at = await records.erased_at("contoso", before)

    done, again = await deployment.bring(tmp_path), await deployment.bring(tmp_path)

    assert erased_at is not None
    assert [rfc3339(erased_at)] * 2 == [done.erased_at, again.erased_at]
    assert [None, erased_at] == [await records.erased_at("contoso", each) for each in (before, month)]
    await data.erase()
    assert await records.erased_at("contoso", before) is not None


@pytest.mark.usefixtures("exported")
async def test_what_is_here_stays(tmp_path: Path):
    """A row or a blob that is here with other contents is left, and named."""
    deployment = Deployment()
    await deployment.table.insert(Row("contoso", "j_3", {"state": "running"}))
    await deployment.blobs.write("results", "contoso/1/result.json", b"longer than the exported one", "text/plain")
    await deployment.blobs.write("inputs", "contoso/ä#%?.PNG", b"", "text/plain")

    done = await deployment.bring(tmp_path)

    assert ["inputs/contoso/ä#%?.PNG", "j_3", "results/contoso/1/result.json"] == sorted(done.different)
    assert {"state": "running"} == deployment.values()["contoso", "j_3"]
    assert (63, 2) == (done.rows, done.blobs)


async def test_an_import_that_failed_continues(exported: Deployment, tmp_path: Path):
    """The customer's state comes first, so that a suspended one stays so. Repeated, the import does the rest."""
    deployment = Deployment()
    deployment.blobs.down = True
    with pytest.raises(StorageUnavailable):
        await deployment.bring(tmp_path)
    assert [("contoso", "customer")] == [*deployment.values()]

    deployment.blobs.down = False
    done = await deployment.bring(tmp_path)

    assert (exported.values(), 1) == (deployment.values(), done.existing)


@pytest.mark.parametrize("after", [False, True])
async def test_an_import_that_dies_at_any_write_is_repeated(
    exported: Deployment, tmp_path: Path, sampled: Sampled, *, after: bool
):
    """Whichever operation its process dies before or after, the next import completes it, and leaves nothing out."""
    for dies_at in sampled(range(1, 100)):
        deployment, fate = Deployment(), Fate(dies_at, after)
        table, blobs = (cast("Any", Mortal(store, fate)) for store in (deployment.table, deployment.blobs))
        with contextlib.suppress(WorkerDied):
            await CustomerImport(table, blobs, SETTINGS, ExportReader(tmp_path)).run()
        done = await deployment.bring(tmp_path)

        assert (exported.values(), exported.blobs.blobs) == (deployment.values(), deployment.blobs.blobs | PRICES)
        assert [] == done.different
        assert any(partition in PARTITIONS for partition, _ in deployment.table.rows)
        if fate.operations < dies_at:
            break

    assert 8 < dies_at < 99


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.usefixtures("exported")
async def test_a_changed_list_is_refused(tmp_path: Path, name: str):
    """A list that is not the one in the manifest was cut off or changed."""
    with (tmp_path / name).open("a") as file:
        file.write("{}\n")

    with pytest.raises(InvalidExport, match=f"{name} is not the file that the manifest describes"):
        ExportReader(tmp_path)


@pytest.mark.usefixtures("exported")
async def test_a_changed_blob_is_refused(tmp_path: Path):
    """Bytes that are not those that were exported are not written."""
    deployment = Deployment()
    next((tmp_path / "blobs").rglob("*.json")).write_bytes(b"changed")

    with pytest.raises(InvalidExport, match="is not the blob that was exported"):
        await deployment.bring(tmp_path)
    assert not any(b"changed" == data for data, _ in deployment.blobs.blobs.values())


@every_row(
    ("manifest", "message"),
    [
        (None, "no export, or an incomplete one"),
        ("[]", "no manifest of an export"),
        ('{"customer": "contoso"}', "format 1. This version imports format 2"),
        ('{"format": 3, "customer": "contoso", "files": {}}', "format 3"),
        ('{"format": 2, "customer": "contoso", "files": {}}', "no manifest of an export"),
        ('{"format": 2, "rows": 0, "blobs": {}, "customer": "contoso", "files": {}}', "no manifest of an export"),
    ],
)
def test_a_directory_without_an_export_is_refused(tmp_path: Path, manifest: str | None, message: str):
    """The error says why: incomplete, of another version, or something else."""
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)

    with pytest.raises(InvalidExport, match=message):
        ExportReader(tmp_path)


@pytest.mark.usefixtures("exported")
def test_a_container_of_another_name_is_refused(tmp_path: Path):
    """Nothing is written if the settings have no such container: a job would refer to a blob that nobody reads."""
    deployment = Deployment()
    settings = read_settings({"JobStorage": "UseDevelopmentStorage=true", "RESULTS_CONTAINER": "answers"})

    with pytest.raises(InvalidJob, match="container results, but the settings name only answers, inputs"):
        CustomerImport(deployment.table, deployment.blobs, settings, ExportReader(tmp_path))
    assert {} == deployment.values()


@every_row(
    ("name", "line", "message"),
    [
        ("rows.jsonl", "{", "not JSON"),
        ("rows.jsonl", "[]", "no row"),
        ("rows.jsonl", '{"key": "j_1"}', "no row"),
        ("rows.jsonl", '{"key": "j_1", "values": {"at": 1}, "types": {"at": "date"}}', "no row"),
        ("rows.jsonl", '{"key": "j_1", "values": {"n": 2147483648}}', "no row"),
        ("rows.jsonl", '{"key": "j_1", "values": {"n": [1]}}', "no row"),
        ("rows.jsonl", '{"key": "j_1", "values": {"n": null}}', "no row"),
        ("blobs.jsonl", "{}", "no blob"),
        ("blobs.jsonl", '{"container": "results", "name": 1, "content_type": "", "file": ""}', "no blob"),
    ],
)
async def test_a_list_that_is_not_ours_is_refused(tmp_path: Path, name: str, line: str, message: str):
    """Lists that fit their manifest, but were written by somebody else: a sentence says which."""
    await CustomerData(MemoryTable(), MemoryBlobs(), SETTINGS, "contoso").export(tmp_path)
    forge(tmp_path, name, line)

    with pytest.raises(InvalidExport, match=f"{name} has a line that is {message}"):
        await Deployment().bring(tmp_path)


@pytest.mark.parametrize(
    ("blob", "file"), [("other/1/x.json", "blobs/x"), ("contoso/x", "../../x"), ("contoso/x", "/etc/passwd")]
)
async def test_an_export_brings_nothing_of_others(tmp_path: Path, blob: str, file: str):
    """A blob of another customer, or a file outside of the directory, is refused before anything is written."""
    await CustomerData(MemoryTable(), MemoryBlobs(), SETTINGS, "contoso").export(tmp_path)
    line = {"container": "results", "name": blob, "content_type": "text/plain", "sha256": "", "file": file}
    forge(tmp_path, "blobs.jsonl", json.dumps(line))

    with pytest.raises(InvalidExport, match="names a blob or a file that is not the customer's"):
        await Deployment().bring(tmp_path)


def forge(directory: Path, name: str, line: str) -> None:
    """Replace a list of an export, and its hash in the manifest."""
    (directory / name).write_text(f"{line}\n")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = hashlib.sha256(f"{line}\n".encode()).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(manifest))

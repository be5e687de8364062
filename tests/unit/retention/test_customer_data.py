"""All data of a customer is exported unchanged, or erased, and no other customer's is."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.billing.customer_records import CustomerRecords
from shared.clock import now
from shared.contract.customer import CustomerProfile
from shared.errors import InvalidJob, StorageUnavailable
from shared.retention.customer_data import CustomerData
from shared.retention.export_directory import LISTS
from shared.settings import read_settings
from shared.storage.base import Row
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable

SETTINGS = read_settings({"JobStorage": "UseDevelopmentStorage=true", "INPUT_CONTAINERS": "inputs,more,results"})
MOMENT = datetime(2026, 11, 20, 13, 12, 0, 123456, tzinfo=UTC)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def files(directory: Path) -> set[Path]:
    """Return all files in a directory and its subdirectories."""
    return {path for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def table() -> MemoryTable:
    """In memory."""
    return MemoryTable(page_size=2)


@pytest.fixture
def blobs() -> MemoryBlobs:
    """In memory."""
    return MemoryBlobs(page_size=2)


@pytest.fixture
async def filled(table: MemoryTable, blobs: MemoryBlobs) -> CustomerData:
    """The data of contoso, beside that of two customers whose ids begin alike."""
    for customer in ("contoso", "contoso-2", "contos"):
        for number in range(5):
            state = "done" if number else "running"
            await table.insert(
                Row(customer, f"j_{number}", {"state": state, "result_body": b'{"a": "\xc3\xa4"}', "n": number})
            )
        await table.insert(Row(customer, "u_2026-11_1_0000", {"at": MOMENT, "reported": True}))
        await table.insert(Row(customer, "z_later", {"raw": b"\xff\x00"}))
        for container in ("results", "inputs"):
            for name in ("1/result.json", "../../up.txt", "a", "a/b", "no suffix.", "x.very long one", "ä#%?.PNG"):
                await blobs.write(container, f"{customer}/{name}", f"{container} {name}".encode() * 300, "text/plain")
    blobs.missing.add("more")
    return CustomerData(table, blobs, SETTINGS, "contoso")


async def test_an_export_has_everything(filled: CustomerData, blobs: MemoryBlobs, tmp_path: Path):
    """
    All rows and blobs of the customer are written, each once, with their values and bytes. Whatever the blobs' names,
    no file is written elsewhere. The manifest has the counts, and the hashes of the lists.
    """
    out = tmp_path / "new" / "out"

    counts = await filled.export(out)

    rows = {row.pop("key"): row for row in read_lines(out / "rows.jsonl")}
    assert ["j_0", "j_1", "j_2", "j_3", "j_4", "u_2026-11_1_0000", "z_later"] == list(rows)
    done = {"state": "done", "result_body": '{"a": "ä"}', "n": 3}
    assert {"values": done, "types": {"result_body": "bytes"}} == rows["j_3"]
    used = {"at": "2026-11-20T13:12:00.123456Z", "reported": True}
    assert {"values": used, "types": {"at": "datetime"}} == rows["u_2026-11_1_0000"]
    assert {"values": {"raw": {"hex": "ff00"}}, "types": {"raw": "bytes"}} == rows["z_later"]
    listed = read_lines(out / "blobs.jsonl")
    mine = {at: data for at, (data, _) in blobs.blobs.items() if at[1].startswith("contoso/")}
    assert mine == {(blob["container"], blob["name"]): (out / blob["file"]).read_bytes() for blob in listed}
    for blob in listed:
        data = (out / blob["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (blob["size"], blob["sha256"])
        assert "text/plain" == blob["content_type"]
    lists = [out / name for name in LISTS]
    stored = files(tmp_path) - {*lists, out / "manifest.json"}
    assert all(path.is_relative_to(out / "blobs") for path in stored)
    assert (14, {".json", ".txt", ".PNG", ""}) == (len(stored), {path.suffix for path in stored})
    manifest = json.loads((out / "manifest.json").read_text())
    numbers = {"results": 7, "templates": 0, "inputs": 7, "more": None, "statements": 0}
    assert (7, numbers) == (counts.rows, counts.blobs) == (manifest["rows"], manifest["blobs"])
    assert "contoso" == manifest["customer"]
    for path in lists:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest["files"][path.name]["sha256"]


async def test_an_incomplete_export_has_no_manifest(filled: CustomerData, blobs: MemoryBlobs, tmp_path: Path):
    """An incomplete export can't be mistaken for a complete one, and is not overwritten."""
    blobs.down = True
    with pytest.raises(StorageUnavailable):
        await filled.export(tmp_path)
    assert not (tmp_path / "manifest.json").exists()

    blobs.down = False
    with pytest.raises(FileExistsError, match="not empty"):
        await filled.export(tmp_path)


async def test_an_export_without_data_is_empty(table: MemoryTable, blobs: MemoryBlobs, tmp_path: Path):
    """The export of a customer without data has empty lists."""
    counts = await CustomerData(table, blobs, SETTINGS, "nobody").export(tmp_path)

    none = {"results": 0, "templates": 0, "inputs": 0, "more": 0, "statements": 0}
    assert (0, none) == (counts.rows, counts.blobs)
    assert ("", "") == ((tmp_path / "rows.jsonl").read_text(), (tmp_path / "blobs.jsonl").read_text())


async def test_erasing_deletes_everything_of_one(filled: CustomerData, table: MemoryTable, blobs: MemoryBlobs):
    """
    All rows and blobs of the customer are deleted and counted; those of customers with similar ids stay. If a blob
    can't be deleted, the rows stay, and the next time everything is deleted.
    """
    counts = await filled.erase()
    again = await filled.erase()

    assert {"contoso-2", "contos"} == {customer for customer, _ in table.rows}
    assert {"contoso-2", "contos"} == {name.split("/")[0] for _, name in blobs.blobs}
    assert (14, 28) == (len(table.rows), len(blobs.blobs))
    assert (7, {"results": 7, "templates": 0, "inputs": 7, "more": None}) == (counts.rows, counts.blobs)
    assert (1, True) == (counts.unfinished, counts.nothing_left)
    assert (0, {"results": 0, "templates": 0, "inputs": 0, "more": None}) == (again.rows, again.blobs)
    assert again.nothing_left
    await table.insert(Row("contoso", "j_1", {"state": "done"}))
    await blobs.write("results", "contoso/a/b", b"x", "text/plain")
    blobs.locked.add("contoso/a/b")
    with pytest.raises(StorageUnavailable, match="is locked"):
        await filled.erase()
    assert ("contoso", "j_1") in table.rows
    blobs.locked.clear()
    assert 1 == (await filled.erase()).rows


EVIDENCE = ("a_1", "d_2026-11_credit", "d_id_credit", "n_00000001", "x_2026-11")


async def test_what_proves_invoices_stays(table: MemoryTable, blobs: MemoryBlobs, filled: CustomerData):
    """
    Audit entries, credits and debits, numbers and records of closed months stay, as do the documents; the profile does
    not. A row says since when closed months can't be computed again.
    """
    for key in (*EVIDENCE, "customer", "b_cap", "e_1", "r_2026-11-01", "o_1"):
        await table.insert(Row("contoso", key, {"profile": "{}"}))
    await blobs.write("statements", "contoso/2026-11.json", b"{}", "application/json")

    counts = await filled.erase()
    again = await filled.erase()

    assert {*EVIDENCE, "x_erased"} == {key for customer, key in table.rows if customer == "contoso"}
    assert ("statements", "contoso/2026-11.json") in blobs.blobs
    assert [(12, 6, True), (0, 6, True)] == [(each.rows, each.kept, each.nothing_left) for each in (counts, again)]
    assert abs(now() - table.rows["contoso", "x_erased"].values["at"]) < timedelta(minutes=1)


async def test_a_suspended_customer_stays_suspended(table: MemoryTable, filled: CustomerData):
    """Its messages that are still in a queue would run again, or with budgets that are gone; nothing else stays."""
    values = {"state": "suspended", "profile": '{"legal_name": "Contoso"}', "budgets": '{"cap": {}}'}
    await table.insert(Row("contoso", "customer", values))

    counts = await filled.erase()

    (left,) = [row for (customer, _), row in table.rows.items() if customer == "contoso"]
    assert ("customer", {"state": "suspended", "profile": "", "budgets": ""}) == (left.key, left.values)
    assert (7, True) == (counts.rows, counts.nothing_left)
    assert CustomerProfile() == (await CustomerRecords(table).read("contoso")).profile


async def test_an_export_keeps_what_is_the_operators_apart(
    table: MemoryTable, blobs: MemoryBlobs, filled: CustomerData, tmp_path: Path
):
    """
    The customer's row, the evidence, the outbox and the operator's files of closed months are in lists of their own,
    and so can't be handed over by mistake.
    """
    for key in (*EVIDENCE, "customer", "o_1"):
        await table.insert(Row("contoso", key, {"by": "ann"}))
    for name in ("2026-11.json", "2026-11.csv", "2026-11-1.html", "2026-11.internal.json", "x.json"):
        await blobs.write("statements", f"contoso/{name}", b"{}", "application/json")

    counts = await filled.export(tmp_path)

    own, operators = ([row["key"] for row in read_lines(tmp_path / f"{name}.jsonl")] for name in ("rows", "operator"))
    assert sorted((*EVIDENCE, "customer", "o_1")) == operators
    assert {"j_0", "z_later"} <= {*own}
    assert (7, 14, 5) == (len(own), counts.rows, counts.blobs["statements"])
    exported = {blob["name"] for blob in read_lines(tmp_path / "blobs.jsonl") if blob["container"] == "statements"}
    assert {"contoso/2026-11.json", "contoso/2026-11.csv", "contoso/2026-11-1.html"} == exported
    kept = {blob["name"]: blob["file"] for blob in read_lines(tmp_path / "operator-blobs.jsonl")}
    assert {"contoso/2026-11.internal.json", "contoso/x.json"} == {*kept}
    assert all(file.startswith("operator-blobs/") for file in kept.values())


class Busy(MemoryTable):
    """A table to which a job is added whenever one is deleted."""

    async def delete(self, rows: Any) -> Any:
        """Delete rows, then add a job."""
        changed = await super().delete(rows)
        await self.insert(Row("contoso", f"j_{self.operations}", {"state": "running"}))
        return changed


async def test_erasing_reports_that_data_keeps_arriving(blobs: MemoryBlobs):
    """If jobs keep arriving, erasing ends and reports that something is left."""
    table = Busy()
    await table.insert(Row("contoso", "j_0", {"state": "done"}))

    counts = await CustomerData(table, blobs, SETTINGS, "contoso").erase()

    assert not counts.nothing_left
    assert (3, 2) == (counts.rows, counts.unfinished)


@pytest.mark.parametrize("name", ["", "Contoso", "a/b", "~sweep", "a--b", "a'b", "x" * 51, "../a"])
def test_an_invalid_customer_is_refused(table: MemoryTable, blobs: MemoryBlobs, name: str):
    """An invalid customer id is refused before anything is read: an empty one would mean every customer."""
    with pytest.raises(InvalidJob, match="is not a customer id"):
        CustomerData(table, blobs, SETTINGS, name)

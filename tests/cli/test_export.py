"""`export` and `erase`: all data of one customer, written to a directory or deleted."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from aijobs.person import person
from shared.billing.outbox import outbox_row
from shared.clock import now
from shared.retention.export_directory import LISTS
from shared.storage.base import Row
from tests.support.cli_runner import CliRunner
from tests.support.doc_samples import ROOT, blocks
from tests.support.harness import Customer, Harness

PAGE = (ROOT / "docs/retention.md").read_text()
COMMANDS = [
    line.removeprefix("python -m aijobs ")
    for block in blocks("docs/retention.md", "")
    for line in block.splitlines()
    if line.startswith("python -m aijobs")
]


@pytest.fixture
def harness(own_table: Harness) -> Harness:
    """With a table of their own, since `export --all` writes each customer there is."""
    return own_table


@pytest.fixture
async def stored(newcomer: Customer) -> Customer:
    """A customer with a row and a blob."""
    harness = newcomer.harness
    await harness.services.table.insert(Row(newcomer.name, "j_1", {"state": "done"}))
    name = f"{newcomer.name}/1/x.txt"
    await harness.services.blobs.write(harness.environment["RESULTS_CONTAINER"], name, b"x", "text/plain")
    return newcomer


async def test_commands_in_the_docs_run(cli: CliRunner, stored: Customer):
    """The commands on the page about retention do what the page says, and report the rows, and blobs by container."""
    names = [cli.harness.environment[name] for name in ("RESULTS_CONTAINER", "TEMPLATES_CONTAINER", "INPUT_CONTAINERS")]
    counts = "1 row, 1 blob in {}, 0 blobs in {}, 0 blobs in {}.\n".format(*names)

    results = [await cli.run(re.sub(r"contoso(?!-)", stored.name, line), stdin=f"{stored.name}\n") for line in COMMANDS]

    assert ["export", "erase"] == [shlex.split(line)[0] for line in COMMANDS]
    assert [(0, ""), (0, "This permanently deletes")] == [(result.code, result.err[:24]) for result in results]
    statements = cli.harness.environment["STATEMENTS_CONTAINER"]
    assert f"Exported {stored.name} to contoso-data: {counts[:-2]}, 0 blobs in {statements}.\n" == results[0].out
    assert f"Erased {stored.name}: {counts}" == results[1].out
    assert [] == await stored.rows()
    written = {path.name for path in (cli.directory / "contoso-data").iterdir()}
    assert {*LISTS, "manifest.json", "blobs"} == written
    assert all(f"`{name}`" in PAGE or f"`{name}/`" in PAGE for name in written)


async def test_erase_needs_a_confirmation(cli: CliRunner, stored: Customer):
    """Anything but the customer's id deletes nothing, and exits with 1. Jobs that had not ended are counted."""
    await cli.harness.services.table.insert(Row(stored.name, "j_2", {"state": "waiting"}))

    unconfirmed = await cli.expect(f"erase {stored.name}", 1, stdin="yes\n")
    assert "Nothing was deleted.\n" == unconfirmed.out
    assert 2 == len(await stored.rows())

    await cli.expect(f"erase {stored.name} --yes", out="Not ended: 1 job.")


async def test_erase_says_what_was_not_exported(cli: CliRunner, stored: Customer):
    """Before it asks: once the records are gone, no billing system ever gets them."""
    row = outbox_row(stored.name, ["u_2026-11-29_a", "u_2026-11-29_b"], ["events"], now(), "x")
    await cli.harness.services.table.insert(row)
    exports = [{"name": "events", "kind": "cloudevents", "queue": "usage"}]

    result = await cli.with_settings(USAGE_EXPORTS=json.dumps(exports)).expect(f"erase {stored.name}", 1, stdin="no\n")

    assert "2 events of exports were not sent, and never will be." in " ".join(result.err.split())


async def test_missing_table_is_one_sentence(cli: CliRunner, stored: Customer):
    """A table that doesn't exist is named, with the setting to check."""
    message = "table neverMade: query: 404 TableNotFound"
    result = await cli.with_settings(JOBS_TABLE="neverMade").expect(f"erase {stored.name} --yes", 1, err=message)

    assert (1, True) == (result.err.count("\n"), "Check JOBS_TABLE" in result.err)


async def test_erasing_keeps_evidence(cli: CliRunner, stored: Customer):
    """Credits and the audit trail stay, and the trail says who erased the rest; the profile is gone."""
    name = stored.name
    await cli.expect(f"profile set {name} --currency USD --legal-name Contoso --yes")
    await cli.expect(f"adjustments credit {name} --month 2026-11 --amount 1 --description x --yes")
    await cli.expect(f"erase {name} --yes", out="Kept as evidence: 5 rows")

    assert {"a", "d", "x"} == {row["RowKey"][0] for row in await stored.rows()}
    (erasure, *_) = json.loads((await cli.expect(f"audit {name} --json")).out)["entries"]
    assert ("erasure", person()) == (erasure["subject"], erasure["by"])
    await cli.expect(f"profile show {name}", out="has no profile")
    await cli.expect(f"adjustments list {name}", out="-1.00")


async def test_an_export_is_imported(cli: CliRunner, stored: Customer):
    """It brings back what was erased, once, and leaves and names what differs. A damaged export brings nothing."""
    name = stored.name
    before = {row["RowKey"] for row in await stored.rows()}
    await cli.expect("export --all --to backup")
    await cli.expect(f"erase {name} --yes")

    await cli.expect(f"import backup/{name}", out=f"Imported {name}: 1 row, 1 blob.")
    assert before <= {row["RowKey"] for row in await stored.rows()}
    (imported, *_) = json.loads((await cli.expect(f"audit {name} --json")).out)["entries"]
    assert ("import", {"rows": 1, "blobs": 1}) == (imported["subject"], imported["after"])
    await cli.expect(f"import backup/{name}", out="Here already: 2.")
    table = cli.harness.services.table
    row = await table.read(name, "j_1")
    assert row is not None
    await table.merge(Row(name, "j_1", {"state": "running"}, row.etag))
    await cli.expect(f"import backup/{name}", 1, out="Left, because they differ: j_1.")
    elsewhere = cli.with_settings(RESULTS_CONTAINER="answers")
    await elsewhere.expect(f"import backup/{name}", 1, err="but the settings name only answers, ")
    (cli.directory / "backup" / name / "manifest.json").unlink()
    await cli.expect(f"import backup/{name}", 1, err="has no manifest.json: it is no export, or an incomplete one.")
    await cli.expect("export --to elsewhere", 2, err="Name a customer, or use --all.")


async def test_each_customers_import_is_told(cli: CliRunner, stored: Customer):
    """A damaged export keeps no other customer from being imported; without Storage, the rest is not begun."""
    table, names = cli.harness.services.table, [f"{stored.name}-b", f"{stored.name}-c"]
    for name in names:
        await table.insert(Row(name, "j_1", {"state": "done"}))
    customers = [stored.name, *names]
    await cli.expect("export --all --to backup")
    for name in customers:
        await cli.expect(f"erase {name} --yes")
    (blob,) = (cli.directory / "backup" / stored.name / "blobs").rglob("*.txt")
    blob.write_bytes(b"changed")
    line = f"import {' '.join(f'backup/{name}' for name in customers)}"

    result = await cli.expect(line, 1, out="is not the blob that was exported.")
    assert f"Imported {names[0]}: 1 row, 0 blobs." in result.out
    assert f"Imported {names[1]}: 1 row, 0 blobs." in result.out
    assert f"Failed, and to be repeated: {stored.name}." in result.text
    document = json.loads((await cli.with_settings(JOBS_TABLE="neverMade").expect(f"{line} --json", 1)).out)
    assert ([], [stored.name], names) == (
        document["imports"],
        [each["customer"] for each in document["failed"]],
        document["not_begun"],
    )
    assert "Check JOBS_TABLE" in document["failed"][0]["message"]


async def test_each_customers_export_is_told(cli: CliRunner, stored: Customer):
    """If one can't be written, those before it are complete."""
    name = f"{stored.name}-b"
    await cli.harness.services.table.insert(Row(name, "j_1", {"state": "done"}))
    cli.directory.joinpath("backup", name, "x").mkdir(parents=True)

    result = await cli.expect("export --all --to backup", 1, out=f"Exported {stored.name} to backup")

    assert f"Failed, and to be repeated: {name}." in result.text
    assert "is not empty" in result.text


async def test_an_import_names_what_is_left_to_do(cli: CliRunner, stored: Customer):
    """Callbacks that nothing sends, documents that are not on record, and an erasure that was undone."""
    name, services = stored.name, cli.harness.services
    callback = {"state": "done", "fingerprint": "", "callback_url": "https://example.com"}
    await services.table.insert(Row(name, "j_2", callback))
    await services.table.insert(Row(name, "d_2026-10_x", {"amount": "1"}))
    await cli.expect(f"export {name} --to data")
    await services.blobs.write(services.settings.statements_container, f"{name}/2026-10-1.json", b"{}", "text/plain")
    await cli.expect(f"erase {name} --yes")

    result = await cli.expect("import data")

    assert f"Callbacks that nothing sends: 1. `aijobs callbacks resend --customer {name}` does." in result.text
    assert "Written, but not on record, so to be closed again: 2026-10-1." in result.text
    assert f"{name} was erased on {now():%Y-%m-%d}, after this export. If that was no mistake" in result.text

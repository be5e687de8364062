"""The retention sweep on Storage, of what real jobs leave."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.retention.sweep import Sweep
from shared.settings import read_settings
from shared.storage.base import Row
from tests.support.endpoint import Endpoint, completion
from tests.support.harness import Harness, open_harness

DAY = timedelta(days=1)


@pytest_asyncio.fixture(scope="module")
async def own_harness(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A harness of this module's own, in which years can pass."""
    async with open_harness(azurite, vault, endpoint) as opened:
        yield opened


async def test_data_of_real_jobs_is_removed(own_harness: Harness, caplog: pytest.LogCaptureFixture):
    """On Storage: first finished jobs and their blobs are removed, years later their usage records."""
    customer = own_harness.customer()
    customer.account.will_answer(completion("x" * 80_000))
    large = await customer.run(job_id="large", output={"blob": True})
    many = await customer.run(job_id="steps", action="multi_chat", input={"prompts": ["One?", "Two?"]})
    assert ["succeeded", "succeeded"] == [large["status"], many["status"]]
    kinds = {row["RowKey"][0] for row in await customer.rows()}
    assert {"c", "j", "s", "t", "u"} == kinds
    services = own_harness.services
    stores = services.table, services.blobs, read_settings(own_harness.environment), services.schedule
    name, container = large["output_blob"]["name"], large["output_blob"]["container"]
    steps = sum(row["RowKey"].startswith("s_") for row in await customer.rows())
    blobs = len((await stores[1].page(container, f"{customer.name}/")).blobs)
    assert steps >= 2
    assert blobs >= 1
    for strange in ("a#b?/x", "it's/x", "x" * 200 + "/x"):  # not ids of jobs, so no row must be read
        await stores[1].write(container, f"{customer.name}/{strange}", b"x", "text/plain")

    await Sweep(*stores).run(datetime.now(UTC) + 29 * DAY)
    assert kinds == {row["RowKey"][0] for row in await customer.rows()}

    sweep = Sweep(*stores)
    with caplog.at_level(logging.INFO):
        assert "complete" == await sweep.run(datetime.now(UTC) + 31 * DAY)
    assert {"c", "u"} == {row["RowKey"][0] for row in await customer.rows()}
    assert not await own_harness.blobs.get_blob_client(container, name).exists()
    assert (2, steps, blobs) == (sweep.removed.jobs, sweep.removed.steps, sweep.removed.blobs)
    line = (
        f"sweep_finished complete customers=1 jobs=2 steps={steps} blobs={blobs} usage=0 statements=0 skipped=0 run_ms="
    )
    assert line in caplog.text

    await Sweep(*stores).run(datetime.now(UTC) + 800 * DAY)
    assert [] == await customer.rows()


@pytest.mark.parametrize(
    ("days", "usage", "members"),
    [(1000, 1, {}), (31, 2, {"action": "multi_chat", "input": {"prompts": ["Hello?"]}})],
    ids=["with its usage", "before its usage"],
)
async def test_an_id_is_free_again_after_its_time(
    own_harness: Harness, days: int, usage: int, members: dict[str, object]
):
    """
    Until a job is removed, its result is replayed and no model is called again. After that its id belongs to a new
    job, whose usage records are beside those of the first job, if these still exist.
    """
    customer = own_harness.customer()
    services = own_harness.services
    stores = services.table, services.blobs, read_settings(own_harness.environment), services.schedule
    await customer.run(job_id="once", **members)
    await customer.run(job_id="once", **members)
    assert 1 == len(await customer.usage())

    await own_harness.table.delete_entity("~sweep", "position")
    await Sweep(*stores).run(datetime.now(UTC) + days * DAY)
    again = await customer.run(job_id="once", **members)

    assert ("succeeded", 1) == (again["status"], again["usage"]["calls"])
    assert [("answered", 1)] * usage == [(row["outcome"], row["calls"]) for row in await customer.usage()]
    assert 2 == len(customer.account.received)


@pytest.mark.long
async def test_pages_on_storage_continue(own_harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """A position with Storage's own continuation token is saved in the table, and the next sweep continues there."""
    from shared.storage import tables  # noqa: PLC0415

    monkeypatch.setattr(tables, "_PAGE", 2)
    own = read_settings(own_harness.environment)
    table, at = own_harness.services.table, datetime.now(UTC) + 2000 * DAY
    for number in range(7):
        values = {"state": "done", "finished_at": at - 40 * DAY, "submitted_at": at - 40 * DAY}
        await table.insert(Row("c-paged", f"j_{number}", values))
    runs = 0
    while (
        await Sweep(table, own_harness.services.blobs, own, own_harness.services.schedule).run(at, seconds=0)
        != "complete"
    ):
        runs += 1

    assert runs > 4
    assert [] == (await table.page("c-paged", "", "~")).rows

"""What the health route says of exports: a word, whatever their state is, and whatever Storage does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import function_app
from shared.errors import StorageUnavailable
from shared.exports import export_health
from shared.exports.export_health import ExportHealth
from shared.settings import read_settings
from shared.storage.base import Row
from tests.support.exporting import EXPORTS, ExportHarness
from tests.support.fakes import MemoryTable
from tests.support.workers import OpenWorker

STRIPE, LAGO = EXPORTS["stripe"], EXPORTS["lago"]


async def words(harness: ExportHarness, *names: str) -> list[str]:
    """Return the word of each of these exports, and of all of them."""
    return [await ExportHealth(harness.table, each).word() for each in ([*names], *([name] for name in names))]


async def test_the_worst_export_decides(monkeypatch: pytest.MonkeyPatch):
    """
    `failing` before `late` before `ok`. An export that nothing was sent to yet is well; one that is not configured any
    more does not count.
    """
    harness = ExportHarness(monkeypatch, [STRIPE, LAGO])
    await harness.add_customer("acme", external_ids={"stripe": "cus_1"})
    assert ["ok", "ok", "ok"] == await words(harness, "stripe", "lago")
    await harness.record("acme", 1)
    await harness.run()
    assert ["ok", "ok", "ok"] == await words(harness, "stripe", "lago")
    harness.time += timedelta(hours=1)  # lago's record waits for an external id, and no run has to say so again
    assert ["late", "ok", "late"] == await words(harness, "stripe", "lago")
    harness.vault.secrets["stripe"] = "two words"
    await harness.record("acme", 1)
    await harness.run()
    assert ["failing", "failing", "late"] == await words(harness, "stripe", "lago")
    assert ["late", "late"] == await words(harness, "lago")


async def test_a_fault_that_was_corrected_is_over(monkeypatch: pytest.MonkeyPatch):
    """Also if no customer has anything to send any more: else the route, and `doctor`, would name it forever."""
    harness = ExportHarness(monkeypatch, [STRIPE])
    await harness.add_customer("acme")
    await harness.record("acme", 1)
    del harness.vault.secrets["stripe"]
    await harness.run()
    for key in [key for key in harness.table.rows if key[0] == "acme" or key[1] == "acme"]:
        del harness.table.rows[key]  # the customer was erased, and its outbox is not looked at any more
    await harness.run()
    assert ["failing"] * 2 == await words(harness, "stripe")
    harness.vault.secrets["stripe"] = "sk_live_right"
    await harness.run()
    assert ["ok"] * 2 == await words(harness, "stripe")


class SlowTable(MemoryTable):
    """A table that fails, or does not answer."""

    reads = 0
    hangs = False

    async def scan(self, partition: str, first: str, _last: str, **_: Any) -> AsyncIterator[Row]:
        """See Table."""
        self.reads += 1
        if self.hangs:
            await asyncio.sleep(60)
        raise StorageUnavailable("No answer.")
        yield Row(partition, first, {})


@pytest.mark.parametrize("hangs", [False, True])
async def test_storage_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, hangs: bool):
    """The word is `unknown`, soon, and for a minute nobody asks again, however many callers there are."""
    monkeypatch.setattr(export_health, "_TIMEOUT_S", 0.01)
    table, seconds = SlowTable(), [0.0]
    table.hangs = hangs
    health = ExportHealth(table, ["stripe"], lambda: seconds[0])

    for at in (0.0, 30.0, 59.0, 60.0):
        seconds[0] = at
        assert ["unknown"] * 3 == await asyncio.gather(*(health.word() for _ in range(3)))
    assert 2 == table.reads


async def test_the_route(open_worker: OpenWorker, monkeypatch: pytest.MonkeyPatch):
    """The app is `ok` with a 200 however the exports are; without exports there is nothing to say of them."""
    settings = read_settings({"JobStorage": "UseDevelopmentStorage=true"})
    worker = open_worker(settings=settings)
    exporting = open_worker(settings=replace(settings, usage_exports=(STRIPE,)))
    request: Any = SimpleNamespace()
    health = function_app.health._function.get_user_function()

    answers = []
    for each in (worker, exporting):
        monkeypatch.setattr(function_app, "services", lambda each=each: each.services)
        response = await health(request)
        answers.append((response.status_code, json.loads(response.get_body())))

    assert [(200, {"status": "ok"}), (200, {"status": "ok", "exports": "ok"})] == answers

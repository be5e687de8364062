"""Whatever happens in whatever order, the ledger's rows on Azurite are those that its model says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest

from shared.storage.base import Table
from tests.support.fakes import Fault
from tests.support.faulty_tables import faulty_table
from tests.support.harness import Harness
from tests.support.ledger_machine import LedgerMachine, run_machine
from tests.support.sampled import Sampled


async def test_the_ledger_on_azurite_is_as_its_model(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, sampled: Sampled
):
    """Each example has a partition of its own. The machine runs beside the loop that the sockets belong to."""
    faulty, loop = faulty_table("azure", harness, monkeypatch), asyncio.get_running_loop()

    class OnAzurite(LedgerMachine):
        """On a table of Azurite."""

        @staticmethod
        def run(use: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(use, loop).result(timeout=60)

        @staticmethod
        def open_table() -> tuple[Table, deque[Fault | None]]:
            return faulty.table, faulty.faults

    await asyncio.to_thread(run_machine, OnAzurite, examples=5 if sampled.is_whole else 2, steps=15)

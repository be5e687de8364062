"""Whatever happens in whatever order, the ledger's rows in memory are those that its model says."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from shared.storage.base import Table
from tests.support.fakes import Fault, MemoryTable
from tests.support.ledger_machine import LedgerMachine, run_machine


@pytest.mark.parametrize("examples", [10, pytest.param(300, marks=pytest.mark.long)])
def test_the_ledger_in_memory_is_as_its_model(examples: int):
    """Each example has a table of its own."""
    with asyncio.Runner() as runner:

        class InMemory(LedgerMachine):
            """On a table in memory."""

            run = staticmethod(runner.run)

            @staticmethod
            def open_table() -> tuple[Table, deque[Fault | None]]:
                table = MemoryTable()
                return table, table.faults

        run_machine(InMemory, examples=examples, steps=30)

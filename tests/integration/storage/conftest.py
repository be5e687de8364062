"""Tables of both kinds, for their contract tests."""

from __future__ import annotations

import uuid

import pytest

from shared.storage.base import Table
from shared.storage.tables import AzureTable
from tests.support.fakes import MemoryTable
from tests.support.faulty_tables import FaultyTable, account_of, faulty_table, table_name
from tests.support.harness import Harness


@pytest.fixture(params=["memory", "azure"])
def table(request: pytest.FixtureRequest, harness: Harness) -> Table:
    """A table in memory, and one on Azurite."""
    return MemoryTable() if request.param == "memory" else AzureTable(account_of(harness), table_name(harness))


@pytest.fixture(params=["memory", "azure"])
def faulty(request: pytest.FixtureRequest, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> FaultyTable:
    """The same, with faults."""
    return faulty_table(request.param, harness, monkeypatch)


@pytest.fixture
def partition() -> str:
    """A partition for one test."""
    return f"p-{uuid.uuid4().hex}"
